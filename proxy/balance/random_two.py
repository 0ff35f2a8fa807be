"""random-two: draw two backends by weight, and take the one with less load for its weight (Mitzenmacher 2001).

It is nearly as even as least-connections, and needs no up-to-date view of all loads: workers that see each other's
loads late do not all choose the same idle backend.
"""

from collections.abc import Collection, Sequence
from random import Random
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.trivial import Heedless

REDRAWS: Final = 8
"""Draws of a retry before it looks for an untried backend in order."""


class RandomTwo(Heedless):
    """The power of two choices. O(1).

    The draw follows the weights already, so load is (active + elsewhere) / weight without the new connection: idle
    backends are equal, and of two equals the first drawn is taken, which keeps the shares of the weights.
    """

    __slots__ = ("_aliases", "_bounds", "_count", "_even", "_random", "_weights")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends)
        self._random = rng.random
        self._count = len(backends)
        self._weights = tuple(backend.weight for backend in backends)
        self._even = len(set(self._weights)) == 1
        self._bounds, self._aliases = alias_table(self._weights)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the less loaded of two drawn backends."""
        if exclude:
            return self._retry(exclude)
        backends = self.backends
        if self._even:
            random = self._random
            count = self._count
            drawn = random()
            place = int(drawn * count)
            drawn = random()
            other = int(drawn * (count - 1))
            if other >= place:
                other += 1
            one = backends[place]
            two = backends[other]
            return two if two.active + two.elsewhere < one.active + one.elsewhere else one
        return self._lesser(self._draw(), self._draw())

    def _draw(self) -> int:
        at = self._random() * self._count
        place = int(at)
        bound = self._bounds[place]
        return place if at - place < bound else self._aliases[place]

    def _lesser(self, place: int, other: int) -> Backend:
        one = self.backends[place]
        two = self.backends[other]
        left = self._weights[place]
        right = self._weights[other]
        return two if (two.active + two.elsewhere) * left < (one.active + one.elsewhere) * right else one

    def _retry(self, exclude: Collection[Backend]) -> Backend | None:
        backends = self.backends
        drawn = [place for place in (self._draw() for _ in range(REDRAWS)) if backends[place] not in exclude]
        if drawn:
            return self._lesser(drawn[0], drawn[1] if len(drawn) > 1 else drawn[0])
        start = int(self._random() * self._count)
        for place in range(start, start + self._count):
            backend = backends[place % self._count]
            if backend not in exclude:
                return backend
        return None


def alias_table(weights: Sequence[int]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return bounds and aliases for drawing places by weight in O(1) (Walker 1977, Vose 1991).

    To draw, choose a place and a number in 0-1 evenly: below the place's bound take the place, otherwise its alias.
    """
    count = len(weights)
    total = sum(weights)
    shares = [weight * count for weight in weights]  # whole numbers without rounding; `total` is an even share
    bounds = [1.0] * count
    aliases = list(range(count))
    small = [place for place in range(count) if shares[place] < total]
    large = [place for place in range(count) if shares[place] >= total]
    while small and large:
        place = small.pop()
        giver = large[-1]
        bounds[place] = shares[place] / total
        aliases[place] = giver
        shares[giver] -= total - shares[place]
        if shares[giver] < total:
            small.append(large.pop())
    return tuple(bounds), tuple(aliases)
