"""The messages between the master and its children; `codec` has their form on the channel."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Setup:
    """To a worker, first of all: what to serve.

    fds: its column (to write), its journal, the templates if clients keep their backends, their rates if these are bounded.
    """

    plan: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listen:
    """To a worker: poll these members, (listener, index, service, transport, address, port) each.  fds: as many."""

    members: list[list[Any]]


@dataclass(frozen=True, slots=True)
class Unlisten:
    """To a worker: poll these members no more, (listener, index) each."""

    members: list[list[int]]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """To a worker: (service slot, backend slot, verdict, admin) for each backend that changed; at first, of all."""

    changes: list[list[Any]]


@dataclass(frozen=True, slots=True)
class Weights:
    """To a worker: (service slot, backend slot, weight) for each backend whose weight is another than configured."""

    changes: list[list[int]]


@dataclass(frozen=True, slots=True)
class Backends:
    """To a worker: this service (a `ServicePlan` as a tree) has other backends now.  Answered with `Confirmed`."""

    generation: int
    service: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """From a worker: it references nothing any more that is not in this generation of the configuration."""

    generation: int


@dataclass(frozen=True, slots=True)
class Siblings:
    """To a worker: the columns of all other workers.  fds: as many, to read."""

    count: int


@dataclass(frozen=True, slots=True)
class Replay:
    """To a worker: ask again what a dead one had in flight.  fds: its journal.  Answered with `Replayed`."""

    number: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """From a worker: so many queries of a `Replay` were asked again."""

    number: int
    queries: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """From a worker: make so many transparent sockets of an address family and a type (their numbers)."""

    family: int
    kind: int
    count: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """To a worker: the answer to a `Prepare` for `asked` sockets.  fds: as many, or fewer where we are out of them."""

    family: int
    kind: int
    asked: int


@dataclass(frozen=True, slots=True)
class LogFile:
    """To a worker: write the connection log to this file from now on.  fds: it."""


@dataclass(frozen=True, slots=True)
class Browse:
    """To a worker: show ("list") or end ("reset") a portion of what is open.  Answered with `Listed`.

    `first` is 1 for the first portion of a `listing`, which says which are meant ("" for any), then 0.
    """

    number: int
    listing: int
    first: int
    service: str
    client: str
    backend: str
    act: str


@dataclass(frozen=True, slots=True)
class Listed:
    """From a worker: a portion, how many it met, and whether (1) there are more."""

    number: int
    rows: list[dict[str, Any]]
    met: int
    more: int


@dataclass(frozen=True, slots=True)
class Follow:
    """To a worker: tell what begins ("on") and ends of what is meant, by `Happened`, until told "off"."""

    follower: int
    service: str
    client: str
    backend: str
    act: str


@dataclass(frozen=True, slots=True)
class Happened:
    """From a worker: what a follower wants to know, and how much more there was."""

    follower: int
    rows: list[dict[str, Any]]
    lost: int


@dataclass(frozen=True, slots=True)
class Pick:
    """To a worker: whom would this client of a service get?  `port` 0 and `query` "" are not said.  Answered with `Picked`."""

    number: int
    service: str
    client: str
    port: int
    query: str


@dataclass(frozen=True, slots=True)
class Picked:
    """From a worker: what `foretell` found; empty where it does not poll that service."""

    number: int
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drain:
    """To a worker: take nothing new, finish what is open within `timeout` seconds, then leave."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Ready:
    """From a child: it runs, without privileges."""

    pid: int


@dataclass(frozen=True, slots=True)
class Hint:
    """From a worker: real traffic failed on a backend."""

    service: int
    backend: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """To health: real traffic failed on this target, which is to be probed soon."""

    key: str


@dataclass(frozen=True, slots=True)
class Failing:
    """From a worker: so many attempts of real traffic in a row have failed on a backend as eject it."""

    service: int
    backend: int
    failures: int


