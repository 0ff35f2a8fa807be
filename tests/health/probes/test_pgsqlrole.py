"""What a PostgreSQL server's answer means, and how far a standby is behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.probes.base import Failed
from health.probes.pgsqlrole import Behind, State, state_of


def test_states() -> None:
    """H8: the answer of a primary, of a current standby and of one that lags."""
    assert state_of([["false", "false", None, None]]) == State(False, False, False, None)
    assert state_of([["true", "true", "true", "3600.5"]]) == State(True, True, True, 3600.5)
    assert state_of([["true", "false", None, "-0.2"]]) == State(True, False, False, 0.0)


@given(
    rows=st.lists(
        st.lists(st.one_of(st.none(), st.text(max_size=9), st.sampled_from(["true", "nan", "1e999"])), max_size=5),
        max_size=2,
    )
)
def test_any_answer(rows: list[list[str | None]]) -> None:
    """H4: any other answer fails in words."""
    try:
        found = state_of(rows)
    except Failed as failed:
        assert str(failed).isprintable()  # noqa: PT017 - either end is right
    else:
        assert found.age is None or 0 <= found.age < float("inf")


def test_lag_of_a_primary_at_rest() -> None:
    """H8: the age of the last transaction is no lag while everything is replayed, and does not jump at the next one."""
    behind = Behind()
    assert behind.lag(State(True, True, True, 3600.0), 100.0) == 0.0
    assert behind.lag(State(True, True, False, 3602.0), 102.0) == 2.0
    assert behind.lag(State(True, True, False, 1.5), 104.0) == 1.5


def test_lag_of_a_standby_that_is_cut_off() -> None:
    """H8: without a connection the lag grows from the last moment at which everything was replayed."""
    behind = Behind()
    behind.lag(State(True, True, True, 10.0), 0.0)
    assert [behind.lag(State(True, False, True, 10.0 + at), at) for at in (1.0, 30.0)] == [1.0, 30.0]


@pytest.mark.parametrize(("age", "lag"), [(7.0, 7.0), (None, None)])
def test_lag_at_the_first_look(age: float | None, lag: float | None) -> None:
    """H8: a standby that lags at the first look lags by the age of its last transaction, if it has any."""
    assert Behind().lag(State(True, True, False, age), 5.0) == lag
