"""The state that one daemon gives to its successor, as documents.  Pure.

The other side may be another version: what it does not know it ignores, and what is missing has a default; what makes no
sense is a clear refusal (`DocumentError`).  Descriptors are named in the documents and travel beside them:

    control, lock, store, rates, base, listener-NUMBER-MEMBER, column-LIFE, journal-LIFE, nurse-PID
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from proxy.backends.memory import Memory, Row
from proxy.stats.translation import Shape


class DocumentError(Exception):
    """A document cannot be used; says which part, and why."""


class ShapeRow(Row):
    """`stats.translation.Shape`."""

    magic: int
    services: int
    backends: int
    clients: int = 0
    header: tuple[str, ...]
    header_size: int
    service: tuple[str, ...]
    service_size: int
    backend: tuple[str, ...]
    backend_size: int
    latency: int = 0
    latency_cells: int = 0
    client_size: int = 2

    def shape(self) -> Shape:
        """Return the shape."""
        return Shape(**self.model_dump())


class ListenerRow(Row):
    """A listener and the number of its members."""

    number: int = Field(ge=0, lt=1 << 31)
    transport: str
    address: str
    port: int
    members: int = Field(ge=1, le=4096)


class FormerRow(Row):
    """A worker that goes on until its connections are over: the number of its life, and who looks after it."""

    life: int
    index: int
    pid: int
    restarts: int = 0
    nurse: int = 0


class RouterRow(Row):
    """A virtual router: its keys (interface, VRID, family), and what its process said last."""

    keys: tuple[tuple[Any, ...], ...]
    handover: list[Any] | None = None
    state: str = "init"
    standby: bool = False
    standby_since: float | None = None
    standby_reason: str = ""


class Routing(Row):
    """The virtual routers, as `pair.Redundancy.state` has them."""

    routers: tuple[RouterRow, ...] = ()


class State(Row):
    """What a successor needs to start: all that does not change while it does."""

    steelyard: str = ""
    pid: int = 0
    node: str = ""
    state_dir: str = ""
    control: str = ""
    shape: ShapeRow
    services: tuple[tuple[str, int, bool], ...] = ()
    backends: tuple[tuple[tuple[str, str], int, bool], ...] = ()
    lives: int = Field(default=0, ge=0, lt=1 << 62)
    """How many workers have been started so far."""
    generation: int = 1
    salt: str = Field(default="00" * 16, pattern=r"^([0-9a-f]{2})*$")
    listeners: tuple[ListenerRow, ...] = ()
    memory: Memory = Memory()
    acts: tuple[dict[str, Any], ...] | None = None
    """As `backends.saved` has them; None: those of the state directory."""
    routing: Routing | None = None


class Late(Row):
    """What may have changed since `State`: the successor begins with it."""

    opened: tuple[str, ...] = ()
    memory: Memory = Memory()
    workers: tuple[FormerRow, ...] = ()
    routing: Routing | None = None
    notified: dict[str, str] | None = None
    """The states that programs were told last; None: it told of none."""


_Document = TypeVar("_Document", State, Late)


def read(kind: type[_Document], tree: Mapping[str, Any]) -> _Document:
    """Return a document; raises DocumentError."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DocumentError(f"the state of the running daemon cannot be used: {where}: {first['msg']}") from None
    except RecursionError:
        raise DocumentError("the state of the running daemon cannot be used: it is nested too deeply") from None
