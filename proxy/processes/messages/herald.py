"""The messages between the master and the herald process."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Web:
    """To herald: answer HTTP on these listeners ("127.0.0.1:9600"), and no others, for clients in these networks.

    fds: a listening socket for each listener.
    """

    node: str
    listen: list[str]
    allow: list[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """From herald: somebody reads the snapshot.  The master sends it for some seconds from now on."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """To herald: the view of this instant, as JSON.  fds: a sealed memfd that holds it."""

    octets: int


@dataclass(frozen=True, slots=True)
class Events:
    """To herald: events of the timeline, oldest first; with `anew` they replace all that it had."""

    events: list[dict[str, Any]]
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Depart:
    """To herald: take no new clients, finish what is being answered, and end.  Another process has the sockets, too."""


Message = Web | Wanted | Snapshot | Events | Depart
