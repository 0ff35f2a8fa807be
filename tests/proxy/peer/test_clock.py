"""The hybrid logical clock: every stamp is later than all before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.peer.clock import MOST_AHEAD, AheadError, Clock, Stamp

TIMES = st.integers(0, 10 * MOST_AHEAD)


@given(st.lists(st.tuples(st.booleans(), TIMES, st.integers(0, 5)), max_size=40))
def test_stamps_only_grow(steps):
    """Invariant: whatever the wall clock does and the peer says, a stamp is later than all given and observed before."""
    clock, last = Clock("a"), Stamp(0, 0, "")
    for observes, now, count in steps:
        if observes:
            theirs = Stamp(now, count, "b")
            try:
                clock.observe(theirs, now)
            except AheadError:
                continue
            last = max(last, theirs)
        else:
            stamp = clock.tick(now)
            assert stamp > last
            last = stamp


def test_a_stamp_from_the_future_is_refused():
    """A stamp more than a minute ahead is refused and does not move the clock."""
    clock = Clock("a")
    with pytest.raises(AheadError, match="61 s ahead"):
        clock.observe(Stamp(MOST_AHEAD + 1000, 0, "b"), 0)
    assert clock.tick(5) == Stamp(5, 0, "a")
    clock.observe(Stamp(MOST_AHEAD, 7, "b"), 0)
    assert clock.tick(6) == Stamp(MOST_AHEAD, 8, "a")


def test_a_restored_stamp_counts():
    """A stamp from before a restart counts, however far ahead it is: this host has accepted it once."""
    clock = Clock("a")
    clock.restore(Stamp(10 * MOST_AHEAD, 3, "a"))
    assert clock.tick(0) == Stamp(10 * MOST_AHEAD, 4, "a")
