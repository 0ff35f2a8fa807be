"""Acts on the admin states of backends, as values and as rows to save [pure]."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.balance.backend import Admin
from proxy.config.model import BackendKey

Row = dict[str, Any]
ADMINS: Final[Mapping[str, Admin]] = {"drain": "drain", "maint": "maint", "ready": "ready"}
LEAVE: Final = "leave"
"""The act of a row for a successor about a backend that is to be removed."""


@dataclass(frozen=True, slots=True)
class Act:
    """An operator's act on a backend, `at` in Unix seconds, `began` in monotonic seconds.

    A drain cuts the remaining connections at `until`, and is `over` then.  `until` is `latest`, unless an operator
    asked for an earlier time (both in monotonic seconds).  `filed` is the admin state of the file at that time.
    """

    admin: Admin
    by: str
    reason: str | None
    at: float
    saved: bool = False
    began: float = 0.0
    until: float = math.inf
    latest: float = math.inf
    over: bool = False
    filed: Admin = "ready"


def to_save(acts: Mapping[BackendKey, Act]) -> list[Row]:
    """Return the rows of the acts that survive a restart."""
    names = ("act", "service", "backend", "filed", "by", "reason", "at")
    rows = [row_of(key, act.admin, act) for key, act in acts.items() if act.saved]
    return [{name: row[name] for name in names} for row in rows]


def row_of(key: BackendKey, name: str, act: Act) -> Row:
    """Return an act with its deadlines, which only processes of this host can use."""
    row = {"act": name, "service": key[0], "backend": key[1], "filed": act.filed, "by": act.by, "reason": act.reason}
    times = {"began": act.began, "until": act.until, "latest": act.latest}
    return {
        **row,
        "at": act.at,
        "saved": act.saved,
        "over": act.over,
        **{name: None if value == math.inf else value for name, value in times.items()},
    }


def act_of(admin: Admin, row: Row) -> Act:
    """Return the act of a row; raises KeyError, TypeError or ValueError."""
    reason = row["reason"]
    if reason is not None and not isinstance(reason, str):
        raise TypeError("the reason is not a text")
    times = {name: math.inf if row.get(name) is None else float(row[name]) for name in ("until", "latest")}
    return Act(
        admin,
        str(row["by"]),
        reason,
        float(row["at"]),
        saved=bool(row.get("saved", True)),
        began=float(row.get("began", 0.0)),
        over=bool(row.get("over", False)),
        filed=ADMINS[row.get("filed", "ready")],
        **times,
    )
