"""Decides from a PostgreSQL server's own functions whether it has the wanted role, and how far it is behind: pure.

A standby's lag is the age of the last transaction that it has replayed, unless it has replayed all that it has received
over a living connection: then it is not behind.  A primary at rest sends nothing, and its last transaction may be hours
old.  So the lag is at most the time since this standby was last seen with everything replayed (`Behind`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from health.probes.base import Failed, excerpt

STATE: Final = """
SELECT pg_is_in_recovery()::text,
 (EXISTS (SELECT FROM pg_stat_wal_receiver))::text,
 CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn())::text END,
 CASE WHEN pg_is_in_recovery() THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::text END
""".replace("\n", "").lstrip()
"""One row; every account may ask, and PostgreSQL 10 and later answer."""


@dataclass(frozen=True, slots=True)
class State:
    """The state of a server; `age` is that of the last replayed transaction, in seconds, None if there was none."""

    recovers: bool
    connected: bool
    replayed: bool
    age: float | None


def state_of(rows: Sequence[Sequence[str | None]]) -> State:
    """Return the state in the answer to `STATE`; raises `Failed` if it is another answer."""
    if len(rows) != 1 or len(rows[0]) != 4 or rows[0][0] not in {"true", "false"}:  # noqa: PLR2004 - the columns of STATE
        raise Failed("answered the question for its role with something else")
    recovers, connected, replayed, age = rows[0]
    return State(recovers == "true", connected == "true", replayed == "true", _seconds(age))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise Failed(f"told {excerpt(text.encode())} as its lag, not seconds")
    return max(0.0, found)  # the primary's clock may be ahead


class Behind:
    """Tracks from run to run when a standby was last seen with everything replayed."""

    __slots__ = ("_current",)

    def __init__(self) -> None:
        self._current = -math.inf  # monotonic seconds

    def lag(self, state: State, now: float) -> float | None:
        """Return the lag in seconds, None if it cannot be told; `now` in monotonic seconds."""
        if state.connected and state.replayed:
            self._current = now
            return 0.0
        since = now - self._current
        if state.age is None:
            return since if math.isfinite(since) else None
        return min(state.age, since)
