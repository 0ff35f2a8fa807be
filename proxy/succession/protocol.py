"""The messages between a daemon and its successor, which may be another version.  Pure.

They travel on a SOCK_SEQPACKET socket as `processes.channel` frames them, each as one JSON object with a "kind".  This
protocol is to stay small and as it is: a field that is added gets a default, so that both versions can do without it.

    predecessor                                successor
    Hello, Hold..., State  ------------------>
                           <------------------ Ready        its children run, what is new is bound, nothing is polled
    Hold..., Go            ------------------>              nothing is written, decided or sent by the old one any more
                           <------------------ Polling      the old one can no longer go back
    Gone, Told, Sessions   ------------------>              of its workers, while they finish what is open
                           <------------------ Verdicts, Drain

A successor that cannot start says `Refused`, and the predecessor goes on as before, as it does if the successor ends
before `Polling`.  A predecessor that has waited too long says `Refused` as well, and the successor ends, even if its
`Polling` was under way.  If the predecessor ends before `Go`, so does the successor; after that it goes on.
"""

import json
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, get_args, get_origin, get_type_hints

from proxy.processes.codec import MessageError

VERSION: Final = 1


class ProtocolError(MessageError):
    """What came is no message of this protocol."""


@dataclass(frozen=True, slots=True)
class Hello:
    """From the predecessor, first of all: the version of this protocol, that of the program, and its process."""

    version: int
    steelyard: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """From the predecessor: descriptors by name.  fds: as many."""

    names: list[str]


@dataclass(frozen=True, slots=True)
class State:
    """From the predecessor: `document.State` as JSON."""

    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """From the successor: it can begin."""

    pid: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """From either: there will be no succession, and why; `code` is what a command exits with: 2 for a bad file."""

    why: str
    code: int = 1


@dataclass(frozen=True, slots=True)
class Go:
    """From the predecessor: begin; `document.Late` as JSON has what may have changed since `State`."""

    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Polling:
    """From the successor: its workers poll; the numbers of the listeners that it has taken over."""

    listeners: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Gone:
    """From the predecessor: a worker, by the number of its life, has ended; `how` in words where that was no drain."""

    life: int
    how: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """From the predecessor: an event for the timeline, as `Event.as_dict` makes it."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sessions:
    """From the predecessor: UDP sessions of one of its workers, as `messages.worker.Sessions` has them.  fds: as many."""

    rows: list[Any]
    last: bool = False


@dataclass(frozen=True, slots=True)
class Drain:
    """From the successor: it stops; what is open may go on for so many seconds."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Verdicts:
    """From the successor: [service, backend, verdict, admin] of each backend of which that has changed."""

    changes: list[Any]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a kind that this version does not know: it is ignored."""

    kind: str


Message = Hello | Hold | State | Ready | Refused | Go | Polling | Gone | Told | Sessions | Drain | Verdicts | Unknown

_KINDS: Final[dict[str, type[Message]]] = {kind.__name__: kind for kind in get_args(Message) if kind is not Unknown}
_TYPES: Final[dict[type[Message], dict[str, type]]] = {
    kind: {name: get_origin(hint) or hint for name, hint in get_type_hints(kind).items()} for kind in _KINDS.values()
}


def encode(message: Message) -> bytes:
    """Message -> JSON."""
    values = {one.name: getattr(message, one.name) for one in fields(message)}
    return json.dumps({"kind": type(message).__name__, **values}, separators=(",", ":")).encode()


def decode(data: bytes) -> Message:
    """JSON -> message, without the fields that this version does not know.

    Raises ProtocolError for what is no message, and for one without a field that it must have.
    """
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a message of {len(data)} octets is no JSON: {error}") from None
    name = tree.get("kind") if isinstance(tree, dict) else None
    if not isinstance(name, str):
        raise ProtocolError(f"a message of {len(data)} octets has no kind")
    kind = _KINDS.get(name)
    if kind is None:
        return Unknown(name)
    values = {}
    for one in fields(kind):
        if one.name in tree:
            values[one.name] = _checked(name, one.name, tree[one.name], _TYPES[kind][one.name])
        elif one.default is MISSING and one.default_factory is MISSING:
            raise ProtocolError(f"{name} without {one.name}")
    return kind(**values)


def _checked(kind: str, name: str, value: Any, wanted: type) -> Any:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool):
        raise ProtocolError(f"{kind}: {name} is no {wanted.__name__}")
    return value
