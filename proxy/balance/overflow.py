"""overflow (ipvsadm: ovf): fill the backend of the highest weight up to its weight in connections, then the next one.

As in ip_vs_ovf.c a weight is a number of connections here. Two things differ. A backend with as many connections as its
weight is full; in ip_vs_ovf.c it gets one more. And if all are full, ip_vs_ovf.c refuses; here the backend with the
least load for its weight gets the connection, as in least-connections. `max-connections` is for refusing, and a file
without weights would otherwise serve one client a backend. Equal weights are ordered as in the file, as in failover.
"""

from collections.abc import Collection
from heapq import heapify, heappop, heappush
from random import Random

from proxy.balance import least_connections
from proxy.balance.backend import Backend
from proxy.balance.least_connections import SCAN_LIMIT
from proxy.balance.trivial import Heedless


def build(backends: tuple[Backend, ...], rng: Random) -> "Overflow | OverflowHeap":
    """Return the selector for this number of backends, which is at least 2."""
    return OverflowHeap(backends, rng) if len(backends) > SCAN_LIMIT else Overflow(backends, rng)


class Overflow(Heedless):
    """The first of up to SCAN_LIMIT backends that has room. O(1), because n is limited."""

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
    """The same for any number of backends: a heap of places in the order of filling. O(log n), amortised.

    A backend with room is in the heap exactly once; a full one may be in it, and leaves it when it comes to the top.
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
            room = self._rooms[place]
            if backend.active + backend.elsewhere >= room:
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
        """Note that a backend may have room again."""
        self._full.changed(backend)
        place = self._places.get(backend, -1)
        if place < 0 or self._listed[place]:
            return
        room = self._rooms[place]
        if backend.active + backend.elsewhere < room:
            self._listed[place] = True
            heappush(self._heap, place)

    def refreshed(self) -> None:
        """Find all backends with room. O(n)."""
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
