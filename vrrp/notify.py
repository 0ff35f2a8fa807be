"""Passes moves to scripts and FIFOs, as keepalived: INSTANCE or GROUP, name, MASTER BACKUP FAULT STOP, priority.

A script runs without a shell, once for each move, in the order of the moves; a FIFO gets one line for each move.  Each
[notify.NAME] has a separate thread and queue, so that no slow script or disk delays an advert (V20).
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final

from vrrp import script
from vrrp.background import start_thread
from vrrp.events import State
from vrrp.fifo import Fifo, NoFifo
from vrrp.settings import SCRIPT_TIMEOUT, NotifySettings

WAITING: Final = 1024
"""Moves that may wait for a slow script or an absent reader; the oldest are dropped."""
_FIFO_TIMEOUT = 1.0  # s that a FIFO without room may hold up the end
_AGAIN = 1.0  # s until a FIFO that could not be opened is tried again
_STATES: dict[State, str] = {"active": "MASTER", "backup": "BACKUP", "fault": "FAULT", "init": "STOP"}

_Move = tuple[str, str, str, str]


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
    ) -> None:
        self._settings = settings
        self._on_problem = on_problem
        self._check = check
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._queue: deque[_Move] = deque()
        self._closed = 0.0
        self._end: float | None = None  # when all waiting ends, once it is closed; both monotonic
        self._dropping = False
        self._troubled = ""  # the FIFO's last problem
        self._done: asyncio.Future[None] = self._loop.create_future()
        start_thread("vrrp notify", self._work)

    def goes_to(self, settings: NotifySettings) -> bool:
        """Return True if these settings name the script or the FIFO that this notifier passes moves to."""
        return (self._settings.command, self._settings.fifo) == (settings.command, settings.fifo)

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
        with self._changed:
            self._queue.append((kind, name, _STATES[state], str(priority)))
            full = len(self._queue) > WAITING
            if full:
                self._queue.popleft()
            news = full and not self._dropping
            self._dropping |= full
            self._changed.notify()
        if news:
            to = wanted.fifo or (wanted.command or ("",))[0]
            self._on_problem(f"{to} is {WAITING} moves behind: the oldest are dropped")

    async def close(self, patience: float = SCRIPT_TIMEOUT) -> None:
        """Pass on the moves that wait, for at most `patience` seconds, which the runs of a script share."""
        with self._changed:
            self._closed = time.monotonic()
            self._end = self._closed + (min(patience, _FIFO_TIMEOUT) if self._settings.fifo else patience)
            self._changed.notify()
        await asyncio.wait([self._done], timeout=patience + 2 * _AGAIN)

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
        while (move := self._next()) is not None:
            if fifo is not None:
                self._write(fifo, move)
            if self._settings.command is not None:
                try:
                    script.run((*self._settings.command, *move), self._check, self._limit)
                except script.NotRun as why:
                    self._say(self._on_problem, str(why))
        if fifo is not None:
            fifo.close()
        self._say(self._finish)

    def _next(self) -> _Move | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._end is not None)
            if self._queue and not self._is_over():
                move = self._queue.popleft()
                self._dropping &= bool(self._queue)
                return move
            left = len(self._queue)
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

    def _write(self, fifo: Fifo, move: _Move) -> None:
        kind, name, state, priority = move
        line = f'{kind} "{name}" {state} {priority}\n'.encode()
        while not self._is_over():
            try:
                if self._open(fifo) and fifo.write(line, self._is_over):
                    return
            except NoFifo as why:
                self._say(self._on_problem, str(why))
            with self._changed:
                self._changed.wait_for(lambda: self._end is not None, _AGAIN)
                if self._end is not None:
                    break
        self._say(self._on_problem, f"{self._settings.fifo} did not get {name} {state} before the end")

    def _say(self, call: Callable[..., None], *arguments: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *arguments)

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)
