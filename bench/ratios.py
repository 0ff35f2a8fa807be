"""Medians, quantiles, and ratios of runs within one round: pure.

On a shared machine absolute figures drift by half within a minute.  Therefore two systems are compared only by the
ratio of two runs of the same round, and a pair is `quiet` if others took little of the processors in both runs.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

QUIET = 0.05  # of the machine's processors


class Measured(Protocol):
    """A run that knows how much of the machine others took."""

    @property
    def others(self) -> float:
        """A share, 0 to 1."""


R = TypeVar("R", bound=Measured)


@dataclass(frozen=True)
class Spread:
    """The median of some figures, with the least and the greatest of them, and how many there are."""

    median: float
    low: float
    high: float
    count: int


def spread(figures: Sequence[float]) -> Spread | None:
    """Return the spread of `figures`, None if there are none."""
    if not figures:
        return None
    return Spread(statistics.median(figures), min(figures), max(figures), len(figures))


def ratios(
    rounds: Sequence[Mapping[str, R]],
    subject: str,
    peer: str,
    figure: Callable[[R], float | None],
    limit: float | None = None,
) -> list[float]:
    """Return subject/peer of each round in which both have the figure.

    With `limit`, only the pairs of which neither run lost more than this share of the machine to others.
    """
    found = []
    for one in rounds:
        if subject not in one or peer not in one:
            continue
        ours, theirs = one[subject], one[peer]
        above, below = figure(ours), figure(theirs)
        if above is None or not below:
            continue
        if limit is None or max(ours.others, theirs.others) <= limit:
            found.append(above / below)
    return found


def fewest_quiet(rounds: Sequence[Mapping[str, Measured]]) -> int:
    """Return the number of quiet pairs of the peer that has the fewest; the subject is first in each round."""
    if not rounds:
        return 0
    subject, *peers = rounds[0]
    return min(
        (sum(max(one[subject].others, one[peer].others) <= QUIET for one in rounds) for peer in peers), default=0
    )


def median(rounds: Sequence[Mapping[str, R]], system: str, figure: Callable[[R], float | None]) -> float | None:
    """Return the median of a system's figure over the rounds, None if it has none."""
    found = [value for one in rounds if system in one and (value := figure(one[system])) is not None]
    return statistics.median(found) if found else None


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the figure below which `share` of the `ordered` (ascending) figures are. Raises IndexError if empty."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def half_load(rates: Mapping[str, float], subject: str) -> float:
    """Return half the rate of the slowest system that reaches at least half the rate of the subject.

    At this rate each of these systems has at most half of the load that it can bear.  A system that is slower still
    may be overloaded by it, and its latency shows this.
    """
    return min(rate for rate in rates.values() if rate >= rates[subject] / 2) / 2
