"""Decides from a Redis server's INFO whether it has the wanted role, and how far it is behind: pure.

Redis tells no lag of the data.  A replica's lag is here the time since it last heard of its primary: a primary sends
something at least every `repl-ping-replica-period` (10 s), so that max-lag should be longer than that.
"""

from dataclasses import dataclass
from typing import Final

from health.probes.base import Failed, excerpt

QUESTION: Final = ("INFO", "replication")
_ROLES: Final = {"master": "primary", "slave": "standby"}


@dataclass(frozen=True, slots=True)
class State:
    """The role of a server (primary or standby), whether its link is up, and its lag in seconds, None for an unknown one."""

    role: str
    linked: bool = True
    lag: float | None = None
    why: str = ""
    """Text: what keeps the link down, "" if it is up."""


def state_of(info: object) -> State:
    """Return the state in the answer to `QUESTION`; raises `Failed` if it is another answer."""
    lines = (line.partition(":") for line in str(info).splitlines()) if isinstance(info, str) else ()
    found = {name.strip(): value.strip() for name, _, value in lines}
    role = _ROLES.get(found.get("role", ""))
    if role is None:
        raise Failed(
            f"does not say its role (role is {excerpt(found.get('role', '').encode('utf-8', 'surrogateescape'))})"
        )
    if role == "primary":
        return State(role)
    if found.get("master_link_status") == "up":
        return State(role, lag=_seconds(found.get("master_last_io_seconds_ago")))
    if found.get("master_sync_in_progress") == "1":
        return State(role, False, _seconds(found.get("master_link_down_since_seconds")), "it copies its primary's data")
    return State(
        role, False, _seconds(found.get("master_link_down_since_seconds")), "it has no connection to its primary"
    )


def _seconds(text: str | None) -> float | None:
    """Return the seconds in `text`, None if there are none: Redis writes -1 for "never"."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 12:  # noqa: PLR2004 - a time since 1970
        return None
    return float(text)
