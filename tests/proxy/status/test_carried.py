"""Tests of counters whose processes may end."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.status.carried import Carried

KEY = ("probe", "dns", "b0", "0")


def test_another_life_goes_on():
    """R8: what an ended life had counted stays in the sums, also where its successor counts more at once."""
    carried = Carried()
    assert carried.take(KEY, 1, [3.0, 1]) == [3, 1]
    assert carried.take(KEY, 1, [4.0, 1]) == [4, 1]
    assert carried.take(KEY, 2, [9.0, 9]) == [13, 10]
    assert carried.take(KEY, 2, [1.0, 9]) == [14, 19]


def test_a_successor_goes_on():
    """R8: a successor of the daemon begins with the sums, through JSON, whatever it has counted itself by then."""
    before = Carried()
    before.take(KEY, 1, [3.0])
    before.count(("transitions", "outside"))
    after = Carried()
    after.take(KEY, 7, [1.0])
    after.restore(before.rows())
    assert after.take(KEY, 7, [2.0]) == [5]
    assert after.sums(("transitions", "outside")) == [1]


def test_other_buckets_begin_anew():
    """A counter of another version, with other buckets, begins anew rather than being added up wrongly."""
    carried = Carried()
    carried.restore([[list(KEY), [1.0, 2.0]]])
    assert carried.take(KEY, 1, [5.0]) == [5]
    assert carried.sums(("nothing",)) == []


def test_what_has_gone_is_forgotten():
    """Counters of what the configuration no longer has are dropped, so that memory is bounded."""
    carried = Carried()
    carried.take(KEY, 1, [1.0])
    carried.count(("transitions", "outside"))
    carried.keep(lambda key: key[0] == "transitions")
    assert carried.rows() == [[["transitions", "outside"], [1.0]]]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 100))))
def test_sums_never_go_back(takes):
    """Invariant: whatever lives report, in whatever order, a sum never decreases."""
    carried, last = Carried(), 0.0
    for life, value in takes:
        (now,) = carried.take(KEY, life, [value])
        assert now >= last
        last = now
