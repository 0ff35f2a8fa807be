"""proxy.stats.histogram: 96 buckets, four an octave."""

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.stats.histogram import CELLS, LIMIT, bounds, bucket, percentile


def counted(*latencies):
    """Return the cells after these latencies, in microseconds."""
    cells = [0] * CELLS
    for latency in latencies:
        cells[bucket(latency)] += 1
    return cells


def test_buckets_cover_everything_once():
    """The buckets' bounds follow each other from 0 to 33.5 s, and each bucket holds its own bounds."""
    expected = 0
    for index in range(CELLS):
        low, high = bounds(index)
        assert low == expected
        assert bucket(low) == bucket(high - 1) == index
        expected = high
    assert expected == LIMIT


@given(st.integers())
def test_any_number_has_a_bucket(microseconds):
    """Whatever a clock says, the bucket exists and a larger latency never falls into a lower one."""
    assert 0 <= bucket(microseconds) <= bucket(microseconds + 1) < CELLS


@given(st.integers(8, LIMIT - 1))
def test_a_bucket_is_narrow(microseconds):
    """A bucket is at most a quarter of its values wide."""
    low, high = bounds(bucket(microseconds))
    assert low <= microseconds < high
    assert (high - low) * 4 <= low


@given(st.lists(st.integers(0, LIMIT - 1), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_near_the_exact_one(latencies, q):
    """A percentile lies within the bucket of the sample that has that rank."""
    rank = max(0, -(-len(latencies) * q // 1) - 1)
    low, high = bounds(bucket(sorted(latencies)[int(rank)]))
    assert low / 1000 <= percentile(counted(*latencies), q) <= high / 1000


def test_percentiles_in_milliseconds():
    """Of 99 answers in 1 ms and one in 1 s, the median says 1 ms and the 99.9th percentile 1 s."""
    cells = counted(*[1000] * 99, 1_000_000)
    assert percentile(cells, 0.5) == pytest.approx(1.0, rel=0.15)
    assert percentile(cells, 0.999) == pytest.approx(1000, rel=0.15)


def test_no_samples_no_percentile():
    """Without a sample there is no percentile, and cells below zero are no samples."""
    assert percentile([0] * CELLS, 0.5) is None
    assert percentile([-1] + [0] * (CELLS - 1), 0.99) is None


def test_bucket_is_cheap():
    """Finding the bucket costs far less than the microsecond that a query's counting may cost in all."""
    best = min(timeit.repeat("bucket(1234)", globals={"bucket": bucket}, number=20_000, repeat=10)) / 20_000
    assert best < 1e-6
