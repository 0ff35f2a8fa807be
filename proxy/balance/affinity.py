"""destination-affinity (ipvsadm: lblc) and destination-affinity-replicated (lblcr): for backends that are caches.

As in ip_vs_lblc.c a table remembers each destination's backend, and the destination goes there again; a new one goes to
the least loaded backend. As in ip_vs_lblcr.c the replicated form has a set of backends for each destination, takes the
least loaded of them, and removes one some time after the set last grew. Differences:

- `hash-on` defines a destination: clients address the relay itself, so their packets name no other destination.
- A backend is overloaded, and its destination moves (or gets one more backend), if it has more connections than its
  weight, and the least loaded backend would have less than half of its load, each for its weight, with this connection
  added. In the kernel another backend must have fewer connections than half of its weight, which means a number of
  connections there; weights are shares here.
- The table keeps the CAPACITY destinations that were used last; the kernel's grows to that size and is then swept.
  Destinations are dropped after UNUSED seconds, as in the kernel. Sets shrink SETTLED seconds after their last change;
  the kernel waits a day, but a rush is over sooner.
- Retries do not change the table: one failed connect does not make a cache useless. A verdict or the load changes it.
- Each worker has its own table, so that a destination may have as many backends as there are workers.
"""

from collections import OrderedDict
from collections.abc import Collection
from random import Random
from typing import Final

from proxy.balance import least_connections
from proxy.balance.backend import Backend
from proxy.balance.least_connections import EvenPair, EvenScan, Scan
from proxy.balance.least_connections_heap import Heap
from proxy.balance.trivial import Heedless, Nobody, Only

CAPACITY: Final = 16_384
UNUSED: Final = 86_400.0
SETTLED: Final = 600.0
MOST_REPLICAS: Final = 8
"""Backends of one destination."""

FORGOTTEN_AT_ONCE: Final = 1000
"""Destinations dropped in one tick."""


class Entry:
    """One destination: its backends (one, unless replicated), the time of its last use, and of their last change."""

    __slots__ = ("backends", "changed", "used")

    def __init__(self, backend: Backend, now: float) -> None:
        self.backends = [backend]
        self.used = self.changed = now


class Memory:
    """The table, the least recently used destination first. It outlives selectors. `now` is the last tick's time (s)."""

    __slots__ = ("now", "table")

    def __init__(self) -> None:
        self.table: OrderedDict[int, Entry] = OrderedDict()
        self.now = 0.0

    def find(self, key: int) -> Entry | None:
        """Return a destination's entry and note its use; None if there is none."""
        entry = self.table.get(key)
        if entry is not None:
            entry.used = self.now
            self.table.move_to_end(key)
        return entry

    def add(self, key: int, backend: Backend) -> None:
        """Add a new destination."""
        if len(self.table) >= CAPACITY:
            self.table.popitem(last=False)
        self.table[key] = Entry(backend, self.now)

    def tick(self, now: float) -> None:
        """Drop destinations that were not used for UNUSED seconds."""
        self.now = now
        for _ in range(FORGOTTEN_AT_ONCE):
            if not self.table or next(iter(self.table.values())).used + UNUSED > now:
                return
            self.table.popitem(last=False)


class Affinity(Heedless):
    """One backend for each destination. O(1); O(log n) above 32 backends if the destination is new or moves."""

    __slots__ = ("_least", "_members", "_memory", "needs_changes")

    needs_key = True
    needs_ticks = True

    def __init__(self, backends: tuple[Backend, ...], rng: Random, previous: object = None) -> None:
        super().__init__(backends)
        self._memory: Memory = previous._memory if isinstance(previous, Affinity) else Memory()  # noqa: SLF001 - its own class
        self._members = frozenset(backends)
        self._least = _least(backends, rng)
        self.needs_changes = self._least.needs_changes

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the destination's backend; a new destination gets the least loaded one and keeps it."""
        entry = self._memory.find(key)
        if exclude:
            return self._retry(entry, exclude)
        if entry is None:
            picked = self._least.pick()
            if picked is not None:
                self._memory.add(key, picked)
            return picked
        return self._again(entry)

    def changed(self, backend: Backend) -> None:
        """Note a change of a backend's load."""
        self._least.changed(backend)

    def refreshed(self) -> None:
        """Note changes of many backends' loads."""
        self._least.refreshed()

    def tick(self, now: float) -> None:
        """Drop destinations that were unused for long."""
        self._memory.tick(now)

    def _again(self, entry: Entry) -> Backend | None:
        (backend,) = entry.backends
        picked = self._relief(backend) if backend in self._members else self._least.pick()
        if picked is not None and picked is not backend:
            entry.backends = [picked]
        return picked

    def _relief(self, backend: Backend) -> Backend:
        """Return the least loaded backend if `backend` is overloaded, else `backend`."""
        load = backend.active + backend.elsewhere
        if load <= backend.weight:
            return backend
        least = self._least.pick()  # this uses up its turn among equals, whether it is taken or not
        if least is None or load * least.weight <= 2 * (least.active + least.elsewhere + 1) * backend.weight:
            return backend
        return least

    def _retry(self, entry: Entry | None, exclude: Collection[Backend]) -> Backend | None:
        for backend in entry.backends if entry is not None else ():
            if backend in self._members and backend not in exclude:
                return backend
        return self._least.pick(0, exclude)


class Replicated(Affinity):
    """A set of at most MOST_REPLICAS backends for each destination. Costs are those of `Affinity`."""

    __slots__ = ()

    def _again(self, entry: Entry) -> Backend | None:
        now = self._memory.now
        usable = [backend for backend in entry.backends if backend in self._members]
        if not usable:
            picked = self._least.pick()
            if picked is not None:
                entry.backends, entry.changed = [picked], now
            return picked
        if len(usable) > 1 and now > entry.changed + SETTLED:
            usable.remove(max(usable, key=_load))
            entry.changed = now
        picked = min(usable, key=_load)
        relief = self._relief(picked)
        if relief is not picked:
            if len(usable) >= MOST_REPLICAS:
                usable.remove(max(usable, key=_load))
            entry.changed = now
        usable = [backend for backend in usable if backend is not relief]
        entry.backends = [*usable, relief]  # at the end, so that equals take turns
        return relief


def _load(backend: Backend) -> float:
    load = backend.active + backend.elsewhere
    weight = backend.weight
    return load / weight


def _least(backends: tuple[Backend, ...], rng: Random) -> EvenPair | EvenScan | Scan | Heap | Only | Nobody:
    if len(backends) > 1:
        return least_connections.build(backends, rng)
    return Only(backends[0]) if backends else Nobody()
