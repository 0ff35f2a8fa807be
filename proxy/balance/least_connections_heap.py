"""least-connections above the scan limit: a heap of loads that is corrected as late as possible.

Laws:

1. Every backend has one valid entry in the heap, (load, turn, index, backend), which `_valid` holds by index. All other
   entries are outdated, and are dropped when they come to the top.
2. The load of a valid entry is never above the backend's load. So an increase needs no action: the entry is corrected
   when it comes to the top. A decrease pushes a new valid entry.
3. Of equal loads the backend with the earliest turn is first. After a pick its next turn is later by its price, SCALE /
   weight, as in `least_connections.Line`. Prices are rounded down: shares of idle backends are off by less than 1 in
   10**7, and by about one turn over a sum of the weights. Equal turns are ordered by index.
4. There are at most as many outdated entries as backends: if there are more, all are removed at once, and the pushes
   that made them pay for it.
"""

from collections.abc import Collection
from heapq import heapify, heappop, heappush, heapreplace
from random import Random
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.trivial import Heedless

SCALE: Final = 1 << 40
"""The price of a turn at weight 1; at the greatest weight it is 2**24, so rounding costs less than 1 in 10**7."""

Entry = tuple[float, int, int, Backend]


class Heap(Heedless):
    """Least-connections for any number of backends. A pick and a change are O(log n), amortised.

    Loads are quotients here, rounded to 53 bits: different loads compare correctly while load x weight is below 2**52,
    and equal loads are always equal.
    """

    __slots__ = ("_heap", "_limit", "_now", "_prices", "_valid", "_weights")

    needs_changes = True

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends)
        size = max(backend.index for backend in backends) + 1
        self._weights = [0] * size
        self._prices = [0] * size
        self._valid: list[Entry | None] = [None] * size
        count = len(backends)
        for backend in backends:
            index = backend.index
            price = SCALE // backend.weight
            self._weights[index] = backend.weight
            self._prices[index] = price
            self._valid[index] = (0.0, rng.randrange(price), index, backend)
        self._now = 0
        self._limit = 2 * count
        self._heap: list[Entry] = []
        self.refreshed()

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the least loaded backend; of equals, the one whose turn it is."""
        if exclude:
            return self._retry(exclude)
        load, turn, index, backend = self._settle()
        if turn > self._now:  # noqa: PLR1730 - a call of max costs more than all of this
            self._now = turn
        self._valid[index] = entry = (load, self._now + self._prices[index], index, backend)
        heapreplace(self._heap, entry)
        return backend

    def changed(self, backend: Backend) -> None:
        """Note a lower load (law 2)."""
        index = backend.index
        valid = self._valid[index] if index < len(self._valid) else None
        if valid is None or valid[3] is not backend:
            return
        load = self._load(backend)
        if load < valid[0]:
            self._valid[index] = entry = (load, valid[1], index, backend)
            heappush(self._heap, entry)
            if len(self._heap) > self._limit:
                self.refreshed()

    def refreshed(self) -> None:
        """Compute all loads again and remove outdated entries. O(n)."""
        valid = self._valid
        heap: list[Entry] = []
        for old in valid:
            if old is not None:
                _, turn, index, backend = old
                valid[index] = entry = (self._load(backend), turn, index, backend)
                heap.append(entry)
        heapify(heap)
        self._heap = heap

    def _load(self, backend: Backend) -> float:
        load = backend.active + backend.elsewhere
        weight = self._weights[backend.index]
        return load / weight

    def _settle(self) -> Entry:
        """Correct the top of the heap and return it. There always is one: every backend has a valid entry."""
        heap = self._heap
        valid = self._valid
        while True:
            entry = heap[0]
            load, turn, index, backend = entry
            if valid[index] is not entry:
                heappop(heap)
                continue
            now = self._load(backend)
            if now <= load:
                return entry
            valid[index] = entry = (now, turn, index, backend)
            heapreplace(heap, entry)

    def _retry(self, exclude: Collection[Backend]) -> Backend | None:
        """Return the least loaded of the other backends, of equals the one whose turn is next; no turn is used up.

        If retries used up turns while many backends fail, they would use up those of the healthy ones, and every new
        query would go to a failing one.
        """
        aside: list[Entry] = []
        picked = None
        while picked is None and len(aside) < len(self.backends):
            entry = self._settle()
            aside.append(heappop(self._heap))
            if entry[3] not in exclude:
                picked = entry[3]
        for entry in aside:
            heappush(self._heap, entry)
        return picked
