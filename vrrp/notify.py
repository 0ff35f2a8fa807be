"""Passes moves to scripts and FIFOs, as keepalived: INSTANCE or GROUP, name, MASTER BACKUP FAULT STOP, priority.

A script runs without a shell, once for each move, in the order of the moves; a FIFO gets one line for each move.  A script
in batch mode gets the lines of all moves that wait on its standard input.  Each [notify.NAME] has a separate thread and
queue, so that no slow script or disk delays an advert (V20).
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from vrrp import script
from vrrp.background import start_thread
from vrrp.events import State
from vrrp.fifo import Fifo, NoFifo
from vrrp.settings import SCRIPT_TIMEOUT, NotifySettings

WAITING: Final = 100
"""Moves that may wait for a slow script or an absent reader; the oldest are dropped."""
LINES: Final = 10_000
"""The same for a script in batch mode: one call takes all of them."""
GATHER: Final = 1.0
"""Seconds for which a script in batch mode waits for more after the first move."""
_FIFO_TIMEOUT = 1.0  # s that a FIFO without room may hold up the end
_AGAIN = 1.0  # s until a FIFO that could not be opened is tried again
_STATES: dict[State, str] = {"active": "MASTER", "backup": "BACKUP", "fault": "FAULT", "init": "STOP"}

Move = tuple[str, ...]
"""What is passed on: INSTANCE, name, MASTER, priority; the words of a backend are one more."""


def line(move: Move) -> bytes:
    """Return a move as a FIFO gets it: the name in quotes, as keepalived has it."""
    kind, name, *rest = move
    return f'{kind} "{name}" {" ".join(rest)}\n'.encode()


class Notifier:
    """One [notify.NAME].

    `check` decides which scripts are safe to run; without it no script runs.  `on_problem` gets messages for people.
    """

    def __init__(
        self,
        settings: NotifySettings,
        on_problem: Callable[[str], None],
        check: script.Check | None,
        timeout: float = SCRIPT_TIMEOUT,
        gather: float = GATHER,
    ) -> None:
        self.counters: Counter[str] = Counter(passed=0, failed=0, dropped=0)
        """Moves by what became of them."""
        self._settings = settings
        self._gather = gather
        self._on_problem = on_problem
        self._check = check
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._queue: deque[Move] = deque()
        self._closed = 0.0
        self._end: float | None = None  # when all waiting ends, once it is closed; both monotonic
        self._dropping = False
        self._troubled = ""  # the FIFO's last problem
        self._done: asyncio.Future[None] = self._loop.create_future()
        start_thread("vrrp notify", self._work)

    def goes_to(self, settings: NotifySettings) -> bool:
        """Return True if these settings name the script or the FIFO that this notifier passes moves to."""
        mine, other = self._settings, settings
        return (mine.command, mine.fifo, mine.batch) == (other.command, other.fifo, other.batch)

    def change(self, settings: NotifySettings) -> None:
        """Choose the moves by other settings from now on, for the same script or FIFO."""
        self._settings = settings

    @property
    def settings(self) -> NotifySettings:
        """The settings that choose the moves now."""
        return self._settings

    def tell(self, kind: str, name: str, state: State, priority: int, by: NotifySettings | None = None) -> None:
        """Queue a move if the settings ask for it, or those that it is to be chosen `by`; `kind` is "INSTANCE" or "GROUP"."""
        wanted = by or self._settings
        if wanted.on and not any(fnmatchcase(name, glob) for glob in wanted.on):
            return
        if wanted.to and state not in wanted.to:
            return
        self.put([(kind, name, _STATES[state], str(priority))])

    def put(self, moves: Sequence[Move]) -> None:
        """Queue moves that have been chosen."""
        most = LINES if self._settings.batch else WAITING
        with self._changed:
            self._queue.extend(moves)
            dropped = max(0, len(self._queue) - most)
            for _ in range(dropped):
                self._queue.popleft()
            self.counters["dropped"] += dropped
            news = bool(dropped) and not self._dropping
            self._dropping |= bool(dropped)
            self._changed.notify()
        if news:
            wanted = self._settings
            to = wanted.fifo or (wanted.command or ("",))[0]
            self._on_problem(f"{to} is {most} moves behind: the oldest are dropped")

    @property
    def waiting(self) -> int:
        """How many moves wait."""
        return len(self._queue)

    async def close(self, patience: float = SCRIPT_TIMEOUT) -> None:
        """Pass on the moves that wait, for at most `patience` seconds, which the runs of a script share."""
        self.finish(patience)
        await asyncio.wait([self._done], timeout=patience + 2 * _AGAIN)

    def finish(self, patience: float) -> None:
        """Begin to `close`: from now on `hurry` has an effect.  A second call can only shorten the time."""
        now = time.monotonic()
        end = now + (min(patience, _FIFO_TIMEOUT) if self._settings.fifo else patience)
        with self._changed:
            if self._end is None or end < self._end:
                self._closed, self._end = now, end
            self._changed.notify()

    def hurry(self) -> None:
        """End a `close` that waits."""
        with self._changed:
            if self._end is not None:
                self._end = time.monotonic()
                self._changed.notify()

    # -- in the thread

    def _work(self) -> None:
        fifo = Fifo(self._settings.fifo) if self._settings.fifo is not None else None
        if fifo is not None:
            self._open(fifo)
        while moves := self._next():
            if fifo is not None:
                self._write(fifo, moves[0])
            if self._settings.command is not None:
                self._call(self._settings.command, moves)
        if fifo is not None:
            fifo.close()
        self._say(self._finish)

    def _call(self, command: tuple[str, ...], moves: list[Move]) -> None:
        batch = self._settings.batch
        given = b"".join(map(line, moves)) if batch else b""
        try:
            script.run(command if batch else (*command, *moves[0]), self._check, self._limit, given)
        except script.NotRun as why:
            self.counters["failed"] += len(moves)
            self._say(self._on_problem, str(why))
        else:
            self.counters["passed"] += len(moves)

    def _next(self) -> list[Move] | None:
        """Wait for a move, and take it; in batch mode take all that wait."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._end is not None)
            if self._settings.batch:
                self._changed.wait_for(lambda: self._end is not None, self._gather)
            if self._queue and not self._is_over():
                count = len(self._queue) if self._settings.batch else 1
                moves = [self._queue.popleft() for _ in range(count)]
                self._dropping &= bool(self._queue)
                return moves
            left = len(self._queue)
            self.counters["dropped"] += left
        if left:
            self._say(self._on_problem, f"{left} moves were not passed on before the end")
        return None

    def _limit(self, started: float) -> float:
        """Return when a run that began at `started` must end: after `close`, the waiting moves get a share."""
        limit = started + self._timeout
        with self._changed:
            if self._end is None:
                return limit
            began = max(started, self._closed)
            return min(limit, began + (self._end - began) / (1 + len(self._queue)))

    def _is_over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def _open(self, fifo: Fifo) -> bool:
        """Open the FIFO; if that fails, report it once and return False."""
        try:
            fifo.open()
        except NoFifo as why:
            if str(why) != self._troubled:
                self._say(self._on_problem, str(why))
            self._troubled = str(why)
            return False
        self._troubled = ""
        return True

    def _write(self, fifo: Fifo, move: Move) -> None:
        while not self._is_over():
            try:
                if self._open(fifo) and fifo.write(line(move), self._is_over):
                    self.counters["passed"] += 1
                    return
            except NoFifo as why:
                self._say(self._on_problem, str(why))
            with self._changed:
                self._changed.wait_for(lambda: self._end is not None, _AGAIN)
                if self._end is not None:
                    break
        self.counters["failed"] += 1
        self._say(self._on_problem, f"{self._settings.fifo} did not get {move[1]} {move[2]} before the end")

    def _say(self, call: Callable[..., None], *arguments: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *arguments)

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)
