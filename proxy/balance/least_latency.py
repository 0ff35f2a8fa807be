"""least-latency: the backend whose answer should come first, by its recent times and its pending connections.

The estimate of a backend is a peak-EWMA, as in Finagle's p2c with peak-EWMA load: a time longer than the estimate
replaces it at once, shorter ones lower it over TAU seconds. A failure counts as FAILED seconds at least: a port that
refuses at once must not look fast. The cost of a backend is

    estimate x exp(-idle / TAU) x (active + elsewhere + 1) / weight

where `idle` is the time since it was last observed or tried. So the estimate of an unused backend fades, and a backend
that was slow is tried again. All estimates fade at the same rate, so only the difference of two times matters, and no
clock is needed to compare. A picked backend's time is set to the latest of those it was compared with, so its cost does
not fade further until it is observed: one client tries it, not all clients at once. A backend without an estimate is
tried as soon as it is drawn, and then not again until it has answered.

Up to FEW backends are all compared. Of more, two are drawn by weight (Mitzenmacher 2001): the cost does not depend on
their number, and workers, each of which knows only its own times, do not all choose the same backend.
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
"""Seconds in which an estimate fades, or approaches new times, by a factor of e."""

FAILED: Final = 1.0
"""The least time (s) that a failure counts as."""

LEAST: Final = 1e-6
"""The least estimate (s); 0 means that there is none."""

FEW: Final = 5
"""Up to this number all backends are compared: of few backends, two drawn ones would too often be the two worst."""

REDRAWS: Final = 4
"""Tries to draw a different or untried backend, before the next one in order is taken."""

LONGEST: Final = 500.0
"""The greatest exponent that is computed: it outweighs any estimate, and does not overflow."""


def observe(backend: Backend, seconds: float, now: float) -> None:
    """Update the estimate with the time of a connect or an answer; `now` is in monotonic seconds."""
    seconds = max(seconds, LEAST)
    estimate = backend.estimate
    if seconds < estimate:
        kept = exp(min(0.0, (backend.observed - now) / TAU))
        seconds += (estimate - seconds) * kept
    backend.estimate = seconds
    backend.observed = backend.tried = now


def failed(backend: Backend, now: float) -> None:
    """Update the estimate after a failed connect or query."""
    observe(backend, FAILED, now)


class LeastLatency(Heedless):
    """The cheapest of at most FEW backends, or the cheaper of two drawn ones. O(1)."""

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
        """Return the cheapest of the compared backends, none of them in `exclude`; of equals, any."""
        among: Sequence[Backend]
        if self._rounds:
            drawn = self._random()
            place = int(drawn * self._count)
            among = self._rounds[place]
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
        """Draw two different backends by weight; return fewer if there are no more."""
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
        bound = self._bounds[place]
        return place if at - place < bound else self._aliases[place]

    def _is_cheaper(self, one: Backend, two: Backend) -> bool:
        heavy = self._weights[two]
        light = self._weights[one]
        left = _standing(one) * heavy
        right = _standing(two) * light
        if one.tried != two.tried:
            # The estimate of the backend with the earlier time has faded by the difference.
            apart = (one.tried - two.tried) / TAU
            left *= exp(max(-LONGEST, min(LONGEST, apart)))
        if left == right:  # both have pending first tries, or are equal
            left = (one.active + one.elsewhere) * heavy
            right = (two.active + two.elsewhere) * light
        return left < right


def _standing(backend: Backend) -> float:
    """Return a backend's cost at weight 1 if it were observed just now."""
    if backend.estimate:
        return backend.estimate * (backend.active + backend.elsewhere + 1)
    return inf if backend.active else 0.0
