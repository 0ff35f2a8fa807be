"""Lists and resets open connections and sessions in portions: a hundred thousand of them must not delay a packet.

A listing begins with a copy of the references to all of them, which takes about a millisecond for a hundred thousand.
Each page looks at no more than `SCAN` of them and has at most `ROWS` rows.  Connections that end meanwhile are left
out, and so are those that begin after the first page.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from proxy.relay.native.tcp_connection import Connection
from proxy.relay.native.tcp_pair import State
from proxy.relay.native.udp import Session
from proxy.relay.observe.connection_log import asked_of, backend_address
from proxy.relay.observe.ended import endpoint
from proxy.relay.observe.wanted import Item, Wanted
from proxy.relay.sockets.datagram import asked
from proxy.relay.tcp.service import TcpService
from proxy.relay.udp.sessions import UdpService
from proxy.stats.layout import SERVICE_DISCONNECTED

SCAN: Final = 1000
ROWS: Final = 200
LISTINGS: Final = 8  # at a time; the oldest is dropped
PATIENCE: Final = 30.0  # s that a listing is kept after its last page

Row = dict[str, Any]


class Browser:
    """The listings of one worker."""

    def __init__(self, relays: Callable[[], Iterable[Any]]) -> None:
        """`relays()` returns all that there are now."""
        self._relays = relays
        self._listings: dict[int, tuple[Wanted, Iterator[Item], float]] = {}

    def page(self, listing: int, wanted: Wanted | None, now: float, *, reset: bool) -> tuple[list[Row], int, bool]:
        """Return (rows, number of matches, whether there are more); `wanted` begins a listing, None continues it.

        With `reset` all matches are reset, and there are no rows.
        """
        if wanted is not None:
            while len(self._listings) >= LISTINGS:
                del self._listings[next(iter(self._listings))]
            items = iter(self._open(wanted))
        elif listing in self._listings:
            wanted, items, _ = self._listings.pop(listing)
        else:
            return [], 0, False
        rows: list[Row] = []
        met = 0
        for looked, item in enumerate(items, 1):
            if _lives(item) and item in wanted:
                met += 1
                if reset:
                    _reset(item)
                else:
                    rows.append(row(item, now))
            if met >= ROWS or looked >= SCAN:
                self._listings[listing] = wanted, items, now
                return rows, met, True
        return rows, met, False

    def expire(self, now: float) -> None:
        """Drop listings that were not continued for `PATIENCE` seconds."""
        for listing in [one for one, (_, _, at) in self._listings.items() if now - at >= PATIENCE]:
            del self._listings[listing]

    def _open(self, wanted: Wanted) -> list[Item]:
        found: list[Item] = []
        for relay in self._relays():
            if isinstance(relay, TcpService | UdpService) and wanted.service in {"", relay.service.plan.name}:
                found += relay.connections if isinstance(relay, TcpService) else relay.sessions
        return found


def _lives(item: Item) -> bool:
    if isinstance(item, Connection):
        return item.state is not State.CLOSED
    return item.present


def _reset(item: Item) -> None:
    if isinstance(item, Connection):
        item.ends(SERVICE_DISCONNECTED)
        item.close(reset=True)
    else:
        item.listener.udp.disconnect(item)


def row(item: Item, now: float) -> Row:
    """Return an open connection or session as `steelyard connections` shows it; ages in seconds."""
    if isinstance(item, Connection):
        member, target = item.listener.member, item.target
        client, listener = item.source, asked_of(item)
        began, touched = item.accepted, item.touched or item.accepted
        octets = item.bytes_in, item.bytes_out
        leads_to = backend_address(target, member.port, item)
    else:
        member, target = item.listener.member, item.target
        client, listener = item.who, asked(member, item.client)
        began, touched = item.began, item.touched
        octets = item.bytes_in, item.bytes_out
        leads_to = endpoint(item.end.address, item.end.port)
    return {
        "kind": member.transport,
        "service": item.tcp.service.plan.name if isinstance(item, Connection) else item.listener.udp.service.plan.name,
        "client": endpoint(*client[:2]),
        "listener": endpoint(*listener),
        "backend": target.name if target is not None else None,
        "backend_address": leads_to,
        "state": _state(item),
        "age_s": round(now - began, 3),
        "idle_s": round(max(0.0, now - touched), 3),
        "bytes_in": octets[0],
        "bytes_out": octets[1],
    }


def _state(item: Item) -> str:
    if isinstance(item, Session):
        return "open"
    if item.half_closed:
        return "half-closed"
    return item.state.name.lower()
