"""What the herald process knows of the daemon: the last snapshot, and the last events.

Readers ask for a snapshot that is fresh; the master makes one when it hears that somebody asks, so a reader may have to
wait for it, within a bound.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

FRESH: Final = 2.0
"""Seconds for which a snapshot answers; the master sends one each second while somebody asks."""
REMIND: Final = 3.0
"""Seconds between two words to the master that somebody asks; a word counts for ten."""
EVENTS: Final = 2_000
"""Events that are kept."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A snapshot, and when it came (seconds of the loop's clock)."""

    status: bytes
    """The status as JSON: what `steelyard status --json` prints."""
    figures: bytes
    """What the metrics show besides, as JSON."""
    at: float
    number: int
    """How many came before."""


class View:
    """`want()` tells the master that somebody asks.  Readers wait in `snapshot` and `change`."""

    def __init__(self, want: Callable[[], None]) -> None:
        self._want = want
        self._loop = asyncio.get_running_loop()
        self._seen: Seen | None = None
        self._reminded = float("-inf")
        self._changed = asyncio.Event()
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self._told = 0
        self._over = False

    # -- from the master

    def take(self, status: bytes, figures: bytes = b"{}") -> None:
        """Take a new snapshot."""
        number = 0 if self._seen is None else self._seen.number + 1
        self._seen = Seen(status, figures, self._loop.time(), number)
        self._ring()

    def tell(self, events: list[dict[str, Any]], *, anew: bool = False) -> None:
        """Take new events, oldest first; with `anew` they replace what there was."""
        if anew:
            self._events.clear()
        self._events.extend(events)
        self._told += len(events)
        self._ring()

    def settle(self) -> None:
        """Let readers have the last snapshot, however old: the master sends no more to this process."""
        self._over = True
        self._ring()

    # -- for readers

    @property
    def age(self) -> float | None:
        """Seconds since the last snapshot came; None without one."""
        return None if self._seen is None else self._loop.time() - self._seen.at

    def ask(self) -> None:
        """Tell the master, now and then, that somebody reads."""
        now = self._loop.time()
        if now - self._reminded >= REMIND:
            self._reminded = now
            self._want()

    async def snapshot(self, patience: float) -> Seen | None:
        """Return a fresh snapshot, which may take `patience` seconds to come; None if none comes."""
        self.ask()
        try:
            async with asyncio.timeout(patience):
                while not self._over and (self._seen is None or self._loop.time() - self._seen.at > FRESH):
                    await self._changed.wait()
        except TimeoutError:
            return None
        return self._seen

    @property
    def number(self) -> int:
        """The number of the last snapshot, -1 without one."""
        return -1 if self._seen is None else self._seen.number

    async def change(self, told: int, number: int, patience: float) -> None:
        """Wait until there are more events than `told`, or a later snapshot than `number`; at most `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                while self._told == told and self.number == number:
                    await self._changed.wait()
        except TimeoutError:
            return

    @property
    def told(self) -> int:
        """How many events have come so far."""
        return self._told

    def events(self) -> list[dict[str, Any]]:
        """Return the events that are kept, oldest first."""
        return list(self._events)

    def since(self, told: int) -> list[dict[str, Any]]:
        """Return the events that have come since `told` was the number of them, as far as they are kept."""
        new = min(self._told - told, len(self._events))
        return list(self._events)[len(self._events) - new :]

    def _ring(self) -> None:
        """Wake all readers that wait now; later ones wait for the next time."""
        self._changed.set()
        self._changed = asyncio.Event()
