"""A heap of deadlines.  Pure: the caller passes `now`, in seconds of any clock."""

import heapq
from collections.abc import Callable
from itertools import count

REMAINS = 64  # cancelled timers that may always stay in the heap, however few live ones there are


class Timer:
    """One callback at one time."""

    __slots__ = ("_timers", "callback", "when")

    def __init__(self, timers: "Timers", when: float, callback: Callable[[float], None]) -> None:
        self._timers = timers
        self.when = when
        self.callback: Callable[[float], None] | None = callback

    def cancel(self) -> None:
        """Cancel the call and drop the reference to the callback.  Harmless after it has run."""
        if self.callback is not None:
            self.callback = None
            self._timers.cancelled()


class Timers:
    """Deadlines in order.  `add`, `cancel` and a run are O(log n), `next_deadline` is O(1), all amortised.

    A cancelled timer leaves the heap when it comes to the top, or when there are as many cancelled timers as live ones.
    An idle timer is an hour ahead, and thousands of connections a second that cancel theirs must not pile up.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = count()
        self._remains = 0  # cancelled timers in the heap

    def __len__(self) -> int:
        return len(self._heap) - self._remains

    def add(self, when: float, callback: Callable[[float], None]) -> Timer:
        """Have `expire` call `callback(now)` from the time `when` on; equal times run in the order of their adding."""
        timer = Timer(self, when, callback)
        heapq.heappush(self._heap, (when, next(self._sequence), timer))
        return timer

    def next_deadline(self) -> float | None:
        """Return the time of the first live timer; None if there is none."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
            self._remains -= 1
        return heap[0][0] if heap else None

    def expire(self, now: float, most: int = 1000) -> int:
        """Run up to `most` due timers; return how many ran.

        A callback may add and cancel timers; an added timer that is due already runs as well.  An exception of a
        callback propagates: that timer is over, and the others are unchanged.
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
        """Count a cancelled timer in the heap; `Timer.cancel` calls it."""
        self._remains += 1
        heap = self._heap
        if self._remains > REMAINS and 2 * self._remains > len(heap):
            # In place: `expire` may be running on it.
            heap[:] = [entry for entry in heap if entry[2].callback is not None]
            heapq.heapify(heap)
            self._remains = 0
