"""The messages between the master and the vrrp process."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Route:
    """To vrrp, first of all: `vrrp.settings.Settings` as a tree, and what `Runner.handover` of a dead one said last.

    `standby` names routers that are not to take part; `orphaned` is how long (s) it may go on without a master;
    `state_dir` is where it keeps the numbers of signed adverts.  With `quiet` the dead one was an earlier version of this
    daemon: what goes on as it was is no news.  Answered with `Rerouted`.
    """

    number: int
    settings: dict[str, Any] = field(repr=False)  # it has keys
    handover: dict[str, list[Any]]
    standby: list[str]
    orphaned: float
    state_dir: str
    quiet: bool


@dataclass(frozen=True, slots=True)
class Reroute:
    """To vrrp: have these settings from now on, and these parts of the priorities with them; the rest as `Route`."""

    number: int
    settings: dict[str, Any] = field(repr=False)  # it has keys
    parts: dict[str, dict[str, int]]
    orphaned: float


@dataclass(frozen=True, slots=True)
class Rerouted:
    """From vrrp: what a `Route` or `Reroute` says is done, and routers have left; `faults` are those that remain, in words."""

    number: int
    faults: list[str]


Fit = bool | Literal["unjudged"] | None
"""Whether a tracked thing is well; "unjudged": a fault of this host hides it; None: there is no verdict yet."""


@dataclass(frozen=True, slots=True)
class Fitness:
    """To vrrp, each time it changes: how able this host is.

    Router -> what is added to its priority by name; router -> what it cannot do without and has not; routers for which
    every tracked service has its first verdict; "" or why this host serves nothing at all.
    """

    parts: dict[str, dict[str, int]]
    faults: dict[str, list[str]]
    known: list[str]
    lost: str


@dataclass(frozen=True, slots=True)
class Standby:
    """To vrrp: hand the addresses of these routers over, and do not take them until `Resume`.  Answered with `StoodBy`."""

    number: int
    names: list[str]
    reason: str


@dataclass(frozen=True, slots=True)
class StoodBy:
    """From vrrp: a `Standby` is done, and the addresses are gone, except these routers', which no other host took."""

    number: int
    left: list[str]


@dataclass(frozen=True, slots=True)
class Resume:
    """To vrrp: let these routers take part again."""

    names: list[str]


@dataclass(frozen=True, slots=True)
class Leave:
    """To vrrp: leave, and end; `how` is "hand over" (a live peer takes the addresses first), "at once" or "abandon".

    "abandon": a successor on this host has the routers, so nothing is sent and the addresses stay as they are.
    """

    how: str


@dataclass(frozen=True, slots=True)
class Left:
    """From vrrp: the addresses are gone.  The process ends when its notify scripts have run."""


@dataclass(frozen=True, slots=True)
class Held:
    """From vrrp, each 0.1 s and at each move: what a successor is to know, of the routers of which it has changed.

    `number` is that of the settings by whose names it speaks.
    """

    number: int
    handover: dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Moved:
    """From vrrp: a router by name has moved, and why.  `at` is Unix time."""

    name: str
    state: str
    previous: str
    reason: str
    priority: int
    at: float


@dataclass(frozen=True, slots=True)
class Told:
    """From vrrp: something for people to read; `kind` and `level` as of an event, `at` is Unix time."""

    name: str
    text: str
    level: str
    at: float
    kind: str = "vrrp"


@dataclass(frozen=True, slots=True)
class Routing:
    """From vrrp, the answer to `Ask`: its routers as `Runner.status` has them, its counters, those of notifications."""

    number: int
    routers: list[dict[str, Any]]
    counters: dict[str, dict[str, int]]
    notified: dict[str, dict[str, int]]


Message = (
    Route | Reroute | Rerouted | Fitness | Standby | StoodBy | Resume | Leave | Left | Held | Moved | Told | Routing
)
