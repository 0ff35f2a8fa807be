"""least-connections above the scan limit: a heap of loads that is put right as late as possible.

Laws:

1. Every backend has one valid entry in the heap, (load, last turn, backend); `_valid` holds it by the backend's index.
   Other entries are remains, known by not being it, and dropped when they come to the top.
2. The load of a valid entry is never above the backend's load. So an increase needs nothing at once: the entry is put
   right when it comes to the top. A decrease pushes a new valid entry.
3. Among equal loads the one that was picked longest ago is first.
4. Remains are at most as many as backends: more are swept out at once, which is paid for by the pushes that made them.
"""

from collections.abc import Collection
from heapq import heapify, heappop, heappush, heapreplace
from random import Random

from proxy.balance.backend import Backend

_Entry = tuple[float, int, Backend]


class Heap:
    """Least-connections of any number of backends. A pick and a change are O(log n), amortised.

    Loads are quotients here, rounded to 53 bits: two that differ compare as they should as long as load x weight stays
    below 2**52, and equal ones are always equal.
    """

    __slots__ = ("_heap", "_limit", "_turn", "_valid", "_weights", "backends")

    needs_key = False
    needs_changes = True

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        self.backends = backends
        size = max(backend.index for backend in backends) + 1
        self._weights = [0] * size
        self._valid: list[_Entry | None] = [None] * size
        count = len(backends)
        start = rng.randrange(count)
        for place, backend in enumerate(backends):
            self._weights[backend.index] = backend.weight
            self._valid[backend.index] = (0.0, (place - start) % count, backend)
        self._turn = count
        self._limit = 2 * count
        self._heap: list[_Entry] = []
        self.refreshed()

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the least loaded one."""
        if exclude:
            return self._retry(exclude)
        heap = self._heap
        backend = self._settle()
        self._turn = turn = self._turn + 1
        self._valid[backend.index] = entry = (heap[0][0], turn, backend)
        heapreplace(heap, entry)
        return backend

    def changed(self, backend: Backend) -> None:
        """Take note of a lower load (law 2)."""
        index = backend.index
        valid = self._valid[index] if index < len(self._valid) else None
        if valid is None or valid[2] is not backend:
            return
        load = (backend.active + backend.elsewhere + 1) / self._weights[index]
        if load < valid[0]:
            self._valid[index] = entry = (load, valid[1], backend)
            heappush(self._heap, entry)
            if len(self._heap) > self._limit:
                self.refreshed()

    def refreshed(self) -> None:
        """Compute all loads anew and sweep out the remains. O(n)."""
        weights = self._weights
        valid = self._valid
        heap: list[_Entry] = []
        for backend in self.backends:
            index = backend.index
            old = valid[index]
            entry = ((backend.active + backend.elsewhere + 1) / weights[index], old[1] if old else 0, backend)
            valid[index] = entry
            heap.append(entry)
        heapify(heap)
        self._heap = heap

    def _settle(self) -> Backend:
        """Put the top of the heap right; return its backend. There is a top: every backend has a valid entry."""
        heap = self._heap
        valid = self._valid
        weights = self._weights
        while True:
            entry = heap[0]
            backend = entry[2]
            index = backend.index
            if valid[index] is not entry:
                heappop(heap)
                continue
            load = (backend.active + backend.elsewhere + 1) / weights[index]
            if load <= entry[0]:
                return backend
            valid[index] = entry = (load, entry[1], backend)
            heapreplace(heap, entry)

    def _retry(self, exclude: Collection[Backend]) -> Backend | None:
        """Return the least loaded of the rest; the turns of those tried already stay as they are."""
        aside: list[_Entry] = []
        picked = None
        while picked is None and len(aside) < len(self.backends):
            backend = self._settle()
            entry = heappop(self._heap)
            if backend not in exclude:
                picked = backend
                self._turn += 1
                self._valid[backend.index] = entry = (entry[0], self._turn, backend)
            aside.append(entry)
        for entry in aside:
            heappush(self._heap, entry)
        return picked
