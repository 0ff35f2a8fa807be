"""least-connections (ipvsadm: lc, wlc): the backend with the least load for its weight.

Load is (active + elsewhere) / weight, as in nginx's least_conn: all idle backends are equal, whatever their weights.
Equal loads take turns by weight, so that queries that come one at a time are shared by weight. Loads are compared as
whole numbers, without rounding. Up to SCAN_LIMIT backends a pick reads all loads until it finds an idle backend; above,
see `least_connections_heap`.
"""

from bisect import insort
from collections.abc import Collection
from math import gcd, lcm
from random import Random
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.least_connections_heap import Heap
from proxy.balance.trivial import Heedless

SCAN_LIMIT: Final = 32


def build(backends: tuple[Backend, ...], rng: Random) -> "EvenPair | EvenScan | Scan | Heap":
    """Return the selector for this number of backends, which is at least 2."""
    even = len({backend.weight for backend in backends}) == 1
    if len(backends) == 2:  # noqa: PLR2004 - a pair
        return EvenPair(backends, rng) if even else Pair(backends, rng)
    if len(backends) > SCAN_LIMIT:
        return Heap(backends, rng)
    return EvenScan(backends, rng) if even else Scan(backends, rng)


class EvenPair(Heedless):
    """Least-connections for two backends of equal weight, by far the most frequent case. O(1)."""

    __slots__ = ("_one", "_turn", "_two")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends)
        self._one, self._two = backends
        self._turn = rng.random() < 0.5  # noqa: PLR2004 - one half

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the less loaded one, of equals the one whose turn it is."""
        one = self._one
        two = self._two
        if exclude:
            if one in exclude:
                return None if two in exclude else two
            return one if two in exclude else self.pick(key)
        left = one.active + one.elsewhere
        right = two.active + two.elsewhere
        if left < right:
            return one
        if right < left:
            return two
        if self._turn:
            self._turn = False
            return two
        self._turn = True
        return one


class Pair(EvenPair):
    """Least-connections for two backends of different weights. O(1).

    Ties take turns as in smooth weighted round-robin: if v and w are the weights without their common divisor, exactly
    v of any v + w successive ties go to one backend and w to the other.
    """

    __slots__ = ("_credit", "_one_factor", "_two_factor")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends, rng)
        divisor = gcd(self._one.weight, self._two.weight)
        self._one_factor = self._two.weight // divisor  # the other's weight: a/v < b/w as a*w < b*v
        self._two_factor = self._one.weight // divisor
        self._credit = rng.randrange(-self._one_factor, self._two_factor)  # below 0: the second one's turn

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the less loaded one, of equals the one whose turn it is."""
        if exclude:
            return EvenPair.pick(self, key, exclude) if self._one in exclude or self._two in exclude else self.pick(key)
        one = self._one
        two = self._two
        left = (one.active + one.elsewhere) * self._one_factor
        right = (two.active + two.elsewhere) * self._two_factor
        if left < right:
            return one
        if right < left:
            return two
        if self._credit < 0:
            self._credit += self._two_factor
            return two
        self._credit -= self._one_factor
        return one


class EvenScan(Heedless):
    """Least-connections for up to SCAN_LIMIT backends of equal weight. O(1), because n is limited.

    A scan starts behind the backend that was picked last, so that equals take turns.
    """

    __slots__ = ("_after", "_from", "_retry_from", "_rounds")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends)
        count = len(backends)
        ring = backends * 2
        self._rounds = tuple(ring[start : start + count] for start in range(count))
        after = [0] * (max(backend.index for backend in backends) + 1)
        for place, backend in enumerate(backends):
            after[backend.index] = (place + 1) % count
        self._after = tuple(after)
        self._from = rng.randrange(count)
        self._retry_from = rng.randrange(count)  # separate, so that retries use up no turns

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the least loaded backend; of equals, the next one in the round."""
        if exclude:
            return self._retry(exclude)
        ring = self._rounds[self._from]
        picked = ring[0]
        least = picked.active + picked.elsewhere
        if least:
            for backend in ring:
                load = backend.active + backend.elsewhere
                if load < least:
                    picked = backend
                    if not load:
                        break
                    least = load
        self._from = self._after[picked.index]
        return picked

    def _retry(self, exclude: Collection[Backend]) -> Backend | None:
        picked = None
        least = 0
        for backend in self._rounds[self._retry_from]:
            if backend not in exclude:
                load = backend.active + backend.elsewhere
                if picked is None or load < least:
                    picked, least = backend, load
        if picked is not None:
            self._retry_from = self._after[picked.index]
        return picked


class Scan(Heedless):
    """The same for different weights. Retries have a separate line, so that they use up no turns."""

    __slots__ = ("_line", "_retries")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends)
        self._line = Line(backends, rng)
        self._retries = Line(backends, rng)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the least loaded backend; of equals, the first in the line."""
        return self._retries.pick(exclude) if exclude else self._line.pick()


_Turn = tuple[int, int, Backend, int, int]


class Line:
    """Backends in the order of their turns: (when, lot, backend, price, weight). Lots are drawn once, for equal times.

    A turn costs a backend the price scale / weight: its next turn is due that much later. So over the scale each
    backend has as many turns as its weight (start-time fair queueing: Goyal, Vin, Cheng 1996). If all picks are ties,
    any run of picks as long as the sum of the weights (without their common divisor) has exactly the shares. Time never
    goes back: a backend that was busy gets one late turn at once, and no others to catch up.
    """

    __slots__ = ("_now", "_turns")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        scale = lcm(*(backend.weight for backend in backends))
        lots = rng.sample(range(len(backends)), len(backends))
        prices = [scale // backend.weight for backend in backends]
        self._now = 0
        self._turns: list[_Turn] = sorted(
            (rng.randrange(price), lot, backend, price, backend.weight)
            for price, lot, backend in zip(prices, lots, backends, strict=True)
        )

    def pick(self, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the least loaded backend not in `exclude`, of equals the first; put its next turn into the line."""
        turns = self._turns
        among = [turn for turn in turns if turn[2] not in exclude] if exclude else turns
        if not among:
            return None
        picked = among[0]
        _, _, backend, _, light = picked
        least = backend.active + backend.elsewhere
        if least:
            for turn in among:
                _, _, backend, _, weight = turn
                load = backend.active + backend.elsewhere
                if load * light < least * weight:  # load / weight < least / light
                    picked = turn
                    if not load:
                        break
                    least, light = load, weight
        self.took(picked)
        return picked[2]

    def took(self, turn: _Turn) -> None:
        """Put the next turn of the picked backend into the line."""
        when, lot, backend, price, weight = turn
        if when > self._now:  # noqa: PLR1730 - a call of max costs more than all of this
            self._now = when
        self._turns.remove(turn)
        insort(self._turns, (self._now + price, lot, backend, price, weight))
