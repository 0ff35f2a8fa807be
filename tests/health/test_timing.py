"""Tests of the times of a probe's runs."""

from health.state import Outcome
from health.timing import BOUNDS, Timing


def test_runs_are_counted():
    """Each run is in one bucket, at whose bound it may end; the last run says whether its login was refused, and the lag."""
    timing = Timing()
    timing.add(Outcome(True, "", 0.001, lag=2.0))
    timing.add(Outcome(False, "", 0.0011, credentials_rejected=True))
    timing.add(Outcome(False, "", 99.0, lag=3.0))
    seconds, rejected, lag, *buckets = timing.row()
    assert (seconds, rejected, lag) == (99.0021, 0.0, 3.0)
    assert buckets == [1, 1, *[0] * (len(BOUNDS) - 2), 1]
