"""Ratios within one round, quiet pairs, and half the load."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from bench.compare import wanted
from bench.ratios import fewest_quiet, half_load, median, quantile, ratios, spread


@dataclass(frozen=True)
class Run:
    """A run of which only the rate and the noise count."""

    rate: float | None
    others: float = 0.0


def rate(run):
    return run.rate


ROUNDS = [
    {"a": Run(50), "b": Run(100)},
    {"a": Run(30, others=0.4), "b": Run(20)},
    {"a": Run(40), "b": Run(50, others=0.06)},
    {"a": Run(60), "b": Run(50, others=0.05)},
]


def test_ratios_are_taken_within_a_round():
    """A ratio compares two systems in the same round, never a median with a median."""
    assert ratios(ROUNDS, "a", "b", rate) == [0.5, 1.5, 0.8, 1.2]


def test_a_pair_is_quiet_if_both_runs_are():
    """A pair in which others took more than the limit, in either of its runs, is not quiet."""
    assert ratios(ROUNDS, "a", "b", rate, 0.05) == [0.5, 1.2]


def test_the_fewest_quiet_pairs_count():
    """Rounds are added for the peer that has the fewest quiet pairs, and no longer than three times as many."""
    rounds = [{**one, "c": Run(1)} for one in ROUNDS]
    assert fewest_quiet(rounds) == 2  # of b; c has three
    assert fewest_quiet([]) == fewest_quiet([{"a": Run(1)}]) == 0
    assert wanted(rounds, 5, 0)
    assert not wanted(rounds, 4, 2)
    assert wanted(rounds, 4, 3)
    assert not wanted(rounds * 3, 4, 7)


def test_what_has_no_figure_has_no_ratio():
    """A system without the figure, or with nothing to divide by, or absent from a round, has no ratio there."""
    rounds = [{"a": Run(1), "b": Run(None)}, {"a": Run(1), "b": Run(0)}, {"a": Run(1)}]
    assert ratios(rounds, "a", "b", rate) == []
    assert median(rounds, "b", rate) == 0
    assert median(rounds, "c", rate) is None


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_the_median_is_inside_the_range(figures):
    """Whatever the figures are, their median is between the least and the greatest, and all are counted."""
    found = spread(figures)
    assert found.low <= found.median <= found.high
    assert found.count == len(figures)
    assert spread([]) is None


@given(st.lists(st.floats(0, 1e9), min_size=1).map(sorted), st.floats(0, 1))
def test_a_quantile_is_one_of_the_figures(figures, share):
    """A quantile is a figure, and it grows with its share."""
    assert quantile(figures, share) in figures
    assert quantile(figures, 0) == figures[0]
    assert quantile(figures, 1) == figures[-1]


def test_half_load_is_half_of_the_slowest_that_is_near():
    """The rate is half of that of the slowest system which reaches at least half the rate of the subject."""
    assert half_load({"us": 100, "near": 60, "far": 40, "fast": 300}, "us") == 30
    assert half_load({"us": 100, "fast": 300}, "us") == 50
