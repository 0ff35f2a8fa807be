"""The rows that the snapshot is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.status.schema import (
    Admin,
    ProbeStatus,
    State,
)

NO_VERDICT: Final = "no verdict yet"


NOT_PROBED: Final = "in maintenance, not probed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The last verdict on one backend: `reason` in words, `since` in Unix seconds, `probes` as the monitor reports.

    `weight` is the one that the backend asks for, None where it asks for none, a part of it in the slow start; `serving` says that it gets new traffic;
    `standby` that it is down only because it plays another part than the wanted one, as a replica where a writer is;
    `unjudged` that it is unknown through our own fault alone, as a login that every backend refuses.
    """

    state: State
    reason: str
    since: float | None
    probes: Sequence[ProbeStatus] = ()
    weight: float | None = None
    serving: bool = False
    standby: bool = False
    unjudged: bool = False


@dataclass(frozen=True, slots=True)
class Override:
    """What an operator set instead of the file: who, and why."""

    admin: Admin
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as the master knows it; `life` is its column's number in `Columns`, None where it has none."""

    index: int
    pid: int | None
    alive: bool
    restarts: int
    life: int | None


@dataclass(frozen=True, slots=True)
class Node:
    """What holds for the daemon as a whole; `uptime` in seconds."""

    name: str
    version: str
    uptime: float
    generation: int
    sha256: str
    valid: bool = True
    overrides: int = 0
