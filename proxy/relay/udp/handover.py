"""UDP sessions on their way from one daemon's worker to its successor's: a row and the socket to the backend each.

    [listener, service, backend, client's address, client's port, idle seconds, more]

`more` has what few sessions need: the number of the listener's member, the rest of an IPv6 client's address, the local
address that a wildcard listener answers from, and the addresses of a PROXY header.  The successor may be of another
version: it ignores what it does not know, and does without what is missing.  No I/O.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.relay.proxy_header.header import Endpoint, Header

if TYPE_CHECKING:
    from proxy.relay.native.udp import Session
    from proxy.relay.sockets.address import Client

Row = list[Any]


class Moving(NamedTuple):
    """A session, as its row describes it; `member` is -1 if the row does not say it."""

    listener: str
    service: str
    backend: str
    client: "Client"
    idle: float
    member: int
    told: Header | None


def row_of(session: "Session", member: int, now: float) -> Row:
    """Return a session's row; `member` is the number of the listener's socket that its client sends to."""
    listener, client, told = session.listener.member, session.client, session.told
    rest = list(client[2:])
    local = rest.pop() if rest and isinstance(rest[-1], bytes) else None
    more: dict[str, Any] = {"member": member}
    if rest:
        more["rest"] = rest
    if local is not None:
        more["local"] = local.hex()
    if told is not None:
        more["header"] = [told.client, told.asked, told.size]
    service = session.listener.udp.service.plan.name
    return [
        listener.text, service, session.target.name, client[0], client[1], round(max(0.0, now - session.touched), 3), more,
    ]  # fmt: skip


def where_to(row: Sequence[Any]) -> tuple[str, int]:
    """Return the listener of a session, and the number of the member that its client sends to; ("", -1) if that is unclear."""
    try:
        moving = read(row)
    except ValueError:
        return "", -1
    return moving.listener, moving.member


def read(row: Sequence[Any]) -> Moving:
    """Read a row; raise ValueError if it makes no sense."""
    try:
        listener, service, backend, host, port, idle, *others = row
        more = others[0] if others else {}
        client: Client = (str(host), int(port), *map(int, more.get("rest", ())))
        if "local" in more:
            client += (bytes.fromhex(more["local"]),)
        return Moving(
            str(listener), str(service), str(backend), client, float(idle), int(more.get("member", -1)),
            _header(more.get("header")),
        )  # fmt: skip
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"no row of a session: {error}") from error


def _header(parts: Any) -> Header | None:
    if parts is None:
        return None
    client, asked, size = parts
    return Header(_endpoint(client), _endpoint(asked), int(size))


def _endpoint(pair: Any) -> Endpoint | None:
    return None if pair is None else (str(pair[0]), int(pair[1]))
