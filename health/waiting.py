"""Lets thousands of probes wait for sockets and moments.

asyncio's own means cost more than most probes do.  A reader of the loop costs two system calls and a walk through three
layers.  A timer is a handle that a heap compares in Python.  A timeout is a timer and two coroutines.  This module has one
epoll set and one heap of ticks, and the loop sees only one descriptor and one timer.  A run (`health.run`) or an asyncio
task waits, and it can be cancelled wherever it waits.

Laws:
- A wait is forgotten when it ends, however it ends.  Without any wait there is neither an epoll set nor a timer.
- A moment is never early.  It is at most a tick (16 ms) late unless the loop itself is late.
- A cancelled moment is not called, even if it is cancelled in the round in which it is due.
- An exception in a callback does not affect the other callbacks.
"""

import asyncio
import heapq
import math
import os
import select
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from health.run import Run

IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT
TICKS: Final = 64  # ticks a second: moments are called at ticks, so that near moments share a wake-up
REMAINS: Final = 64  # ticks without a moment that may stay in the heap, however few other ticks it has
_EVENTS = 1024  # events that one poll of the set returns at most


class CannotWait(Exception):  # noqa: N818 - named for what it says
    """This host cannot watch another descriptor; the text says why."""


class Moment:
    """A callback at a given time; `cancel` drops it."""

    __slots__ = ("_waits", "callback", "tick")

    def __init__(self, waits: "Waits", callback: Callable[[], object]) -> None:
        self._waits = waits
        self.callback: Callable[[], object] | None = callback
        self.tick = 0.0

    def cancel(self) -> None:
        """Drop the callback.  Does nothing after the call."""
        if self.callback is not None:
            self.callback = None
            self._waits.forget(self)


class Waits:
    """The epoll set and the heap that all probes share; belongs to one asyncio loop and needs no closing."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.running: Run | None = None  # the run whose step is executing, None for a task
        self._epoll: select.epoll | None = None
        self._waiting: dict[int, asyncio.Future[int] | Run] = {}
        self._moments: dict[float, dict[Moment, None]] = {}  # tick -> its moments in the order of `add`
        self._heap: list[float] = []  # the ticks, including some without moments
        self._timer: asyncio.TimerHandle | None = None
        self._firing = False

    async def ready(self, number: int, events: int) -> int:
        """Wait until the descriptor is ready for one of `events` or has an error; return the events it is ready for.

        Only one wait at a time is allowed for a descriptor.  Raises `CannotWait`.
        """
        try:
            epoll = self._epoll or self._open()
            epoll.register(number, events)
        except OSError as error:
            if not self._waiting:
                self._close()
            raise CannotWait(os.strerror(error.errno or 0)) from None
        waiter: asyncio.Future[int] | Run = self.running or self.loop.create_future()
        self._waiting[number] = waiter
        try:
            return await waiter
        finally:
            del self._waiting[number]
            if self._waiting:
                epoll.unregister(number)
            else:
                self._close()

    def at(self, when: float, callback: Callable[[], object]) -> Moment:
        """Call `callback` at `when`, seconds of the loop's clock."""
        moment = Moment(self, callback)
        self.add(when, moment)
        return moment

    def add(self, when: float, moment: Moment) -> None:
        """Call `moment.callback` at `when`, seconds of the loop's clock."""
        moment.tick = tick = math.ceil(when * TICKS) / TICKS
        moments = self._moments.get(tick)
        if moments is not None:
            moments[moment] = None
            return
        self._moments[tick] = {moment: None}
        heapq.heappush(self._heap, tick)
        if self._heap[0] == tick and not self._firing:
            self._arm()

    def forget(self, moment: Moment) -> None:
        """Remove a cancelled moment; only `Moment.cancel` calls this."""
        moments = self._moments.get(moment.tick)
        if moments is None or moment not in moments:  # its round has begun
            return
        del moments[moment]
        if moments:
            return
        del self._moments[moment.tick]
        heap = self._heap
        if len(heap) > REMAINS + 2 * len(self._moments) or not self._moments:
            heap[:] = self._moments  # in place, because `_fire` may be using the heap
            heapq.heapify(heap)
        if not self._moments and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _open(self) -> select.epoll:
        self._epoll = select.epoll()
        self.loop.add_reader(self._epoll.fileno(), self._look)
        return self._epoll

    def _close(self) -> None:
        if self._epoll is not None:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _look(self) -> None:
        """Wake each waiter whose descriptor is ready."""
        if self._epoll is None:
            return
        # Collect all waiters before the first continues: it may end others and open descriptors with the same numbers.
        for waiter, events in [(self._waiting[number], events) for number, events in self._epoll.poll(0, _EVENTS)]:
            if not waiter.done():
                waiter.set_result(events)

    def _arm(self) -> None:
        """Set the loop's timer to the first moment."""
        heap = self._heap
        while heap and heap[0] not in self._moments:
            heapq.heappop(heap)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if heap:
            self._timer = self.loop.call_at(heap[0], self._fire)

    def _fire(self) -> None:
        """Call all due moments."""
        self._timer = None
        self._firing = True
        heap, now = self._heap, self.loop.time()
        try:
            while heap and heap[0] <= now:
                for moment in self._moments.pop(heapq.heappop(heap), ()):
                    callback, moment.callback = moment.callback, None
                    if callback is not None:
                        try:
                            callback()
                        except Exception as error:
                            self.loop.call_exception_handler({"message": f"fault in {callback!r}", "exception": error})
        finally:
            self._firing = False
            self._arm()


class Places:
    """A limited number of places.  If `take` returns False, the caller waits for a place with `turn`."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a place if one is free; return True if so."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def turn(self) -> None:
        """Wait for a place, first come, first served, and take it."""
        waiter = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # a place became free at the same time
                self.give()
            raise

    def give(self) -> None:
        """Give a place back."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1
