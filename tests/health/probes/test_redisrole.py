"""What a Redis server's INFO means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.probes.base import Failed
from health.probes.redisrole import State, state_of

SLAVE = "# Replication\r\nrole:slave\r\n"


@pytest.mark.parametrize(
    ("info", "state"),
    [
        ("# Replication\r\nrole:master\r\nconnected_slaves:1\r\n", State("primary")),
        (f"{SLAVE}master_link_status:up\r\nmaster_last_io_seconds_ago:3\r\n", State("standby", lag=3.0)),
        (f"{SLAVE}master_link_status:down\r\nmaster_link_down_since_seconds:42\r\n",
         State("standby", False, 42.0, "it has no connection to its primary")),
        (f"{SLAVE}master_link_status:down\r\nmaster_sync_in_progress:1\r\nmaster_link_down_since_seconds:-1\r\n",
         State("standby", False, None, "it copies its primary's data")),
    ],
)  # fmt: skip
def test_states(info: str, state: State) -> None:
    """H8: the answers of a primary, a replica, one cut off, and one that copies."""
    assert state_of(info) == state


@given(
    info=st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text()), st.text().map(lambda text: SLAVE + text))
)
def test_any_answer(info: object) -> None:
    """H4: any other answer fails in words, or is a replica of which nothing is known."""
    try:
        found = state_of(info)
    except Failed as failed:
        assert str(failed).isprintable()  # noqa: PT017 - either end is right
    else:
        assert found.lag is None or found.lag >= 0
