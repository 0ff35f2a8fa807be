"""Who is left out because real traffic fails, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.ejection import LONGEST, Ejections

NAMES = [f"b{number}" for number in range(6)]


@given(
    st.integers(1, 6),
    st.floats(0, 1),
    st.floats(0.5, 400),
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100), st.sets(st.integers(0, 5))), max_size=60),
)
def test_the_laws(count, share, time, steps):
    """H12: never more than the share (or one) are out, never all that could serve, and each comes back in its time."""
    ejections = Ejections(count, time, share)
    now = 0.0
    until: dict[str, float] = {}
    for who, gap, up in steps:
        now += gap
        back = ejections.over(now)
        assert set(back) == {name for name, end in until.items() if end <= now}
        for name in back:
            del until[name]
        name = NAMES[who % count]
        usable = {NAMES[one % count] for one in up}
        period = ejections.eject(name, usable, now)
        if period is not None:
            assert name not in until
            assert time <= period <= max(LONGEST, time)
            until[name] = now + period
            assert usable - until.keys()
        assert set(ejections.out) == until.keys()
        assert len(until) <= max(1, int(count * share + 1e-9))
        assert ejections.next_deadline == min(until.values(), default=None)


def test_it_grows_and_shrinks():
    """H12: each ejection in a row is longer by the time, up to the longest; calm makes the next one shorter again."""
    ejections = Ejections(2, 100.0, 0.1)
    now, periods = 0.0, []
    for _ in range(5):
        period = ejections.eject("b0", NAMES[:2], now)
        assert period is not None
        periods.append(period)
        now += period
        assert ejections.over(now) == ["b0"]
    assert periods == [100.0, 200.0, LONGEST, LONGEST, LONGEST]
    now += 350.0
    assert ejections.eject("b0", NAMES[:2], now) == LONGEST  # the third in a row
    now += LONGEST
    ejections.over(now)
    now += 1000.0
    assert ejections.eject("b0", NAMES[:2], now) == 100.0


@pytest.mark.parametrize(
    ("count", "share", "most"),
    [(1, 0.1, 1), (2, 0.1, 1), (10, 0.1, 1), (10, 0.3, 3), (10, 0.29, 2), (4, 1.0, 4), (4, 0.0, 1)],
)
def test_the_share(count, share, most):
    """H12: the share is rounded down, but one may always be out."""
    assert Ejections(count, 1.0, share).most == most


def test_the_last_is_kept_and_all_come_back_when_nobody_is_left():
    """H12: who alone could serve is not taken out, and is let back when the others go down."""
    ejections = Ejections(3, 30.0, 1.0)
    assert ejections.eject("b0", ["b0"], 0.0) is None
    assert ejections.eject("b0", NAMES[:3], 0.0) == 30.0
    assert ejections.eject("b1", NAMES[:3], 0.0) == 30.0
    assert ejections.eject("b2", NAMES[:3], 0.0) is None
    assert ejections.release(NAMES[:3], 1.0) == []
    assert sorted(ejections.release(["b0", "b1"], 1.0)) == ["b0", "b1"]
    assert (ejections.out, ejections.next_deadline) == ([], None)


def test_for_ever():
    """H12: a time of "never" ends with the daemon."""
    ejections = Ejections(2, float("inf"), 0.1)
    assert ejections.eject("b0", NAMES[:2], 0.0) == float("inf")
    assert ejections.over(1e12) == []
