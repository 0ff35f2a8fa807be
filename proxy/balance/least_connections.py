"""least-connections (ipvsadm: lc, wlc): to the backend that has least to do for its weight.

Load is (active + elsewhere + 1) / weight, the coming one included, as in HAProxy's leastconn: so an idle backend of
weight 4 comes before an idle one of weight 1. Equal loads take turns. Loads are compared as whole numbers, never
rounded. Up to SCAN_LIMIT backends a pick looks at all of them, live; above, see `least_connections_heap`.
"""

from collections.abc import Collection
from math import gcd, lcm
from random import Random
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.least_connections_heap import Heap
from proxy.balance.trivial import Heedless

SCAN_LIMIT: Final = 32


def build(backends: tuple[Backend, ...], rng: Random) -> "EvenPair | EvenScan | Scan | Heap":
    """Return the selector for so many backends; at least 2."""
    even = len({backend.weight for backend in backends}) == 1
    if len(backends) == 2:  # noqa: PLR2004 - a pair
        return EvenPair(backends, rng) if even else Pair(backends, rng)
    if len(backends) > SCAN_LIMIT:
        return Heap(backends, rng)
    return EvenScan(backends, rng) if even else Scan(backends, rng)


class EvenPair(Heedless):
    """Least-connections of two backends of equal weight, by far the most frequent case. O(1)."""

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
    """Least-connections of two backends of different weights. O(1)."""

    __slots__ = ("_one_factor", "_two_factor")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends, rng)
        divisor = gcd(self._one.weight, self._two.weight)
        self._one_factor = self._two.weight // divisor  # the other's weight: a/v < b/w as a*w < b*v
        self._two_factor = self._one.weight // divisor

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the less loaded one, of equals the one whose turn it is."""
        if exclude:
            return super().pick(key, exclude) if self._one in exclude or self._two in exclude else self.pick(key)
        one = self._one
        two = self._two
        left = (one.active + one.elsewhere + 1) * self._one_factor
        right = (two.active + two.elsewhere + 1) * self._two_factor
        if left < right:
            return one
        if right < left:
            return two
        if self._turn:
            self._turn = False
            return two
        self._turn = True
        return one


class _Ring(Heedless):
    """The order of looking: round from the one after the last that was picked, so that equals take turns."""

    __slots__ = ("_after", "_from", "_retry_from", "_rounds")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends)
        count = len(backends)
        scale = lcm(*(backend.weight for backend in backends))
        ring = tuple((backend, scale // backend.weight) for backend in backends) * 2
        self._rounds = tuple(ring[start : start + count] for start in range(count))
        after = [0] * (max(backend.index for backend in backends) + 1)
        for place, backend in enumerate(backends):
            after[backend.index] = (place + 1) % count
        self._after = tuple(after)
        self._from = rng.randrange(count)
        self._retry_from = rng.randrange(count)  # of its own, so that retries take nobody's turn

    def _retry(self, exclude: Collection[Backend]) -> Backend | None:
        picked = None
        least = 0
        for backend, factor in self._rounds[self._retry_from]:
            if backend not in exclude:
                load = (backend.active + backend.elsewhere + 1) * factor
                if picked is None or load < least:
                    picked, least = backend, load
        if picked is not None:
            self._retry_from = self._after[picked.index]
        return picked


class Scan(_Ring):
    """Least-connections of up to SCAN_LIMIT backends. O(n), n being at most that: O(1)."""

    __slots__ = ()

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the least loaded one."""
        if exclude:
            return self._retry(exclude)
        ring = self._rounds[self._from]
        picked, factor = ring[0]
        least = (picked.active + picked.elsewhere + 1) * factor
        for backend, factor in ring:
            load = (backend.active + backend.elsewhere + 1) * factor
            if load < least:
                picked = backend
                least = load
        self._from = self._after[picked.index]
        return picked


class EvenScan(_Ring):
    """The same where all weights are equal: nothing to multiply, and the first idle one ends the search."""

    __slots__ = ("_even_rounds",)

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends, rng)
        self._even_rounds = tuple(tuple(backend for backend, _ in ring) for ring in self._rounds)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the least loaded one."""
        if exclude:
            return self._retry(exclude)
        ring = self._even_rounds[self._from]
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
