"""What a server's rows mean for its part: roles, replication, lag, Galera; all of it pure."""

import pytest

from health.probes import mysqlrole
from health.probes.base import Failed
from health.probes.mysqlrole import Hysteresis, Replication

# The columns of MySQL 8.0.22 and later (reference manual, SHOW REPLICA STATUS) and those of MariaDB 10.11.
NEW = {
    "replica_io_running": "Yes",
    "replica_sql_running": "Yes",
    "seconds_behind_source": "0",
    "channel_name": "",
    "last_io_errno": "0",
    "last_io_error": "",
    "last_sql_errno": "0",
    "last_sql_error": "",
}
OLD = {
    "slave_io_running": "Yes",
    "slave_sql_running": "Yes",
    "seconds_behind_master": "0",
    "connection_name": "",
    "last_io_errno": "0",
    "last_io_error": "",
    "last_sql_errno": "0",
    "last_sql_error": "",
}


def of(row: dict[str, str | None], **changed: str | None) -> dict[str, str | None]:
    """Return a row with columns changed that it must have, under the name of either version."""
    names = {"io": 0, "sql": 1, "lag": 2, "name": 3}
    keys = list(row)
    found = {(keys[names[key]] if key in names else key): value for key, value in changed.items()}
    assert set(found) <= set(row)
    return row | found


@pytest.mark.parametrize(
    ("found", "locked"),
    [
        ({"read_only": "OFF"}, ""),
        ({"read_only": "0", "super_read_only": "0"}, ""),
        ({"read_only": "OFF", "super_read_only": "OFF", "innodb_read_only": "OFF"}, ""),
        ({"read_only": "ON"}, "read_only"),
        ({"read_only": "1"}, "read_only"),
        ({"read_only": "NO_LOCK_NO_ADMIN"}, "read_only"),
        ({"read_only": "ON", "super_read_only": "ON"}, "super_read_only"),
        ({"read_only": "OFF", "super_read_only": "ON"}, "super_read_only"),
        ({"read_only": "OFF", "innodb_read_only": "ON"}, "innodb_read_only"),
    ],
)
def test_read_only(found: dict[str, str], locked: str) -> None:
    """H8: a server is a writer if read_only, super_read_only and innodb_read_only are all off."""
    assert mysqlrole.why_read_only(found) == locked


def test_read_only_unknown() -> None:
    """H8: a server that does not tell is neither writer nor replica."""
    with pytest.raises(Failed, match="does not say whether it is read_only"):
        mysqlrole.why_read_only({})


@pytest.mark.parametrize("row", [NEW, OLD])
def test_replicates(row: dict[str, str | None]) -> None:
    """H8: the words of MySQL 8 and of MariaDB for a running replication are both read, with its lag."""
    assert mysqlrole.replication([of(row, lag="7")]) == Replication(1, 7.0, "")
    assert mysqlrole.replication([of(row, lag=None)]) == Replication(1, None, "")


@pytest.mark.parametrize("row", [NEW, OLD])
@pytest.mark.parametrize(("thread", "label"), [("io", "IO"), ("sql", "SQL")])
@pytest.mark.parametrize("state", ["No", "", None])
def test_stopped(row: dict[str, str | None], thread: str, label: str, state: str | None) -> None:
    """H8, H13: a stopped IO or SQL thread fails, with the error that stopped it."""
    changed = {thread: state, f"last_{thread}_errno": "1062", f"last_{thread}_error": "Duplicate entry"}
    with pytest.raises(Failed) as failed:
        mysqlrole.replication([of(row, **changed)])
    wanted = f'replication stopped: the {label} thread does not run (error 1062: "Duplicate entry")'
    assert str(failed.value) == wanted
    with pytest.raises(Failed, match=f"the {label} thread does not run$"):
        mysqlrole.replication([of(row, **{thread: state})])


@pytest.mark.parametrize("row", [NEW, OLD])
def test_source_out_of_reach(row: dict[str, str | None]) -> None:
    """H8: an IO thread that tries to reach its source has not stopped: the replica stays in reserve."""
    found = mysqlrole.replication([of(row, io="Connecting", lag=None, last_io_errno="2003", last_io_error="cannot")])
    assert (found.lag, found.sources) == (None, 1)
    assert found.cut == 'replication is cut off: the IO thread is "connecting" (error 2003: "cannot")'


@pytest.mark.parametrize("row", [NEW, OLD])
def test_several_sources(row: dict[str, str | None]) -> None:
    """H8: of several sources the worst counts: the largest lag, an unknown one, any stopped thread, named by its channel."""
    assert mysqlrole.replication([of(row, lag="3"), of(row, lag="9"), of(row, lag="1")]).lag == 9.0
    assert mysqlrole.replication([of(row, lag="3"), of(row, lag=None)]).lag is None
    with pytest.raises(Failed, match='the SQL thread of "b" does not run'):
        mysqlrole.replication([row, of(row, name="b", sql="No")])
    assert 'of "b"' in mysqlrole.replication([row, of(row, name="b", io="Connecting")]).cut


