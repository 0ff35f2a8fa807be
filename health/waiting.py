"""What probes wait for, sockets and moments, by the thousand.

asyncio's own way costs more than most probes do: a reader of the loop is two calls of the kernel and a walk through three
layers, a timer a handle that a heap compares in Python, a timeout both that and two coroutines.  Here is one epoll set and
one heap of ticks, of which the loop sees one descriptor and one timer.  What waits is a run (`health.run`) or an asyncio
task, and may be cancelled wherever it waits.

Laws:
- Whatever waits is forgotten when its wait ends, however it ends; nothing is left of the set and the timer when nothing waits.
- A moment is never early, and no more than a tick (16 ms) late where the loop is not.  One that is cancelled is not called, in the same round neither.
- An exception costs the one callback that raised it.
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
TICKS: Final = 64  # a second, at which moments are called: those that are near each other share a wake-up
REMAINS: Final = 64  # ticks without a moment that may stay in the heap however few others there are
_EVENTS = 1024  # that one look at the set takes in


class CannotWait(Exception):  # noqa: N818 - named for what it says
    """This host can watch no more descriptors; the text says what it lacks."""


class Moment:
    """A callback at a time; `cancel` forgets it."""

    __slots__ = ("_waits", "callback", "tick")

    def __init__(self, waits: "Waits", callback: Callable[[], object]) -> None:
        self._waits = waits
        self.callback: Callable[[], object] | None = callback
        self.tick = 0.0

    def cancel(self) -> None:
        """Never call back.  Harmless once it has."""
        if self.callback is not None:
            self.callback = None
            self._waits.forget(self)


class Waits:
    """The set and the heap of who shares it; lives in one asyncio loop, and needs no closing."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.running: Run | None = None  # whose step this is, None for a task's
        self._epoll: select.epoll | None = None
        self._waiting: dict[int, asyncio.Future[int] | Run] = {}
        self._moments: dict[float, dict[Moment, None]] = {}  # by their ticks, each in the order of their coming
        self._heap: list[float] = []  # the ticks, and some that have lost their moments
        self._timer: asyncio.TimerHandle | None = None
        self._firing = False

    async def ready(self, number: int, events: int) -> int:
        """Wait until the descriptor is ready for one of `events`, or has an error to tell; return what it is ready for.

        One wait a descriptor at a time.  Raises `CannotWait`.
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
        """Take a moment out that was cancelled; `Moment.cancel` calls it."""
        moments = self._moments.get(moment.tick)
        if moments is None or moment not in moments:  # its round has begun
            return
        del moments[moment]
        if moments:
            return
        del self._moments[moment.tick]
        heap = self._heap
        if len(heap) > REMAINS + 2 * len(self._moments) or not self._moments:
            heap[:] = self._moments  # in place: `_fire` may be at work on it
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
        """Wake whom the kernel has something for."""
        if self._epoll is None:
            return
        # All are found before the first goes on, which may end others and open descriptors of the same numbers.
        for waiter, events in [(self._waiting[number], events) for number, events in self._epoll.poll(0, _EVENTS)]:
            if not waiter.done():
                waiter.set_result(events)

    def _arm(self) -> None:
        """See to it that the loop calls at the first moment."""
        heap = self._heap
        while heap and heap[0] not in self._moments:
            heapq.heappop(heap)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if heap:
            self._timer = self.loop.call_at(heap[0], self._fire)

    def _fire(self) -> None:
        """Call all whose moment has come."""
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
    """How many may do something at once.  Who is told by `take` that none is free waits his turn by `turn`."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a free place; whether there was one."""
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
            if not waiter.cancelled():  # the place came at the same time
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
