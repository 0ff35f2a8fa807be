"""overflow (ipvsadm: ovf): fill the backend of the highest weight with as many as it weighs, then the next one.

As in ip_vs_ovf.c a weight is a number of connections here. Two things differ. A backend that has as many as it weighs
is full; there it gets one more. And where all are full ip_vs_ovf.c refuses; here the one with least to do for its
weight takes it, as least-connections would choose: what must be refused is told by `max-connections`, and a file with
no weights would otherwise serve one client a backend. Equal weights go by the order of the file, as with failover.
"""

from collections.abc import Collection
from heapq import heapify, heappop, heappush
from random import Random

from proxy.balance import least_connections
from proxy.balance.backend import Backend
from proxy.balance.least_connections import SCAN_LIMIT
from proxy.balance.trivial import Heedless


def build(backends: tuple[Backend, ...], rng: Random) -> "Overflow | OverflowHeap":
    """Return the selector for so many backends; at least 2."""
    return OverflowHeap(backends, rng) if len(backends) > SCAN_LIMIT else Overflow(backends, rng)


class Overflow(Heedless):
    """The first of up to SCAN_LIMIT backends that has room. O(n), n being at most that: O(1)."""

    __slots__ = ("_full", "_rooms")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(in_order(backends))
        self._rooms = tuple((backend, backend.weight) for backend in self.backends)
        self._full = least_connections.build(backends, rng)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the first that has room, else the least loaded."""
        for backend, room in self._rooms:
            if backend.active + backend.elsewhere < room and backend not in exclude:
                return backend
        return self._full.pick(key, exclude)


class OverflowHeap(Heedless):
    """The same of any number of backends: places in the order of filling, in a heap. O(log n), amortised.

    A backend with room is always in the heap, once; one that is full may be, and leaves it when it comes to the top.
    """

    __slots__ = ("_full", "_heap", "_listed", "_places", "_rooms")

    needs_changes = True

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(in_order(backends))
        self._rooms = tuple(backend.weight for backend in self.backends)
        self._places = {backend: place for place, backend in enumerate(self.backends)}
        self._full = least_connections.build(backends, rng)
        self._heap: list[int] = []
        self._listed = bytearray(len(backends))
        self.refreshed()

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the first that has room, else the least loaded."""
        heap = self._heap
        aside: list[int] = []
        picked = None
        while heap and picked is None:
            place = heap[0]
            backend = self.backends[place]
            if backend.active + backend.elsewhere >= self._rooms[place]:
                self._listed[place] = False
                heappop(heap)
            elif exclude and backend in exclude:
                aside.append(heappop(heap))
            else:
                picked = backend
        for place in aside:
            heappush(heap, place)
        return self._full.pick(key, exclude) if picked is None else picked

    def changed(self, backend: Backend) -> None:
        """Take note of room."""
        self._full.changed(backend)
        place = self._places.get(backend, -1)
        if place >= 0 and not self._listed[place] and backend.active + backend.elsewhere < self._rooms[place]:
            self._listed[place] = True
            heappush(self._heap, place)

    def refreshed(self) -> None:
        """Look for room everywhere. O(n)."""
        self._full.refreshed()
        self._heap = [
            place
            for place, (backend, room) in enumerate(zip(self.backends, self._rooms, strict=True))
            if backend.active + backend.elsewhere < room
        ]
        heapify(self._heap)
        self._listed = bytearray(len(self.backends))
        for place in self._heap:
            self._listed[place] = True


def in_order(backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
    """Return backends by weight, the highest first, then by the order of the file."""
    return tuple(sorted(backends, key=lambda backend: (-backend.weight, backend.index)))
