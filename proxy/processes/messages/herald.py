"""The messages between the master and the herald process."""

from dataclasses import dataclass, field
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
class Refused:
    """From herald: how many clients and requests it has refused since its start, by reason."""

    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """To herald: the view of this instant.  fds: a sealed memfd with the status, then the figures, each as JSON.

    Both numbers are octets.
    """

    status: int
    figures: int


@dataclass(frozen=True, slots=True)
class Events:
    """To herald: events of the timeline, oldest first; with `anew` they replace all that it had."""

    events: list[dict[str, Any]]
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Depart:
    """To herald: take no new clients, finish what is being answered, and end.  Another process has the sockets, too."""


@dataclass(frozen=True, slots=True)
class Link:
    """To herald: keep a connection to the peer, in place of any other; an empty `node` means none from now on.

    `certificate` and `peer_certificate` are PEM texts, the first one with its key.  fds: the socket that listens for the peer.
    """

    node: str
    peer: str = ""
    address: str = ""
    peer_address: str = ""
    port: int = 0
    certificate: str = field(default="", repr=False)
    peer_certificate: str = ""


@dataclass(frozen=True, slots=True)
class Linked:
    """From herald: there is a new connection to the peer, of this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Unlinked:
    """From herald: the connection of this number has ended, or with 0 a try to make one, and why.

    `refused`: the other host is not our peer, or does not accept us.
    """

    number: int
    why: str
    refused: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """To herald: end the connection of this number, and why."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class ToPeer:
    """To herald: pass on a message, in Base64; on another connection than that of this number it is dropped."""

    number: int
    payload: str


@dataclass(frozen=True, slots=True)
class FromPeer:
    """From herald: what the peer has sent, in Base64; nobody has looked at it yet."""

    number: int
    payload: str


Message = Web | Wanted | Refused | Snapshot | Events | Depart | Link | Linked | Unlinked | Drop | ToPeer | FromPeer
