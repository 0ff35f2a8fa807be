"""Decides from a MySQL server's status whether it has the wanted role: pure.

Rows are dictionaries by column names in lower case.  MySQL 8.0.22 and later says source and replica; older MySQL and
MariaDB say master and slave.  Both are read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from health.probes.base import Failed, excerpt
from health.units import format_duration

Row = Mapping[str, str | None]

# Every account may run this statement, and a variable that the server does not know is simply missing in the result.
READ_ONLY: Final = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'super_read_only', 'innodb_read_only')"
"""The last variable is set on Aurora's readers."""
_WSREP: Final = "'wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state', 'wsrep_local_state_comment'"
GALERA: Final = (
    f"SHOW GLOBAL STATUS WHERE Variable_name IN ({_WSREP})",
    # A node that rejects queries still answers this one and SELECT 1.
    "SHOW GLOBAL VARIABLES WHERE Variable_name = 'wsrep_reject_queries'",
)
_OFF: Final = frozenset(("OFF", "0", ""))
_DONOR, _SYNCED = "2", "4"  # wsrep_local_state: 1 joining, 2 donor or desynced, 3 joined, 4 synced

_RUNNING: Final = "yes"
_STOPPED: Final = frozenset(("no", ""))


def settings(rows: Sequence[Row]) -> dict[str, str]:
    """Return the variables in the rows of SHOW VARIABLES or SHOW STATUS by name."""
    return {(row.get("variable_name") or "").lower(): row.get("value") or "" for row in rows}


def why_read_only(found: Mapping[str, str]) -> str:
    """Return the setting that makes the server read-only, "" for a writer; raises `Failed` if the rows do not say."""
    if "read_only" not in found:
        raise Failed("does not say whether it is read_only")
    for name in ("super_read_only", "read_only", "innodb_read_only"):
        if found.get(name, "").upper() not in _OFF:
            return name
    return ""


@dataclass(frozen=True, slots=True)
class Replication:
    """The state of a replica over all its sources: the worst counts.

    `lag` in seconds, None if a source reports none; `cut` is a text about a source that cannot be reached, "" for none.
    """

    sources: int
    lag: float | None
    cut: str


def replication(rows: Sequence[Row]) -> Replication:
    """Judge SHOW [ALL] REPLICA STATUS, one row a source; raises `Failed` if a thread is stopped or there is no source."""
    if not rows:
        raise Failed("is read-only, but replicates from no server")
    lags: list[float | None] = []
    cut = ""
    for row in rows:
        name = row.get("channel_name") or row.get("connection_name") or ""
        of = f" of {excerpt(name.encode())}" if name else ""
        for kind, label in (("io", "IO"), ("sql", "SQL")):
            state = (_either(row, f"replica_{kind}_running", f"slave_{kind}_running") or "").strip().lower()
            if state in _STOPPED:
                raise Failed(f"replication stopped: the {label} thread{of} does not run{_error(row, kind)}")
            if state != _RUNNING and not cut:
                # The thread runs and tries to connect: its lag is unknown.
                cut = f"replication is cut off: the {label} thread{of} is {excerpt(state.encode())}{_error(row, kind)}"
        lags.append(_seconds(_either(row, "seconds_behind_source", "seconds_behind_master")))
    known = [lag for lag in lags if lag is not None]
    return Replication(len(rows), max(known) if len(known) == len(lags) else None, cut)


def lag_of(rows: Sequence[Row]) -> float:
    """Return the seconds in the first value of the first row of a lag-query; raises `Failed`."""
    if not rows:
        raise Failed("the lag-query returned no row")
    value = next(iter(rows[0].values()), None)
    if value is None:
        raise Failed("the lag-query returned NULL")
    found = _seconds(value)
    if found is None:
        raise Failed(f"the lag-query returned {excerpt(value.encode())}, not seconds")
    return found


def galera(found: Mapping[str, str], *, donor_ok: bool) -> str:
    """Return the state of a fit Galera node as text; raises `Failed` if the node is not fit."""
    ready, state = found.get("wsrep_ready", ""), found.get("wsrep_local_state", "")
    status = found.get("wsrep_cluster_status", "")
    comment = found.get("wsrep_local_state_comment", "") or f"state {state}"
    shown = excerpt(comment.encode())
    if not ready or not status:
        raise Failed("is not a Galera node: it has no wsrep status")
    if status.lower() == "disconnected":
        raise Failed("has not joined a Galera cluster (wsrep_cluster_status is Disconnected)")
    if status.lower() != "primary":
        raise Failed(f"cluster is {excerpt(status.encode())}, not Primary: cut off from the majority ({shown})")
    if state == _DONOR and not donor_ok:
        raise Failed(f"{shown} (wsrep_local_state {state}): serves another node, and donor-ok is false")
    if state not in (_SYNCED, _DONOR):
        raise Failed(f"{shown} (wsrep_local_state {excerpt(state.encode())}), not Synced")
    if ready.upper() != "ON":
        raise Failed(f"not ready (wsrep_ready is {excerpt(ready.encode())}, {shown})")
    if found.get("wsrep_reject_queries", "NONE").upper() != "NONE":
        raise Failed("rejects queries (wsrep_reject_queries is on)")
    return f"Galera node, {shown}" if state == _SYNCED else f"Galera node, {shown}, which donor-ok allows"


class Hysteresis:
    """Decides whether a replica lags: from a lag above `most` seconds until the lag is `recover` or less."""

    __slots__ = ("_lags", "most", "recover")

    def __init__(self, most: float, recover: float) -> None:
        self.most = most
        self.recover = recover
        self._lags = False

    def observe(self, lag: float) -> str:
        """Take in one lag, in seconds; return why the replica is fit for reserve only, "" if it is fully fit."""
        self._lags = lag > (self.recover if self._lags else self.most)
        if not self._lags:
            return ""
        if lag > self.most:
            return f"lag of {lag:g} s is over max-lag ({format_duration(self.most)})"
        return f"lag of {lag:g} s is not yet down to recover-lag ({format_duration(self.recover)})"


def _either(row: Row, new: str, old: str) -> str | None:
    return row[new] if new in row else row.get(old)


def _error(row: Row, kind: str) -> str:
    number, text = row.get(f"last_{kind}_errno") or "0", row.get(f"last_{kind}_error") or ""
    if number == "0" and not text:
        return ""
    return f" (error {excerpt(number.encode())[1:-1]}: {excerpt(text.encode())})"


def _seconds(value: str | None) -> float | None:
    """Return seconds, at least 0 because clocks differ; None for NULL and for a value that is not a number."""
    try:
        found = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return max(0.0, found) if math.isfinite(found) else None
