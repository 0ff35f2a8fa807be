"""The messages between the masters of two hosts: JSON objects with a `kind` [pure].

Two versions at a time can talk: unknown kinds and unknown fields are ignored, new fields have defaults.  Every list and
text has a bound.
"""

from typing import Annotated, Any, Final, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from proxy.peer.acts import Entry, Key, Name, Text
from proxy.peer.clock import ZERO, Node, Stamp

PROTOCOL: Final = 1
"""The version of these messages."""
CHUNK: Final = 200
"""Rows in one message at most; with long texts fewer have room in `framing.LARGEST`."""

Number = Annotated[int, Field(ge=0, le=1 << 53)]
Digest = Annotated[str, Field(max_length=64)]


class MessageError(Exception):
    """What came is no message; says why."""


class Message(BaseModel):
    """One message."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class Hello(Message):
    """First of all, from both: the host's name, this life of its daemon, the versions of protocol and program."""

    kind: Literal["hello"] = "hello"
    node: Node
    life: Annotated[str, Field(max_length=64)]
    protocol: Number = PROTOCOL
    program: Annotated[str, Field(max_length=64)] = ""
    share: Annotated[tuple[Annotated[str, Field(max_length=32)], ...], Field(max_length=32)] = ()


class Beat(Message):
    """Once a second: a sign of life of the master, its time (Unix ms), its acts as a digest, its file."""

    kind: Literal["beat"] = "beat"
    number: Number
    wall: Number
    acts: Digest = ""
    sha256: Digest = ""
    verdicts: Number = 0
    """The number of the last message with verdicts."""


class Have(Message):
    """The acts that a host knows; the other one answers with those that are missing."""

    kind: Literal["have"] = "have"
    floor: Stamp = ZERO
    stamps: Annotated[tuple[tuple[Key, Stamp], ...], Field(max_length=CHUNK)] = ()
    first: bool = True
    last: bool = True
    """The list is cut into several messages: the first one, the last one."""


class Acted(Message):
    """Acts, new ones or such that were missing.  One with a number is answered."""

    kind: Literal["acts"] = "acts"
    number: Number = 0
    floor: Stamp = ZERO
    entries: Annotated[tuple[Entry, ...], Field(max_length=CHUNK)] = ()


class Result(Message):
    """What became of an act: in force there, or why not."""

    key: Key
    ok: bool
    text: Text = ""


class Answer(Message):
    """The answer to acts with a number."""

    kind: Literal["answer"] = "answer"
    number: Number
    results: Annotated[tuple[Result, ...], Field(max_length=CHUNK)] = ()
    error: Text = ""


class VerdictRow(Message):
    """A host's verdict on a backend; `at` in Unix seconds."""

    service: Name
    backend: Name
    state: Literal["up", "down", "reserve", "unknown"]
    at: float | None = None
    reason: Text = ""


class Verdicts(Message):
    """Verdicts: those that have changed, or with `first` the beginning of all."""

    kind: Literal["verdicts"] = "verdicts"
    number: Number
    first: bool = False
    rows: Annotated[tuple[VerdictRow, ...], Field(max_length=CHUNK)] = ()


class Ask(Message):
    """A question with a number: `what` names it, `more` are its arguments."""

    kind: Literal["ask"] = "ask"
    number: Number
    what: Annotated[str, Field(max_length=32)]
    more: dict[str, Any] = Field(default_factory=dict)


class Reply(Message):
    """A part of the answer to a question, in the order of `part`; with `last` it is whole."""

    kind: Literal["reply"] = "reply"
    number: Number
    part: Number = 0
    last: bool = True
    text: Annotated[str, Field(max_length=40_000)] = ""
    error: Text = ""


class EventRow(Message):
    """An event of the other host's timeline."""

    at: Annotated[float, Field(ge=0, le=1e12)]
    kind: Annotated[str, Field(max_length=32)]
    subject: Text
    text: Annotated[str, Field(max_length=2000)]
    level: Literal["debug", "info", "warning", "error"] = "info"


class Events(Message):
    """Events as they happen; `lost` is the number that were left out before them."""

    kind: Literal["events"] = "events"
    lost: Number = 0
    rows: Annotated[tuple[EventRow, ...], Field(max_length=50)] = ()


Any_ = Union[Hello, Beat, Have, Acted, Answer, Verdicts, Ask, Reply, Events]  # noqa: UP007 - pydantic takes it apart
_ANY: Final[TypeAdapter[Any_]] = TypeAdapter(Annotated[Any_, Field(discriminator="kind")])


def encode(message: Message) -> bytes:
    """Return a message as JSON."""
    return message.model_dump_json(exclude_defaults=False).encode()


def decode(payload: bytes) -> Any_ | None:
    """Return the message of a payload, None for one of a kind that this version does not know; raises MessageError."""
    try:
        return _ANY.validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "union_tag_invalid":
            return None
        where = ".".join(str(part) for part in first["loc"])
        raise MessageError(f"{where}: {first['msg']}"[:200] if where else first["msg"][:200]) from None
