"""round-robin (ipvsadm: rr, wrr): backends take turns by weight, spread as evenly as possible.

The order is that of nginx's smooth weighted round-robin (ngx_http_upstream_round_robin.c): each turn adds its weight to
every backend's credit; the backend with the highest credit is picked and pays the sum of all weights. Weights 5, 1, 1
give a a b a c a a. The order repeats after the sum of the weights (divided by their common divisor), so it is laid out
once as a cycle. If that would take long, deadlines in a heap give the same shares over the same cycle.
"""

from collections.abc import Collection, Iterator, Sequence
from heapq import heapify, heapreplace
from itertools import cycle
from math import ceil, gcd
from random import Random
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.trivial import Heedless

CYCLE_WORK: Final = 1 << 15
"""The most steps (backends x turns) that laying out a cycle may take: about 1 ms, 256 KiB for two backends."""

RETRY_TURNS: Final = 64
"""The turns of tried backends that a retry skips before it takes the first untried backend in file order."""


class RoundRobin(Heedless):
    """Smooth weighted round-robin. O(1) with a cycle, O(log n) with deadlines.

    Retries have separate turns. Otherwise, with two backends of which one fails, each retry would take the healthy
    one's turn, and every new query would go to the failing one.
    """

    __slots__ = ("_retry_turns", "_turns")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends)
        self._turns = turns(backends, rng)
        self._retry_turns = turns(backends, rng)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the backend whose turn it is."""
        return self._retry(exclude) if exclude else next(self._turns)

    def _retry(self, exclude: Collection[Backend]) -> Backend | None:
        for _ in range(RETRY_TURNS):
            backend = next(self._retry_turns)
            if backend not in exclude:
                return backend
        for backend in self.backends:
            if backend not in exclude:
                return backend
        return None


def turns(backends: Sequence[Backend], rng: Random) -> Iterator[Backend]:
    """Return the endless sequence of turns, from a random place in its cycle."""
    divisor = gcd(*(backend.weight for backend in backends))
    weights = [backend.weight // divisor for backend in backends]
    total = sum(weights)
    if total == len(backends):
        order: Sequence[Backend] = backends
    elif total * len(backends) <= CYCLE_WORK:
        order = [backends[place] for place in smooth_cycle(weights)]
    else:
        return by_deadline(backends, weights, rng.random())
    start = rng.randrange(len(order))
    return cycle((*order[start:], *order[:start]))


def smooth_cycle(weights: Sequence[int]) -> Iterator[int]:
    """Yield the places of one whole cycle in nginx's order."""
    total = sum(weights)
    credit = [0] * len(weights)
    for _ in range(total):
        credit = [have + weight for have, weight in zip(credit, weights, strict=True)]
        place = credit.index(max(credit))
        credit[place] -= total
        yield place


def by_deadline(backends: Sequence[Backend], weights: Sequence[int], phase: float) -> Iterator[Backend]:
    """Yield backends by deadline, from `phase` (0 to 1) of the cycle on: turn k of weight w is due at (k + 1/2) / w.

    All deadlines of a cycle fall into the same interval of length 1, so each backend has exactly its share in any run
    of turns as long as the sum of the weights. The whole part is kept separately, so precision is not lost over the
    years.
    """
    heap = []
    for place, weight in enumerate(weights):
        turn = ceil(phase * weight - 0.5)
        heap.append((turn // weight, (turn % weight + 0.5) / weight, place, turn % weight))
    heapify(heap)
    while True:
        whole, _, place, turn = heap[0]
        turn += 1
        if turn == weights[place]:
            turn = 0
            whole += 1
        heapreplace(heap, (whole, (turn + 0.5) / weights[place], place, turn))
        yield backends[place]
