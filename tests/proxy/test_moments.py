"""proxy.moments: points in time in JSON."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.moments import LAST, rfc3339, unix


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_795_357_800.25, "2026-11-22T14:30:00.250Z"),
        (LAST, "9999-12-31T23:59:59.000Z"),
        (None, None),
    ],
)
def test_a_time_has_one_form(at, text):
    """A time is written in UTC, to the millisecond."""
    assert rfc3339(at) == text


@given(st.floats(min_value=0, max_value=LAST).map(lambda at: round(at, 3)))
def test_a_time_comes_back(at):
    """What is written is read as it was, to the millisecond."""
    assert unix(rfc3339(at)) == pytest.approx(at, abs=0.0011)


def test_other_forms_are_read():
    """Numbers, and texts with any zone, are the same time."""
    assert unix("2026-11-22T15:30:00+01:00") == unix("2026-11-22 14:30:00Z") == unix(1_795_357_800) == 1_795_357_800.0


@given(
    st.one_of(
        st.none(), st.booleans(), st.text(max_size=30), st.lists(st.integers(), max_size=2), st.integers(max_value=-1),
        st.integers(min_value=10**12), st.just(float("nan")), st.just(float("inf")),
    )
)  # fmt: skip
def test_anything_else_is_refused(value):
    """What is no time is a ValueError, and nothing else."""
    try:
        found = unix(value)
    except ValueError:
        return
    assert isinstance(value, str)
    assert 0 <= found <= LAST
