"""H8: what a probe measures for a backend's weight."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.measure import Measured, Smoothed, measure, measures
from health.spec import MysqlProbe, NoneProbe, PgsqlProbe, RedisProbe, TcpProbe
from health.state import Outcome

SECONDS = st.floats(0, 1e6, allow_nan=False)


def test_the_first_measure_is_told() -> None:
    """H8: the first measure is the average, and is told."""
    assert Smoothed().observe(Measured(0.02)) == Measured(0.02)


def test_an_outlier_counts_little() -> None:
    """H8: one measure moves the average by a fifth of its distance, and five in a row by two thirds."""
    smoothed = Smoothed()
    smoothed.observe(Measured(1.0))
    assert smoothed.observe(Measured(2.0)) == Measured(pytest.approx(1.2))
    told = [found.value for _ in range(4) if (found := smoothed.observe(Measured(2.0)))]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(2 - 0.8**5, rel=0.1)


def test_small_changes_are_not_told() -> None:
    """H8: what changes by less than a tenth, or less than a twentieth of the limit, is not told."""
    smoothed = Smoothed()
    smoothed.observe(Measured(0.010))
    assert all(smoothed.observe(Measured(value)) is None for value in (0.0105, 0.0095, 0.011, 0.009) * 20)
    lagging = Smoothed()
    lagging.observe(Measured(0.0, 30.0))
    assert lagging.observe(Measured(5.0, 30.0)) is None
    assert lagging.observe(Measured(5.0, 30.0)) == Measured(pytest.approx(1.8), 30.0)


def test_another_limit_is_told() -> None:
    """H8: after a change of max-lag the next measure is told, whatever it is."""
    smoothed = Smoothed()
    smoothed.observe(Measured(3.0, 30.0))
    assert smoothed.observe(Measured(3.0, 60.0)) == Measured(3.0, 60.0)


@given(values=st.lists(SECONDS, min_size=1, max_size=60), limit=st.sampled_from([0.0, 30.0]))
def test_the_average_stays_among_the_measures(values: list[float], limit: float) -> None:
    """H8: the average never leaves the range of what was measured."""
    smoothed = Smoothed()
    for number, value in enumerate(values):
        found = smoothed.observe(Measured(value, limit))
        seen = values[: number + 1]
        assert found is None or min(seen) * 0.999 <= found.value <= max(seen) * 1.001


def test_what_measures() -> None:
    """H8: a lag is measured by mysql, pgsql and redis probes with max-lag, a latency by every probe but none."""
    assert measures(PgsqlProbe(user="x", max_lag=9), "lag")
    assert measures(RedisProbe(max_lag=9), "lag")
    assert measures(MysqlProbe(user="x", role="replica", max_lag=9), "lag")
    assert measures(TcpProbe(), "latency")
    for spec, kind in (
        (PgsqlProbe(user="x"), "lag"), (TcpProbe(), "lag"), (NoneProbe(), "latency"), (TcpProbe(report_only=True), "latency"),
        (TcpProbe(), "off"),
    ):  # fmt: skip
        assert not measures(spec, kind)


def test_measures() -> None:
    """H8: a primary has no lag; a standby that cannot tell its lag is not measured."""
    spec = PgsqlProbe(user="x", max_lag=9)
    assert measure(spec, "lag", Outcome(True, "", 0.5, lag=4.0)) == Measured(4.0, 9.0)
    assert measure(spec, "lag", Outcome(True, "", 0.5)) == Measured(0.0, 9.0)
    assert measure(spec, "lag", Outcome(True, "", 0.5, reserve=True)) is None
    assert measure(spec, "latency", Outcome(True, "", 0.5)) == Measured(0.5)
