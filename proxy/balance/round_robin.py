"""round-robin (ipvsadm: rr, wrr): backends take turns by weight, spread as evenly as possible.

The order is that of nginx's smooth weighted round-robin (ngx_http_upstream_round_robin.c): each turn adds its weight to
every backend's credit; the backend with the highest credit is picked and pays the sum of all weights. Weights 5, 1, 1
give a a b a c a a. The order repeats after the sum of the weights (divided by their common divisor), so it is laid out
once as a cycle. If nginx's way would take long, deadlines give the same shares over the same cycle, and if the cycle
itself is long, they are kept in a heap instead.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from math import ceil, gcd
from random import Random
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.ranking import Ranking
from proxy.balance.trivial import Heedless

CYCLE_WORK: Final = 1 << 15
"""The most steps (backends x turns) that laying out a cycle in nginx's order may take: about 1 ms."""

CYCLE_TURNS: Final = 1 << 14
"""The most turns of a cycle that is laid out: 128 KiB, about 1 ms by deadlines."""

RETRY_TURNS: Final = 64
"""The turns of tried backends that a retry skips before it takes the first untried backend in file order."""

MOST_CYCLES: Final = 1 << 26
"""The cycles after which deadlines begin anew, so that they fit into C integers."""


class Turns:
    """An endless sequence of turns."""

    __slots__ = ()

    def take(self) -> Backend:
        """Return the backend whose turn it is."""
        raise NotImplementedError

    def __iter__(self) -> "Turns":
        return self

    def __next__(self) -> Backend:
        return self.take()


class Cycle(Turns):
    """The same order again and again, from a place in it on. O(1)."""

    __slots__ = ("_at", "_count", "_order")

    def __init__(self, order: tuple[Backend, ...], start: int) -> None:
        self._order = order
        self._count = len(order)
        self._at = start

    def take(self) -> Backend:
        """Return the backend whose turn it is."""
        at = self._at
        self._at = at + 1 if at + 1 < self._count else 0
        return self._order[at]


class Deadlines(Turns):
    """Backends by deadline, from `phase` (0 to 1) of the cycle on: turn k of weight w is due at (k + 1/2) / w. O(log n).

    All deadlines of a cycle fall into the same interval of length 1, so each backend has exactly its share in any run
    of turns as long as the sum of the weights.
    """

    __slots__ = ("_backends", "_weights", "ranking")

    def __init__(self, backends: tuple[Backend, ...], weights: Sequence[int], phase: float) -> None:
        self._backends = backends
        self._weights = tuple(weights)
        self.ranking = Ranking([2 * weight for weight in weights], [0] * len(weights))
        for place, weight in enumerate(weights):
            self.ranking.put(place, 2 * ceil(phase * weight - 0.5) + 1, 0)

    def take(self) -> Backend:
        """Return the backend whose turn it is."""
        place = self.ranking.first()
        weight = self._weights[place]
        amount = self.ranking.amount(place) + 2
        if amount > 2 * MOST_CYCLES * weight:
            self._rewind(MOST_CYCLES - 1)
            amount -= 2 * (MOST_CYCLES - 1) * weight
        self.ranking.put(place, amount, 0)
        return self._backends[place]

    def _rewind(self, cycles: int) -> None:
        """Let the deadlines begin anew, `cycles` earlier, in the same order."""
        for place, weight in enumerate(self._weights):
            self.ranking.write(place, self.ranking.amount(place) - 2 * cycles * weight)
        self.ranking.rank()


class RoundRobin(Heedless):
    """Smooth weighted round-robin. O(1) with a cycle, O(log n) with deadlines.

    Retries have separate turns. Otherwise, with two backends of which one fails, each retry would take the healthy
    one's turn, and every new query would go to the failing one.
    """

    __slots__ = ("_retry_turns", "_turns")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends)
        self._turns, self._retry_turns = turns(backends, rng)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the backend whose turn it is."""
        return self._retry(exclude) if exclude else self._turns.take()

    def _retry(self, exclude: Collection[Backend]) -> Backend | None:
        for _ in range(RETRY_TURNS):
            backend = self._retry_turns.take()
            if backend not in exclude:
                return backend
        for backend in self.backends:
            if backend not in exclude:
                return backend
        return None


def turns(backends: tuple[Backend, ...], rng: Random) -> tuple[Turns, Turns]:
    """Return two endless sequences of turns, each from a random place in the same cycle."""
    divisor = gcd(*(backend.weight for backend in backends))
    weights = [backend.weight // divisor for backend in backends]
    total = sum(weights)
    if total == len(backends):
        order = backends
    elif total * len(backends) <= CYCLE_WORK:
        order = tuple([backends[place] for place in smooth_cycle(weights)])
    elif total <= CYCLE_TURNS:
        order = tuple(islice(Deadlines(backends, weights, 0.0), total))
    else:
        return Deadlines(backends, weights, rng.random()), Deadlines(backends, weights, rng.random())
    return Cycle(order, rng.randrange(total)), Cycle(order, rng.randrange(total))


def smooth_cycle(weights: Sequence[int]) -> Iterator[int]:
    """Yield the places of one whole cycle in nginx's order."""
    total = sum(weights)
    credit = [0] * len(weights)
    for _ in range(total):
        credit = [have + weight for have, weight in zip(credit, weights, strict=True)]
        place = credit.index(max(credit))
        credit[place] -= total
        yield place
