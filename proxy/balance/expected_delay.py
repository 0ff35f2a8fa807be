"""shortest-expected-delay (ipvsadm: sed) and never-queue (nq): the backend that would finish first.

The expected delay is (active + elsewhere + 1) / weight, including the new connection, as in ip_vs_sed.c: the weight is
a speed, and under low load the fastest backends do all the work. never-queue picks an idle backend if there is one, as
in ip_vs_nq.c. There the first idle one of the list is picked; here idle ones take turns by weight, because the first of
the list would do all the work of a quiet service.

Delays are compared as whole numbers up to SCAN_LIMIT backends and as quotients above, like loads in least-connections,
and equal ones take turns by weight in the same way.
"""

from collections.abc import Collection
from random import Random

from proxy.balance.backend import Backend
from proxy.balance.least_connections import SCAN_LIMIT, Line
from proxy.balance.least_connections_heap import Heap
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
        least, speed = 0, 1
        for turn in self._turns:
            _, _, backend, _, weight = turn
            if exclude and backend in exclude:
                continue
            load = backend.active + backend.elsewhere
            work = load + 1 if load or not idle_first else 0
            if picked is None or work * speed < least * weight:  # work / weight < least / speed
                picked, least, speed = turn, work, weight
                if not work:
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

    def _load(self, backend: Backend) -> float:
        load = backend.active + backend.elsewhere
        weight = self._weights[backend.index]
        return (load + 1) / weight if load or not self._idle_first else 0.0
