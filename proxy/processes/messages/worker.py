"""The messages between the master and a worker."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Setup:
    """To a worker, first of all: what to serve.

    fds: its column (to write), its journal, the templates of clients that keep their backends, and clients' rates.
    """

    plan: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listen:
    """To a worker: poll these members, (listener, index, service, transport, address, port) each.  fds: as many."""

    members: list[list[Any]]


@dataclass(frozen=True, slots=True)
class Unlisten:
    """To a worker: poll these members no more, (listener, index) each.

    With `drain` the listener goes for good: the clients that are queued in it are served first.
    """

    members: list[list[int]]
    drain: bool = False


@dataclass(frozen=True, slots=True)
class Verdicts:
    """To a worker: (service slot, backend slot, verdict, admin) for each backend that changed; at first, of all."""

    changes: list[list[Any]]


@dataclass(frozen=True, slots=True)
class Weights:
    """To a worker: (service slot, backend slot, weight) for each backend whose weight is another than configured."""

    changes: list[list[int]]


@dataclass(frozen=True, slots=True)
class Services:
    """To a worker: these services (`ServicePlan`s as trees) are new or have changed, and the `gone` ones are removed.

    `gone` has (slot, seconds) of each: after so many seconds what is still open there is cut.  Answered with `Confirmed`.
    """

    generation: int
    services: list[dict[str, Any]]
    gone: list[list[Any]]


@dataclass(frozen=True, slots=True)
class Settings:
    """To a worker: the limit on its connections, and the connection log (a `LogPlan` as a tree), have changed.

    If the log goes to another file now, `LogFile` follows.
    """

    max_connections: int
    log: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """From a worker: it references nothing any more that is not in this generation of the configuration.

    It comes when all that is open in services that are gone has ended.
    """

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
    """From a worker: so many queries of a `Replay` were asked again.  `at` is Unix time."""

    number: int
    queries: int
    at: float


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

    The `first` portion of a `listing` says which are meant ("" for any).
    """

    number: int
    listing: int
    first: bool
    service: str
    client: str
    backend: str
    act: str


@dataclass(frozen=True, slots=True)
class Listed:
    """From a worker: a portion, how many it met, and whether there are more."""

    number: int
    rows: list[dict[str, Any]]
    met: int
    more: bool


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
    """To a worker: which backend would a client get?  `port` 0 and `query` "" mean "not given".  Answered with `Picked`."""

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
    """To a worker: take nothing new, finish what is open within `timeout` seconds, then leave.

    With `hand_over` a successor polls the same members: clients that are queued in them are left to it, and `Sessions`
    hand the UDP sessions over.
    """

    timeout: float
    hand_over: bool = False


@dataclass(frozen=True, slots=True)
class Sessions:
    """From a worker that hands over, then to one of the successor: UDP sessions, rows of `proxy.relay.udp.handover`.

    fds: as many, the sockets to the backends.  `last` is True in the last one.
    """

    rows: list[list[Any]]
    last: bool


@dataclass(frozen=True, slots=True)
class Hint:
    """From a worker: real traffic failed on a backend."""

    service: int
    backend: int


@dataclass(frozen=True, slots=True)
class Failing:
    """From a worker: so many attempts of real traffic in a row have failed on a backend as eject it.  `at` is Unix time."""

    service: int
    backend: int
    failures: int
    at: float


Message = (
    Setup
    | Listen
    | Unlisten
    | Verdicts
    | Weights
    | Services
    | Settings
    | Confirmed
    | Siblings
    | Replay
    | Replayed
    | Prepare
    | Prepared
    | LogFile
    | Browse
    | Listed
    | Follow
    | Happened
    | Pick
    | Picked
    | Drain
    | Sessions
    | Hint
    | Failing
)
