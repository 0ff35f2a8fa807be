"""How long the runs of one probe took, for metrics: a histogram whose numbers only grow."""

from bisect import bisect_left
from typing import Final

from health.state import Outcome

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: the upper bounds of the buckets; a last one has what took longer."""


class Timing:
    """Counts runs that had a result, whatever it was."""

    __slots__ = ("_buckets", "_lag", "_rejected", "_seconds")

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0
        self._rejected = False
        self._lag: float | None = None

    def add(self, outcome: Outcome) -> None:
        """Count a run."""
        self._buckets[bisect_left(BOUNDS, outcome.latency)] += 1
        self._seconds += outcome.latency
        self._rejected = outcome.credentials_rejected
        self._lag = outcome.lag

    def row(self) -> list[float | None]:
        """Return [seconds, login refused at the last run, lag at the last run, runs in each bucket...] for JSON."""
        return [round(self._seconds, 6), float(self._rejected), self._lag, *self._buckets]
