"""A heap of deadlines.  Pure: the caller passes `now`, in seconds of whatever clock it uses."""

import heapq
from collections.abc import Callable
from itertools import count

REMAINS = 64  # cancelled timers that may stay in the heap however few live ones there are


class Timer:
    """One callback at one time; `cancel` forgets it."""

    __slots__ = ("_timers", "callback", "when")

    def __init__(self, timers: "Timers", when: float, callback: Callable[[float], None]) -> None:
        self._timers = timers
        self.when = when
        self.callback: Callable[[float], None] | None = callback

    def cancel(self) -> None:
        """Never call back; drops the reference to whatever the callback holds.  Harmless once it has run."""
        if self.callback is not None:
            self.callback = None
            self._timers.cancelled()


class Timers:
    """Deadlines in order.  `add`, `cancel` and a run are O(log n), `next_deadline` is O(1), all amortised.

    A cancelled timer leaves the heap when it comes to the top, or when there are as many of them as live ones: an
    idle timer lies an hour ahead, and thousands of connections a second that cancel theirs must not pile up until then.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = count()
        self._remains = 0  # cancelled timers in the heap

    def __len__(self) -> int:
        return len(self._heap) - self._remains

    def add(self, when: float, callback: Callable[[float], None]) -> Timer:
        """Call `callback(now)` once `expire` is told a time of at least `when`; of equal ones the first added first."""
        timer = Timer(self, when, callback)
        heapq.heappush(self._heap, (when, next(self._sequence), timer))
        return timer

    def next_deadline(self) -> float | None:
        """When the first live timer is due, None without one."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
            self._remains -= 1
        return heap[0][0] if heap else None

    def expire(self, now: float, most: int = 1000) -> int:
        """Run up to `most` timers that are due; the number that ran.

        A timer may add and cancel others; one added that is due already runs as well.  What a callback raises comes
        through: that timer is over, the others are as they were.
        """
        heap = self._heap
        ran = 0
        while heap and ran < most and heap[0][0] <= now:
            timer = heapq.heappop(heap)[2]
            callback = timer.callback
            if callback is None:
                self._remains -= 1
            else:
                timer.callback = None
                ran += 1
                callback(now)
        return ran

    def clear(self) -> None:
        """Cancel every timer."""
        for _, _, timer in self._heap:
            timer.callback = None
        self._heap.clear()
        self._remains = 0

    def cancelled(self) -> None:
        """Take note that a timer in the heap was cancelled; `Timer.cancel` calls it."""
        self._remains += 1
        heap = self._heap
        if self._remains > REMAINS and 2 * self._remains > len(heap):
            # In place: `expire` may be at work on it.
            heap[:] = [entry for entry in heap if entry[2].callback is not None]
            heapq.heapify(heap)
            self._remains = 0
