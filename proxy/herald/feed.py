"""What the herald process is told of the running system: snapshots while somebody reads them, and events as they happen.

Strangers decide how often they ask, so the master decides what that costs: a snapshot once a second at most, made in
slices, and none unless somebody has asked within the last seconds.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from proxy.processes.child import Child
from proxy.processes.messages import common as messages
from proxy.processes.messages import herald as herald_messages
from proxy.records.timeline import Event, Timeline
from proxy.stats import sealed

EVERY: Final = 1.0
"""Seconds between two snapshots."""
WANTED: Final = 10.0
"""Seconds for which a word of a reader counts."""
PAST: Final = 1_000
"""Events that a new process gets."""
CHUNK: Final = 200
"""Events in a message."""
CROWDED: Final = 64
"""Messages that wait for the process; while there are more, snapshots are left out and events wait in their own bound."""
PAUSE: Final = 0.1  # s until a crowded process is looked at again

Send = Callable[[messages.Message, Sequence[int]], None]


class SnapshotFeed:
    """Sends snapshots that `make()` returns as JSON; `make` may yield to the loop, and raise."""

    def __init__(self, make: Callable[[], Awaitable[bytes]], send: Send) -> None:
        self._make = make
        self._send = send
        self._until = float("-inf")
        self._last = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def wanted(self, now: float) -> None:
        """Take note that somebody reads at `now` (monotonic seconds)."""
        self._until = now + WANTED

    def look(self, now: float, child: Child | None) -> None:
        """Send a snapshot if it is time for one."""
        busy = self._task is not None and not self._task.done()
        if child is None or busy or now > self._until or now - self._last < EVERY or child.channel.waiting > CROWDED:
            return
        self._last = now
        self._task = asyncio.get_running_loop().create_task(self._sent())

    async def _sent(self) -> None:
        document = await self._make()
        fd = sealed.frozen("snapshot", document)
        try:
            self._send(herald_messages.Snapshot(len(document)), [fd])
        finally:
            os.close(fd)

    def close(self) -> None:
        """Make no more."""
        if self._task is not None:
            self._task.cancel()


class EventFeed:
    """Sends one process the last events, and then each as it happens; a slow process loses the oldest, and is told."""

    def __init__(self, timeline: Timeline, send: Send) -> None:
        self._timeline = timeline
        self._send = send
        self._task: asyncio.Task[None] | None = None

    def begin(self, child: Child) -> None:
        """Serve this process, and no other."""
        self.close()
        self._task = asyncio.get_running_loop().create_task(self._feed(child))

    def close(self) -> None:
        """Send no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _feed(self, child: Child) -> None:
        follower = self._timeline.follow(own=True)
        try:
            past = list(self._timeline.between())[-PAST:]
            for first in range(0, max(len(past), 1), CHUNK):
                self._tell(past[first : first + CHUNK], anew=not first)
                await asyncio.sleep(0)
            async for event in follower:
                while child.channel.waiting > CROWDED:  # noqa: ASYNC110 - a channel announces nothing
                    await asyncio.sleep(PAUSE)
                self._tell([event])
        finally:
            follower.close()

    def _tell(self, events: Sequence[Event], *, anew: bool = False) -> None:
        self._send(herald_messages.Events([event.as_dict() for event in events], anew), ())
