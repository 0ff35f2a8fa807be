"""Tests of the parameters of /events.json."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.web.query import MOST, USUAL, QueryError, at, selected, wanted


def test_what_is_asked():
    """Both parameters have a default, a bound, and two ways to say a time."""
    assert wanted({}) == (USUAL, -math.inf)
    assert wanted({"n": "999999999", "since": "12.5"}) == (MOST, 12.5)
    assert wanted({"since": "1970-01-01T01:00:00+01:00"}) == (USUAL, 0.0)


@pytest.mark.parametrize(
    "query",
    [
        {"n": "-1"},
        {"n": "x"},
        {"n": "9" * 5000},
        {"n": "²"},
        {"since": "nan"},
        {"since": "yesterday"},
        {"since": "1970-01-01T00:00:00"},
        {"x": "1"},
    ],
)
def test_what_makes_no_sense(query):
    """A wrong or unknown parameter is told, not ignored."""
    with pytest.raises(QueryError):
        wanted(query)


@given(st.dictionaries(st.sampled_from(["n", "since"]), st.text(max_size=60)))
def test_any_query(query):
    """Invariant: any query is refused in order, or has a number within its bound and a time."""
    try:
        n, since = wanted(query)
    except QueryError:
        return
    assert 0 <= n <= MOST
    assert not math.isnan(since)


def test_the_last_ones():
    """The last events since a time are chosen, whichever form their time has; none at all if none is asked for."""
    events = [{"at": 1.0}, {"at": "1970-01-01T00:00:02Z"}, {"at": 3.0}]
    assert selected(events, 2, 0.0) == events[1:]
    assert selected(events, 9, 2.0) == events[1:]
    assert selected(events, 0, 0.0) == []
    assert math.isnan(at({"at": "?"}))
