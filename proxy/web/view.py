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
    """A snapshot: the JSON object {"status": ...}, and when it came (seconds of the loop's clock)."""

    document: bytes
    at: float


class View:
    """`want()` tells the master that somebody asks.  Readers wait in `snapshot` and `changes`."""

    def __init__(self, want: Callable[[], None]) -> None:
        self._want = want
        self._loop = asyncio.get_running_loop()
        self._seen: Seen | None = None
        self._reminded = float("-inf")
        self._arrived = asyncio.Event()
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self._told = 0
        self._news = asyncio.Event()

    # -- from the master

    def take(self, document: bytes) -> None:
        """Take a new snapshot."""
        self._seen = Seen(document, self._loop.time())
        _ring(self, "_arrived")

    def tell(self, events: list[dict[str, Any]], *, anew: bool = False) -> None:
        """Take new events, oldest first; with `anew` they replace what there was."""
        if anew:
            self._events.clear()
        self._events.extend(events)
        self._told += len(events)
        _ring(self, "_news")

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
                while self._seen is None or self._loop.time() - self._seen.at > FRESH:
                    await self._arrived.wait()
        except TimeoutError:
            return None
        return self._seen

    async def next_snapshot(self) -> Seen:
        """Return the next snapshot that comes."""
        self.ask()
        await self._arrived.wait()
        assert self._seen is not None  # noqa: S101 - for the type checker: it has just come
        return self._seen

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

    async def news(self) -> None:
        """Wait until an event comes."""
        await self._news.wait()


def _ring(view: View, name: str) -> None:
    """Wake all who wait now; who waits later waits for the next time."""
    getattr(view, name).set()
    setattr(view, name, asyncio.Event())