def test_no_source() -> None:
    """H8: a read-only server without a source fails, because its data only get older."""
    with pytest.raises(Failed, match="is read-only, but replicates from no server"):
        mysqlrole.replication([])


@pytest.mark.parametrize(
    ("rows", "lag"),
    [
        ([{"lag": "12"}], 12.0),
        ([{"lag": "0.25", "more": "x"}, {"lag": "9"}], 0.25),
        ([{"lag": "-3"}], 0.0),
        ([], "the lag-query returned no row"),
        ([{}], "the lag-query returned NULL"),
        ([{"lag": None}], "the lag-query returned NULL"),
        ([{"lag": "late"}], 'the lag-query returned "late", not seconds'),
        ([{"lag": "nan"}], 'the lag-query returned "nan", not seconds'),
        ([{"lag": "inf"}], 'the lag-query returned "inf", not seconds'),
    ],
)
def test_lag_query(rows: list[dict[str, str | None]], lag: float | str) -> None:
    """H8: a lag-query's first value is the lag in seconds, never negative; what is no number fails in words."""
    if isinstance(lag, float):
        assert mysqlrole.lag_of(rows) == lag
    else:
        with pytest.raises(Failed) as failed:
            mysqlrole.lag_of(rows)
        assert str(failed.value) == lag


def test_hysteresis() -> None:
    """H8: after a lag over max-lag a replica is fit again only at recover-lag, so that a lag near the limit does not flap."""
    lags = Hysteresis(30.0, 15.0)
    assert lags.observe(30.0) == ""
    assert lags.observe(31.0) == "lag of 31 s is over max-lag (30s)"
    assert lags.observe(29.0) == "lag of 29 s is not yet down to recover-lag (15s)"
    assert lags.observe(16.0) == "lag of 16 s is not yet down to recover-lag (15s)"
    assert lags.observe(15.0) == ""
    assert lags.observe(29.0) == ""


SYNCED = {
    "wsrep_ready": "ON",
    "wsrep_cluster_status": "Primary",
    "wsrep_local_state": "4",
    "wsrep_local_state_comment": "Synced",
    "wsrep_reject_queries": "NONE",
}
DONOR = SYNCED | {"wsrep_local_state": "2", "wsrep_local_state_comment": "Donor/Desynced"}


def test_galera_fit() -> None:
    """H8: a synced Galera node passes, a donor with donor-ok."""
    assert mysqlrole.galera(SYNCED, donor_ok=False) == 'Galera node, "Synced"'
    assert mysqlrole.galera(DONOR, donor_ok=True) == 'Galera node, "Donor/Desynced", which donor-ok allows'


@pytest.mark.parametrize(
    ("found", "donor_ok", "reason"),
    [
        ({}, True, "is not a Galera node: it has no wsrep status"),
        (DONOR, False, '"Donor/Desynced" (wsrep_local_state 2): serves another node, and donor-ok is false'),
        (SYNCED | {"wsrep_ready": "OFF"}, True, 'not ready (wsrep_ready is "OFF", "Synced")'),
        (SYNCED | {"wsrep_local_state": "1"}, True, '"Synced" (wsrep_local_state "1"), not Synced'),
        (SYNCED | {"wsrep_local_state": "3"}, True, '"Synced" (wsrep_local_state "3"), not Synced'),
        (
            SYNCED | {"wsrep_cluster_status": "non-Primary"},
            True,
            'cluster is "non-Primary", not Primary: cut off from the majority ("Synced")',
        ),
        (
            SYNCED | {"wsrep_cluster_status": "Disconnected"},
            True,
            "has not joined a Galera cluster (wsrep_cluster_status is Disconnected)",
        ),
        (SYNCED | {"wsrep_reject_queries": "ALL"}, True, "rejects queries (wsrep_reject_queries is on)"),
    ],
)
def test_galera_unfit(found: dict[str, str], donor_ok: bool, reason: str) -> None:
    """H8, H13: each state in which a Galera node cannot serve fails in its own words."""
    with pytest.raises(Failed) as failed:
        mysqlrole.galera(found, donor_ok=donor_ok)
    assert str(failed.value) == reason


def test_settings() -> None:
    """Names are compared in lower case, and missing values are empty."""
    assert mysqlrole.settings(
        [{"variable_name": "READ_ONLY", "value": "ON"}, {"variable_name": "x", "value": None}]
    ) == {
        "read_only": "ON",
        "x": "",
    }