@dataclass(frozen=True, slots=True)
class Watch:
    """To health: these targets, and no others."""

    targets: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Probed:
    """From health: the verdict on a target changed, or the weight that it asks for.  `at` is Unix time.

    `weight` is -1 for the configured one.
    """

    key: str
    state: str
    reason: str
    at: float
    weight: int = -1


@dataclass(frozen=True, slots=True)
class Secrets:
    """To health, before it watches and when one changes: all password files, path -> [content in Base64, or what is wrong].

    One of the two is "".
    """

    files: dict[str, list[str]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Icmp:
    """To health, before it watches: so many raw ICMP sockets to ping with.  fds: as many."""

    count: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """From health: something that no verdict says, `state` "raised" or "over".  `at` is Unix time."""

    service: str
    text: str
    state: str
    at: float


@dataclass(frozen=True, slots=True)
class Run:
    """To health: run the probes of these targets once, now.  Answered with `Ran`."""

    number: int
    keys: list[str]


@dataclass(frozen=True, slots=True)
class Ran:
    """From health: what the probes of a `Run` found, a row each as `Monitor.run_now` has it."""

    number: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Ask:
    """To health and to vrrp: report."""

    number: int


@dataclass(frozen=True, slots=True)
class Report:
    """From health: the last result of each probe, by target."""

    number: int
    probes: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Beat:
    """From health each second, from vrrp each 0.1 s, to vrrp each 0.25 s: the loop of whoever sends it comes round."""


@dataclass(frozen=True, slots=True)
class Route:
    """To vrrp, first of all: `vrrp.settings.Settings` as a tree, and what `Runner.handover` of a dead one said last.

    `standby` names routers that are not to take part; `orphaned` is how long (s) it may go on without a master.
    """

    settings: dict[str, Any] = field(repr=False)  # it has keys
    handover: dict[str, list[Any]]
    standby: list[str]
    orphaned: float


@dataclass(frozen=True, slots=True)
class Fitness:
    """To vrrp, each time it changes: how able this host is.

    Router -> what is added to its priority by name; router -> what it cannot do without and has not; routers for which
    every tracked service has its first verdict; "" or why nobody serves here at all.
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
    """From vrrp: a `Standby` is done, and the addresses are gone, but of these routers, whose nobody else has taken."""

    number: int
    left: list[str]


@dataclass(frozen=True, slots=True)
class Resume:
    """To vrrp: let these routers take part again."""

    names: list[str]


@dataclass(frozen=True, slots=True)
class Leave:
    """To vrrp: leave, and end; `how` is "hand over" (a live peer takes the addresses first) or "at once"."""

    how: str


@dataclass(frozen=True, slots=True)
class Held:
    """From vrrp, each 0.1 s and at each move: what a successor is to know."""

    handover: dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Moved:
    """From vrrp: a router by name has moved, and why."""

    name: str
    state: str
    previous: str
    reason: str
    priority: int


@dataclass(frozen=True, slots=True)
class Told:
    """From vrrp: something for people to read; `level` as of an event."""

    name: str
    text: str
    level: str


@dataclass(frozen=True, slots=True)
class Routing:
    """From vrrp, the answer to `Ask`: its routers as `Runner.status` has them, and its counters."""

    number: int
    routers: list[dict[str, Any]]
    counters: dict[str, dict[str, int]]


Message = (
    Setup
    | Listen
    | Unlisten
    | Verdicts
    | Weights
    | Backends
    | Confirmed
    | Siblings
    | LogFile
    | Browse
    | Listed
    | Follow
    | Happened
    | Pick
    | Picked
    | Replay
    | Replayed
    | Prepare
    | Prepared
    | Drain
    | Ready
    | Hint
    | Suspect
    | Failing
    | Watch
    | Probed
    | Secrets
    | Icmp
    | Alarm
    | Run
    | Ran
    | Ask
    | Report
    | Beat
    | Route
    | Fitness
    | Standby
    | StoodBy
    | Resume
    | Leave
    | Held
    | Moved
    | Told
    | Routing
)
ANSWERS = (Ran, Report, StoodBy, Routing)
"""What is sent only because a message with the same `number` asked for it."""
