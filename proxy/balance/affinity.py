"""destination-affinity (ipvsadm: lblc) and destination-affinity-replicated (lblcr): caches that keep what they know.

As in ip_vs_lblc.c a table says which backend a destination went to, and it goes there again; a new one goes to the
least loaded. As in ip_vs_lblcr.c the replicated form has a set of backends for each destination, takes the least loaded
of these, and takes one out again some time after the set last grew. Differences:

- A destination is what `hash-on` says: a relay is asked under its own address, so that the client's packets do not
  tell more than that.
- A backend is overloaded, and its destination moves (or gets one more backend), if it has more than its weight and the
  least loaded one would have less than half of that, for its weight, with this one more. In the kernel somebody must
  be below half of his weight, which is meant as a number of connections; weights are shares here.
- Of the table CAPACITY destinations are kept, those asked for last; the kernel grows to that and then sweeps. They are
  forgotten after UNUSED seconds, as there, and sets shrink SETTLED seconds after they last changed, where the kernel
  waits a day: a rush is over sooner.
- Retries leave the table alone: one failed connect does not empty a cache; a verdict does, or the load.
- Each worker has a table of its own, so that a destination may have as many backends as there are workers.
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
"""Destinations forgotten in one tick."""


class Entry:
    """One destination: its backends (one, unless replicated), when it was last asked for, when they last changed."""

    __slots__ = ("backends", "changed", "used")

    def __init__(self, backend: Backend, now: float) -> None:
        self.backends = [backend]
        self.used = self.changed = now


class Memory:
    """The table, the least recently used first. It outlives selectors. `now` is as the last tick said, in seconds."""

    __slots__ = ("now", "table")

    def __init__(self) -> None:
        self.table: OrderedDict[int, Entry] = OrderedDict()
        self.now = 0.0

    def find(self, key: int) -> Entry | None:
        """Return the entry of a destination that is asked for."""
        entry = self.table.get(key)
        if entry is not None:
            entry.used = self.now
            self.table.move_to_end(key)
        return entry

    def add(self, key: int, backend: Backend) -> None:
        """Note a new destination."""
        if len(self.table) >= CAPACITY:
            self.table.popitem(last=False)
        self.table[key] = Entry(backend, self.now)

    def tick(self, now: float) -> None:
        """Forget what has not been asked for in UNUSED seconds."""
        self.now = now
        for _ in range(FORGOTTEN_AT_ONCE):
            if not self.table or next(iter(self.table.values())).used + UNUSED > now:
                return
            self.table.popitem(last=False)


class Affinity(Heedless):
    """One backend for each destination. O(1), O(log n) above 32 backends for a destination that is new or moves."""

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
        """Return the destination's backend, or the least loaded one, which it has from then on."""
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
        """Take note that the load of a backend changed."""
        self._least.changed(backend)

    def refreshed(self) -> None:
        """Take note that the loads of many changed."""
        self._least.refreshed()

    def tick(self, now: float) -> None:
        """Forget what is long unused."""
        self._memory.tick(now)

    def _again(self, entry: Entry) -> Backend | None:
        (backend,) = entry.backends
        picked = self._relief(backend) if backend in self._members else self._least.pick()
        if picked is not None and picked is not backend:
            entry.backends = [picked]
        return picked

    def _relief(self, backend: Backend) -> Backend:
        """Return the one to take instead of an overloaded backend, or the backend itself."""
        load = backend.active + backend.elsewhere
        if load <= backend.weight:
            return backend
        least = self._least.pick()  # it has had its turn among equals by that, whether it is needed or not
        if least is None or load * least.weight <= 2 * (least.active + least.elsewhere + 1) * backend.weight:
            return backend
        return least

    def _retry(self, entry: Entry | None, exclude: Collection[Backend]) -> Backend | None:
        for backend in entry.backends if entry is not None else ():
            if backend in self._members and backend not in exclude:
                return backend
        return self._least.pick(0, exclude)


class Replicated(Affinity):
    """A set of at most MOST_REPLICAS backends for each destination. O(1), else as above."""

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
        entry.backends = [*usable, relief]  # the last among equals
        return relief


def _load(backend: Backend) -> float:
    return (backend.active + backend.elsewhere) / backend.weight


def _least(backends: tuple[Backend, ...], rng: Random) -> EvenPair | EvenScan | Scan | Heap | Only | Nobody:
    if len(backends) > 1:
        return least_connections.build(backends, rng)
    return Only(backends[0]) if backends else Nobody()
