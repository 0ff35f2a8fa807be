"""Smooths what a probe measures, a backend's lag or latency, and says which changes are worth telling.  Pure.

The average is exponential: a measure counts by `ALPHA`, so that five runs make a change of two thirds.  A change is told
when it is larger than a step: a tenth of what was told last, and for a lag a twentieth of the limit.
"""

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from health.spec import ProbeBase
    from health.state import Outcome

WeightFrom = Literal["off", "lag", "latency"]

ALPHA: Final = 0.2
_LAGS: Final = frozenset(("mysql", "pgsql", "redis"))
_TENTH: Final = 0.1
_TWENTIETH: Final = 0.05
_LEAST: Final = 0.0002  # s: changes of a latency below this are the noise of this host


class Measured(NamedTuple):
    """A smoothed measure in seconds, and the limit that it is compared with, 0 without one."""

    value: float
    limit: float = 0.0


def measures(spec: "ProbeBase", kind: WeightFrom) -> bool:
    """Returns True if a probe measures what a weight is to follow; a lag needs a limit to be compared with."""
    if spec.report_only or kind == "off":
        return False
    if kind == "lag":
        return spec.type in _LAGS and getattr(spec, "max_lag", None) is not None
    return spec.type != "none"


def measure(spec: "ProbeBase", kind: WeightFrom, outcome: "Outcome") -> Measured | None:
    """Return what a run that passed has measured, None if it could not tell; a source of data has no lag."""
    if kind == "latency":
        return Measured(outcome.latency)
    if outcome.lag is None and outcome.reserve:
        return None
    return Measured(outcome.lag or 0.0, getattr(spec, "max_lag", None) or 0.0)


class Smoothed:
    """The measures of one backend."""

    __slots__ = ("_average", "_limit", "_told")

    def __init__(self) -> None:
        self._average: float | None = None
        self._limit = 0.0
        self._told: float | None = None

    def observe(self, found: Measured) -> Measured | None:
        """Take in a measure; return the average if it is worth telling."""
        value, limit = found
        if limit != self._limit:
            self._limit, self._told = limit, None
        before = self._average
        self._average = value if before is None else before + ALPHA * (value - before)
        step = max(_LEAST, _TENTH * (self._told or 0.0), _TWENTIETH * limit)
        if self._told is not None and abs(self._average - self._told) < step:
            return None
        self._told = self._average
        return Measured(self._average, limit)
