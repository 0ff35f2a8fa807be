"""The part of its weight that a backend gets by what is measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.measure import Measured
from proxy.backends.measured import Measures, exact, in_words, settled

A, B, C = ("s", "a"), ("s", "b"), ("s", "c")
SECONDS = st.floats(0, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("kind", "measured", "fastest", "share"),
    [
        ("lag", Measured(0.0, 30.0), 0.0, 10.0), ("lag", Measured(15.0, 30.0), 0.0, 5.0), ("lag", Measured(99.0, 30.0), 0.0, 1.0),
        ("lag", Measured(5.0), 0.0, 10.0), ("latency", Measured(0.02), 0.01, 5.0), ("latency", Measured(0.01), 0.01, 10.0),
        ("latency", Measured(9.0), 0.01, 1.0), ("latency", Measured(0.0009), 0.0001, 10.0), ("latency", Measured(0.5), 0.0, 10.0),
    ],
)  # fmt: skip
def test_exact_shares(kind: str, measured: Measured, fastest: float, share: float) -> None:
    """H8: a lag takes a part of max-lag, a latency the ratio to the fastest; differences below a millisecond take nothing."""
    assert exact(kind, measured, fastest) == pytest.approx(share)


@given(
    kind=st.sampled_from(["lag", "latency"]),
    values=st.lists(st.tuples(st.sampled_from([A, B, C]), SECONDS, st.sampled_from([0.0, 1.0, 30.0])), max_size=40),
)
def test_bounds(kind: str, values: list[tuple[tuple[str, str], float, float]]) -> None:
    """H8: whatever is measured, a share lies between a tenth and the whole, and the fastest has the whole of it."""
    measures = Measures()
    for key, value, limit in values:
        measures.take(key, Measured(value, limit), kind, [A, B, C])
        assert all(1 <= measures.tenths(one) <= 10 for one in (A, B, C))
        assert all((measures.tenths(one) == 10) == (measures.why(one, kind, [A, B, C]) == "") for one in (A, B, C))
    if kind == "latency" and values:
        assert 10 in {measures.tenths(one) for one in (A, B, C)}


def test_a_measure_at_a_border_moves_nothing() -> None:
    """H8: a share changes only when the exact one is clearly another."""
    assert [settled(share, 5) for share in (5.0, 5.5, 5.74, 4.3, 5.76, 4.2)] == [5, 5, 5, 5, 6, 4]


def test_shares_follow_the_fastest() -> None:
    """H8: if the fastest goes, the others share anew; a backend that returns to the fastest gets its whole weight back."""
    measures = Measures()
    measures.take(A, Measured(0.010), "latency", [A, B])
    assert measures.take(B, Measured(0.040), "latency", [A, B]) == [B]
    assert (measures.tenths(A), measures.tenths(B)) == (10, 2)
    assert measures.why(B, "latency", [A, B]) == "weight at 20 %: latency of 40 ms, the fastest has 10 ms"
    assert measures.settle("s", "latency", [B]) == [B]
    assert measures.tenths(B) == 10


def test_what_is_forgotten() -> None:
    """H8: a backend that is gone, in maintenance, or follows nothing any more has its whole weight."""
    measures = Measures()
    for key in (A, B):
        measures.take(key, Measured(15.0, 30.0), "lag", [])
    assert (measures.tenths(A), measures.tenths(B)) == (5, 5)
    measures.forget(A)
    measures.keep({A: "lag", B: "off"})
    assert (measures.tenths(A), measures.tenths(B)) == (10, 10)


def test_words() -> None:
    """H8: the words name the measure and what it is compared with."""
    assert in_words("lag", Measured(12.34, 30.0), 0.0) == "lag of 12.3 s of max-lag 30s"
