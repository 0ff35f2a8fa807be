"""Counts each client's connections in this worker, and reads the other workers' counts.

A client is an IPv4 address or an IPv6 /64.  This worker's counts are exact.  It publishes them in a table at the end of
its column: sets of `WAYS` entries, (key, connections) each; the key determines the set.  If a client's set is full, its
count is not published, and the other workers do not see its connections here.
"""

from functools import partial

from proxy.relay.clients.keys import ClientKeys
from proxy.relay.native.memo import Memo
from proxy.relay.native.siblings import Siblings
from proxy.stats.layout import CLIENT_SIZE, Layout

WAYS = 8


class Clients:
    """The clients' connections of all services of one worker; its size is bounded by the worker's connections."""

    def __init__(self, cells: "memoryview[int]", layout: Layout, siblings: Siblings, salt: bytes) -> None:
        self._cells = cells
        self._first = layout.counted
        self._sets = layout.clients // WAYS
        self._siblings = siblings
        self._keys = ClientKeys(salt)
        self._memos: dict[int, Memo] = {}  # of the keys, by service
        self._counts: dict[int, int] = {}
        self._places: dict[int, int] = {}  # key -> the cell of its entry

    def enter(self, service: int, address: str, most: int) -> int:
        """Count one more connection of a client; return its key for `leave`, or 0 if it has `most` on this host."""
        memo = self._memos.get(service)
        if memo is None:
            memo = self._memos[service] = Memo(partial(self._keys.of, service))
        key = memo.of((address.partition("%")[0], 0))
        self._count(key, 1)  # first, so that two workers do not both accept the last one at the same time
        if self._counts[key] + self._elsewhere(key) <= most:
            return key
        self._count(key, -1)
        return 0

    def leave(self, key: int) -> None:
        """Count one connection less."""
        self._count(key, -1)

    def __len__(self) -> int:
        return len(self._counts)

    def _count(self, key: int, change: int) -> None:
        cells = self._cells
        count = self._counts.get(key, 0) + change
        place = self._places.get(key)
        if count:
            self._counts[key] = count
            if place is None:
                place = self._find(cells, key, 0)
            if place is not None:
                self._places[key] = place
                cells[place + 1] = count  # before the key, which makes the entry valid
                cells[place] = key
        else:
            del self._counts[key]
            if place is not None:
                cells[place] = cells[place + 1] = 0
                del self._places[key]

    def _elsewhere(self, key: int) -> int:
        """Return how many connections of a client the other workers publish."""
        found = ((cells, self._find(cells, key, key)) for cells in self._siblings.cells())
        return sum(cells[place + 1] for cells, place in found if place is not None)

    def _find(self, cells: "memoryview[int]", key: int, wanted: int) -> int | None:
        """Return the cell of the entry in a key's set that holds the key `wanted` (0: a free entry)."""
        if not self._sets:
            return None
        start = self._first + key % self._sets * WAYS * CLIENT_SIZE
        for place in range(start, start + WAYS * CLIENT_SIZE, CLIENT_SIZE):
            if cells[place] == wanted:
                return place
        return None
