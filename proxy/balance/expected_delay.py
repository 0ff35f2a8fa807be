"""shortest-expected-delay (ipvsadm: sed) and never-queue (nq): the backend that would finish first.

The expected delay is (active + elsewhere + 1) / weight, including the new connection, as in ip_vs_sed.c: the weight is
a speed, and under low load the fastest backends do all the work. never-queue picks an idle backend if there is one, as
in ip_vs_nq.c. There the first idle one of the list is picked; here idle ones take turns by weight, because the first of
the list would do all the work of a quiet service.

Delays are compared like loads in least-connections, and equal ones take turns by weight in the same way.
"""

from random import Random

from proxy.balance.backend import Backend
from proxy.balance.least_connections import SCAN_LIMIT, Scan
from proxy.balance.least_connections_heap import Heap


def build(backends: tuple[Backend, ...], rng: Random, *, idle_first: bool) -> Scan | Heap:
    """Return the selector for this number of backends; `idle_first` makes it never-queue."""
    kind = Heap if len(backends) > SCAN_LIMIT else Scan
    return kind(backends, rng, waiting=1, idle_first=idle_first)
