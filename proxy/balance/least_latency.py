"""least-latency: to the backend whose answer is due first, by what it took lately and what waits there.

The estimate of a backend is a peak-EWMA, as in Finagle's p2c with peak-EWMA load: a longer time than the estimate is
believed at once, shorter ones by and by, over TAU seconds. A failure counts as FAILED seconds at least: a port that
refuses at once must not look fast. The cost of a backend is

    estimate x exp(-idle / TAU) x (active + elsewhere + 1) / weight

where `idle` is how long ago it was last observed or tried. So an estimate fades while nobody asks, and a backend that
was slow is tried again. Since all fade at one rate, only the difference of two such times matters: no clock is needed
to compare. The one that is picked has its time set to the latest of those it was compared with, and is as costly as it was until it is observed:
one client tries it, not all of them at once. A backend without an estimate is tried as soon as it is drawn, and then
left alone until it has answered.

Up to FEW backends are all compared; of more, two that are drawn by weight (Mitzenmacher 2001), which costs the same
however many there are, and keeps workers that each know their own times only from choosing the same one.
"""

from collections.abc import Collection, Sequence
from math import exp, inf
from random import Random
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.random_two import alias_table
from proxy.balance.source_hash import first_left
from proxy.balance.trivial import Heedless

TAU: Final = 10.0
"""Seconds after which an estimate has faded, or given way to new ones, by a factor of e."""

FAILED: Final = 1.0
"""Seconds that a failure counts as, at least."""

LEAST: Final = 1e-6
"""The least estimate (s): 0 means that there is none."""

FEW: Final = 5
"""Up to how many backends all are compared: with few, two drawn ones would too often be the two worst."""

REDRAWS: Final = 4
"""How often a second backend is drawn again because it is the first one, or was tried, before the next in order is it."""

LONGEST: Final = 500.0
"""The greatest power of e that is computed: far more than any estimate makes up for, and no overflow."""


def observe(backend: Backend, seconds: float, now: float) -> None:
    """Take over what a connect or an answer took; `now` is monotonic seconds."""
    seconds = max(seconds, LEAST)
    estimate = backend.estimate
    if seconds < estimate:
        kept = exp(min(0.0, (backend.observed - now) / TAU))
        seconds += (estimate - seconds) * kept
    backend.estimate = seconds
    backend.observed = backend.tried = now


def failed(backend: Backend, now: float) -> None:
    """Take over that a connect or a query failed."""
    observe(backend, FAILED, now)


class LeastLatency(Heedless):
    """The cheapest of at most FEW, or the cheaper of two that are drawn. O(1)."""

    __slots__ = ("_aliases", "_bounds", "_count", "_random", "_rounds", "_weights")

    def __init__(self, backends: tuple[Backend, ...], rng: Random) -> None:
        super().__init__(backends)
        self._random = rng.random
        self._count = count = len(backends)
        self._weights = {backend: backend.weight for backend in backends}
        self._bounds, self._aliases = alias_table([backend.weight for backend in backends])
        ring = backends * 2
        self._rounds = tuple(ring[start : start + count] for start in range(count)) if count <= FEW else ()

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the cheapest of those looked at, none of them in `exclude`, and of equals any."""
        among: Sequence[Backend]
        if self._rounds:
            among = self._rounds[int(self._random() * self._count)]
            if exclude:
                among = [backend for backend in among if backend not in exclude]
        else:
            among = self._two(exclude)
        if not among:
            return None
        picked = among[0]
        newest = picked.tried
        for backend in among[1:]:
            if self._is_cheaper(backend, picked):
                picked = backend
            if backend.tried > newest:  # noqa: PLR1730 - a call of max costs more than all of this
                newest = backend.tried
        picked.tried = newest
        return picked

    def _two(self, exclude: Collection[Backend]) -> Sequence[Backend]:
        """Return two different backends that are drawn by weight; fewer where there are no more."""
        if not exclude:
            one = self._place()
            for _ in range(REDRAWS):
                two = self._place()
                if two != one:
                    break
            else:
                two = (one + 1) % self._count
            return self.backends[one], self.backends[two]
        drawn: list[Backend] = []
        for _ in range(2):
            backend = self._draw((*exclude, *drawn))
            if backend is not None:
                drawn.append(backend)
        return drawn

    def _draw(self, exclude: Collection[Backend]) -> Backend | None:
        place = 0
        for _ in range(REDRAWS):
            place = self._place()
            if self.backends[place] not in exclude:
                return self.backends[place]
        return first_left(self.backends, place, exclude)

    def _place(self) -> int:
        at = self._random() * self._count
        place = int(at)
        return place if at - place < self._bounds[place] else self._aliases[place]

    def _is_cheaper(self, one: Backend, two: Backend) -> bool:
        left = _standing(one) * self._weights[two]
        right = _standing(two) * self._weights[one]
        if one.tried != two.tried:
            # That of the one not asked for longer has faded by the difference.
            left *= exp(max(-LONGEST, min(LONGEST, (one.tried - two.tried) / TAU)))
        if left == right:  # both unknown and waited for, or really equal
            left = (one.active + one.elsewhere) * self._weights[two]
            right = (two.active + two.elsewhere) * self._weights[one]
        return left < right


def _standing(backend: Backend) -> float:
    """Return what a backend would cost, were it just observed, at weight 1."""
    if backend.estimate:
        return backend.estimate * (backend.active + backend.elsewhere + 1)
    return inf if backend.active else 0.0
