"""overflow (ipvsadm: ovf): fill the backend of the highest weight up to its weight in connections, then the next one.

As in ip_vs_ovf.c a weight is a number of connections here. Two things differ. A backend with as many connections as its
weight is full; in ip_vs_ovf.c it gets one more. And if all are full, ip_vs_ovf.c refuses; here the backend with the
least load for its weight gets the connection, as in least-connections. `max-connections` is for refusing, and a file
without weights would otherwise serve one client a backend. Equal weights are ordered as in the file, as in failover.
"""

from collections.abc import Collection
from random import Random

from proxy.balance import least_connections
from proxy.balance.backend import Backend
from proxy.balance.least_connections import SCAN_LIMIT
from proxy.balance.ranking import Ranking
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
    """The same for any number of backends: a ranking of places in the order of filling, those with room first.

    O(1) as long as the same backend has room, O(log n) when one fills up or has room again. A full backend may still be
    ranked as one with room, and is corrected when it comes to the top.
    """

    __slots__ = ("_full", "_places", "_rooms", "ranking")

    needs_changes = True

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(in_order(backends))
        count = len(backends)
        self._rooms = [backend.weight for backend in self.backends]
        self._places = [-1] * (max(backend.index for backend in backends) + 1)
        for place, backend in enumerate(self.backends):
            self._places[backend.index] = place
        self._full = least_connections.build(backends, rng)
        self.ranking = Ranking([1] * count, [0] * count)
        self.refreshed()

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the first that has room, else the least loaded."""
        while True:
            place = self.ranking.first_but(self.backends, exclude) if exclude else self.ranking.first()
            if place < 0 or self.ranking.amount(place):
                return self._full.pick(key, exclude)
            backend = self.backends[place]
            if not self._is_full(backend, place):
                return backend
            self.ranking.put(place, 1, 0)

    def changed(self, backend: Backend) -> None:
        """Note that a backend may be full, or have room again."""
        self._full.changed(backend)
        index = backend.index
        place = self._places[index] if index < len(self._places) else -1
        if place < 0 or self.backends[place] is not backend:
            return
        full = self._is_full(backend, place)
        if self.ranking.amount(place) != full:
            self.ranking.put(place, full, 0)

    def refreshed(self) -> None:
        """Find all backends with room. O(n)."""
        self._full.refreshed()
        for place, backend in enumerate(self.backends):
            self.ranking.write(place, self._is_full(backend, place))
        self.ranking.rank()

    def _is_full(self, backend: Backend, place: int) -> bool:
        room = self._rooms[place]
        return backend.active + backend.elsewhere >= room


def in_order(backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
    """Return backends by weight, the highest first, then by the order of the file."""
    return tuple(sorted(backends, key=lambda backend: (-backend.weight, backend.index)))
