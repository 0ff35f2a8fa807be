"""The rows of the snapshot."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.status.schema import (
    Admin,
    NotifyStatus,
    State,
)

NO_VERDICT: Final = "no verdict yet"


NOT_PROBED: Final = "in maintenance, not probed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The last verdict on one backend: `reason` in words, `since` in Unix seconds, `probes` as the monitor reports them.

    - `weight` is the weight that the backend's probe sets, reduced during a slow start; None if it sets none.
    - `serving` means that the backend gets new traffic.
    - `standby` means that it is down only because it has another role than the wanted one, such as a replica in a
      service for writers.
    - `unjudged` means that it is unknown only through this host's fault, such as a login that every backend refuses.
    """

    state: State
    reason: str
    since: float | None
    probes: Sequence[Mapping[str, Any]] = ()
    weight: float | None = None
    serving: bool = False
    standby: bool = False
    unjudged: bool = False


@dataclass(frozen=True, slots=True)
class Override:
    """An admin state that an operator has set over the file's, with the operator and the reason."""

    admin: Admin
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as the master knows it; `life` is the number of its column in `Columns`, None if it has no column."""

    index: int
    pid: int | None
    alive: bool
    restarts: int
    life: int | None
    draining: bool = False
    """Whether it belongs to a former daemon, and only finishes what is open."""


@dataclass(frozen=True, slots=True)
class Node:
    """The values of the daemon as a whole; `uptime` in seconds."""

    name: str
    version: str
    uptime: float
    generation: int
    sha256: str
    error: str | None = None
    """Why the last reload was refused; None if it was not."""
    on_disk_sha256: str | None = None
    """The digest of the configuration's files as they are on the disk; None if they cannot be read, or before the first
    look."""
    overrides: int = 0
    stopping: bool = False
    closed: bool = False
    """Whether it takes no new clients any more."""


def notify_rows(names: Sequence[str], *counted: Mapping[str, Mapping[str, int]]) -> list[NotifyStatus]:
    """Return the rows of the notifications with these names; each of `counted` has counters by name, which add up."""
    found: list[NotifyStatus] = []
    for name in names:
        counts: Counter[str] = Counter()
        for each in counted:
            counts.update(each.get(name, {}))
        found.append(
            {
                "name": name,
                "passed": counts["passed"],
                "failed": counts["failed"],
                "dropped": counts["dropped"],
                "waiting": counts["waiting"],
            }
        )
    return found
