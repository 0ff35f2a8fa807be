"""When probes are due, with time as a number."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.schedule import FINEST, GRAIN, Pace, Schedule, first_delay

PACE = Pace(2.0, 0.5, 5.0)


def schedule(due: float = 0.0) -> Schedule:
    return Schedule(due, PACE.fast, random.Random(1))


def ran(start: float, end: float, wait: float) -> Schedule:
    made = schedule()
    made.started(start)
    made.finished(end, wait)
    return made


@pytest.mark.parametrize(("phase", "wait"), [("steady", 2.0), ("transition", 0.5), ("down", 5.0)])
def test_each_phase_has_its_interval(phase: str, wait: float) -> None:
    """H6: recovering and failing backends are probed at their own intervals."""
    assert PACE.wait(phase) == wait


def test_few_probes_start_almost_at_once() -> None:
    """H5: a new daemon with few probes serves soon: they start 5 ms apart, the first at once."""
    assert [first_delay(position, 3, 2.0) for position in range(3)] == [0.0, 0.005, 0.01]


@given(st.integers(1, 5000), st.floats(0.01, 100.0))
def test_first_probes_are_spread(count: int, interval: float) -> None:
    """H5: all first probes start within half a second, or within the interval if that is shorter, evenly apart."""
    delays = [first_delay(position, count, interval) for position in range(count)]
    assert delays[0] == 0.0
    assert delays[-1] < min(interval, 0.5)
    if count > 1:
        assert min(after - before for before, after in pairwise(delays)) > 0


@given(st.floats(0.01, 100.0), st.integers(0, 2**32))
def test_waits_are_jittered(wait: float, seed: int) -> None:
    """H5: each wait is within 10 % of its interval, and half a grain, counted from start to start."""
    made = Schedule(0.0, 0.5, random.Random(seed))
    made.started(100.0)
    half = min(GRAIN, wait * FINEST) / 2 + 1e-9
    assert 100.0 + 0.9 * wait - half <= made.finished(100.0 + wait / 2, wait) <= 100.0 + 1.1 * wait + half


def test_probes_drift_apart() -> None:
    """H5: probes that started together do not stay together."""
    rng = random.Random(2)
    dues = set()
    for _ in range(50):
        made = Schedule(0.0, 0.5, rng)
        made.started(0.0)
        dues.add(made.finished(0.1, 2.0))
    assert max(dues) - min(dues) > 0.2


def test_never_overlapping() -> None:
    """A probe that ran longer than its interval is followed at its end, and nothing is due while it runs."""
    made = schedule()
    made.started(10.0)
    assert made.due is None
    assert made.finished(13.0, 0.5) == 13.0


def test_hint_brings_forward() -> None:
    """H12: failed traffic makes the next probe due now, if the last one began at least the fast interval ago."""
    made = ran(10.0, 10.1, 2.0)
    assert made.hint(11.0)
    assert made.due == 11.0


def test_hints_are_bounded() -> None:
    """H12: however many connections fail, probes start no closer than the fast interval."""
    made = ran(10.0, 10.1, 2.0)
    assert [made.hint(10.2), made.hint(10.3), made.hint(10.4)] == [True, False, False]
    assert made.due == 10.5


def test_hint_during_a_run_is_kept() -> None:
    """H12: a hint while a probe runs makes the next one come soon, as the running one may have passed before the failure."""
    made = schedule()
    made.started(10.0)
    assert not made.hint(10.05)
    assert made.finished(10.1, 2.0) == 10.5
    made.started(10.5)
    assert made.finished(10.6, 2.0) >= 12.3


def test_hint_never_delays() -> None:
    """H12: a hint does not move a probe back that is due earlier anyway."""
    made = ran(10.0, 10.1, 0.2)
    due = made.due
    assert not made.hint(10.15)
    assert made.due == due


def test_hint_before_the_first_run() -> None:
    """H12: a hint to a probe that has not run yet makes it due now."""
    made = schedule(due=5.0)
    assert made.hint(4.0)
    assert made.due == 4.0


def test_shorter_interval_applies_at_once() -> None:
    """A subscriber with a shorter interval does not wait for the longer one to pass, and a longer one moves nothing."""
    made = ran(10.0, 10.1, 60.0)
    assert made.shorten(11.0, 2.0)
    assert made.due == 12.0
    assert not made.shorten(11.0, 30.0)
    assert made.due == 12.0


def test_finish_without_start_is_a_bug() -> None:
    """A pair of events that cannot happen raises."""
    with pytest.raises(ValueError, match="never started"):
        schedule().finished(1.0, 2.0)
