"""least-connections (ipvsadm: lc, wlc): the backend with the least load for its weight.

Load is (active + elsewhere) / weight, as in nginx's least_conn: all idle backends are equal, whatever their weights.
Equal loads take turns by weight, so that queries that come one at a time are shared by weight. Loads are compared as
whole numbers, without rounding. Up to SCAN_LIMIT backends a pick reads all loads; above, see `least_connections_heap`.
"""

from collections.abc import Collection
from math import gcd, lcm
from random import Random
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.least_connections_heap import LATEST, Heap
from proxy.balance.trivial import Heedless

SCAN_LIMIT: Final = 32

SCALE: Final = 1 << 56
"""The highest price of a turn."""


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
    """The same for different weights. Retries have a separate line, so that they use up no turns.

    `waiting` and `idle_first` make other schedulers of it, as in `Heap`.
    """

    __slots__ = ("_line", "_retries")

    def __init__(
        self, backends: tuple[Backend, ...], rng: Random, *, waiting: int = 0, idle_first: bool = False
    ) -> None:
        super().__init__(backends)
        self._line = Line(backends, rng, waiting, idle_first)
        self._retries = Line(backends, rng, waiting, idle_first)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the least loaded backend; of equals, the first in the line."""
        return self._retries.pick(exclude) if exclude else self._line.pick()


class Turn:
    """A backend's next turn: the time at which it is due, its price, and a lot that orders equal times."""

    __slots__ = ("backend", "lot", "price", "weight", "when")

    def __init__(self, backend: Backend, when: int, lot: int, price: int) -> None:
        self.backend = backend
        self.weight = backend.weight
        self.when = when
        self.lot = lot
        self.price = price


class Line:
    """The turns of some backends.

    A turn costs a backend the price scale / weight: its next turn is due that much later. So over the scale each
    backend has as many turns as its weight (start-time fair queueing: Goyal, Vin, Cheng 1996). If all picks are ties,
    any run of picks as long as the sum of the weights (without their common divisor) has exactly the shares, unless
    their common multiple is above SCALE, which rounds prices by less than 1 in 10**12. Time never goes back: a backend
    that was busy gets one late turn at once, and no others to catch up.
    """

    __slots__ = ("_idle_first", "_now", "_turns", "_waiting")

    def __init__(self, backends: tuple[Backend, ...], rng: Random, waiting: int, idle_first: bool) -> None:
        scale = min(lcm(*(backend.weight for backend in backends)), SCALE)
        lots = rng.sample(range(len(backends)), len(backends))
        prices = [scale // backend.weight for backend in backends]
        self._now = 0
        self._waiting = waiting
        self._idle_first = idle_first
        self._turns = [
            Turn(backend, rng.randrange(price), lot, price)
            for price, lot, backend in zip(prices, lots, backends, strict=True)
        ]

    def pick(self, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the least loaded backend not in `exclude`, of equals the first; its next turn is due later."""
        picked = None
        least = 0
        light = 1
        for turn in self._turns:
            backend = turn.backend
            if exclude and backend in exclude:
                continue
            load = backend.active + backend.elsewhere
            load = load + self._waiting if load or not self._idle_first else 0
            if picked is not None:
                mine = load * light  # load / weight < least / light
                best = least * turn.weight
                if mine > best:
                    continue
                if mine == best and (turn.when > picked.when or (turn.when == picked.when and turn.lot > picked.lot)):
                    continue
            picked, least, light = turn, load, turn.weight
        if picked is None:
            return None
        if picked.when > self._now:
            self._advance(picked.when)
        picked.when = self._now + picked.price
        return picked.backend

    def _advance(self, now: int) -> None:
        self._now = now
        if now > LATEST:
            for turn in self._turns:
                turn.when = max(turn.when - now, -now)
            self._now = 0
