"""The earliest of many deadlines."""

from hypothesis import given
from hypothesis import strategies as st

from vrrp.deadlines import Deadlines


def test_the_earliest_first():
    """The earliest deadline comes first, those that have come are returned in their order, and only once."""
    deadlines = Deadlines()
    for whose, at in (("b", 2.0), ("c", 3.0), ("a", 1.0)):
        deadlines.set(whose, at)
    assert deadlines.first == 1.0
    assert deadlines.due(2.0) == ["a", "b"]
    assert deadlines.due(2.0) == []
    assert deadlines.first == 3.0


def test_changed_and_removed():
    """A deadline that was changed is due at its new time, and one that was removed never."""
    deadlines = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("b", 2.0)
    deadlines.set("a", 5.0)
    assert deadlines.first == 2.0
    deadlines.set("b", None)
    assert deadlines.due(4.0) == []
    assert deadlines.due(5.0) == ["a"]
    assert deadlines.first is None


def test_what_is_out_of_date_is_bounded():
    """Deadlines that move all the time do not fill the memory."""
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set(number % 3, float(number))
    assert len(deadlines._heap) <= 2 * 3 + 65


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 20)), max_size=200))
def test_as_a_search_would_say(changes):
    """Invariant: the first deadline is always what a search of all of them finds."""
    deadlines, model = Deadlines(), {}
    for whose, at in changes:
        deadlines.set(whose, at)
        model[whose] = at
        assert deadlines.first == min((one for one in model.values() if one is not None), default=None)
