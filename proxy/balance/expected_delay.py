"""shortest-expected-delay (ipvsadm: sed) and never-queue (nq): the backend that would finish first.

The expected delay is (active + elsewhere + 1) / weight, including the new connection, as in ip_vs_sed.c: the weight is
a speed, and under low load the fastest backends do all the work. never-queue picks an idle backend if there is one, as
in ip_vs_nq.c. There the first idle one of the list is picked; here idle ones take turns by weight, because the first of
the list would do all the work of a quiet service.

Delays are compared as whole numbers up to SCAN_LIMIT backends and as quotients above, like loads in least-connections,
and equal ones take turns by weight in the same way.
"""

from collections.abc import Collection
from heapq import heapify, heappop, heappush, heapreplace
from random import Random

from proxy.balance.backend import Backend
from proxy.balance.least_connections import SCAN_LIMIT, Line
from proxy.balance.least_connections_heap import Entry, Heap
from proxy.balance.trivial import Heedless


def build(backends: tuple[Backend, ...], rng: Random, *, idle_first: bool) -> "DelayScan | DelayHeap":
    """Return the selector for this number of backends; `idle_first` makes it never-queue."""
    kind = DelayHeap if len(backends) > SCAN_LIMIT else DelayScan
    return kind(backends, rng, idle_first=idle_first)


class DelayScan(Heedless):
    """The least delay of up to SCAN_LIMIT backends. O(1), because n is limited. Retries use up no turns."""

    __slots__ = ("_line", "_retries")

    def __init__(self, backends: tuple[Backend, ...], rng: Random, *, idle_first: bool) -> None:
        super().__init__(backends)
        self._line = DelayLine(backends, rng, idle_first=idle_first)
        self._retries = DelayLine(backends, rng, idle_first=idle_first)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the backend with the shortest delay; of equals, the first in the line."""
        return self._retries.pick(exclude) if exclude else self._line.pick()


class DelayLine(Line):
    """Backends in the order of their turns; the one with the least delay is picked."""

    __slots__ = ("_idle_first",)

    def __init__(self, backends: tuple[Backend, ...], rng: Random, *, idle_first: bool) -> None:
        super().__init__(backends, rng)
        self._idle_first = idle_first

    def pick(self, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the least delayed backend not in `exclude`, of equals the first; put its next turn into the line."""
        idle_first = self._idle_first
        picked = None
        least = 0
        for turn in self._turns:
            _, _, backend, price = turn
            if exclude and backend in exclude:
                continue
            load = backend.active + backend.elsewhere
            delay = (load + 1) * price if load or not idle_first else 0
            if picked is None or delay < least:
                picked, least = turn, delay
                if not delay:
                    break
        if picked is None:
            return None
        self.took(picked)
        return picked[2]


class DelayHeap(Heap):
    """The least delay of any number of backends, by the laws of `Heap`. O(log n), amortised."""

    __slots__ = ("_idle_first",)

    def __init__(self, backends: tuple[Backend, ...], rng: Random, *, idle_first: bool) -> None:
        self._idle_first = idle_first
        super().__init__(backends, rng)

    def changed(self, backend: Backend) -> None:
        """Note a shorter delay."""
        index = backend.index
        valid = self._valid[index] if index < len(self._valid) else None
        if valid is None or valid[3] is not backend:
            return
        delay = self._delay(backend)
        if delay < valid[0]:
            self._valid[index] = entry = (delay, valid[1], index, backend)
            heappush(self._heap, entry)
            if len(self._heap) > self._limit:
                self.refreshed()

    def refreshed(self) -> None:
        """Compute all delays again and remove outdated entries. O(n)."""
        heap: list[Entry] = []
        for old in self._valid:
            if old is not None:
                _, turn, index, backend = old
                self._valid[index] = entry = (self._delay(backend), turn, index, backend)
                heap.append(entry)
        heapify(heap)
        self._heap = heap

    def _delay(self, backend: Backend) -> float:
        load = backend.active + backend.elsewhere
        return (load + 1) / self._weights[backend.index] if load or not self._idle_first else 0.0

    def _settle(self) -> Entry:
        heap = self._heap
        while True:
            entry = heap[0]
            delay, turn, index, backend = entry
            if self._valid[index] is not entry:
                heappop(heap)
                continue
            now = self._delay(backend)
            if now <= delay:
                return entry
            self._valid[index] = entry = (now, turn, index, backend)
            heapreplace(heap, entry)
