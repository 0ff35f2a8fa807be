"""The followers of a worker: operators who watch connections and sessions begin and end.

Without followers it costs the relays one attribute test.  Each follower gets at most `ROWS` rows every `HAND_ON_PAUSE`
seconds; further rows are dropped, and their number is reported.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from proxy.relay.native.udp import Session
from proxy.relay.observe.connection_log import ended_connection, ended_session, why
from proxy.relay.observe.ended import OTHER, WHY, Ended
from proxy.relay.observe.listing import Row, row
from proxy.relay.observe.wanted import Item, Wanted
from proxy.relay.tcp.service import TcpService
from proxy.relay.udp.sessions import UdpService

if TYPE_CHECKING:
    from proxy.relay.native.poller import Poller
    from proxy.relay.native.tcp_connection import Connection
    from proxy.relay.service import Service

HAND_ON_PAUSE: Final = 0.1  # s
ROWS: Final = 200  # rows for one follower in one pause
FOLLOWERS: Final = 8

Tell = Callable[[int, list[Row], int], None]
"""Called with a follower's number, its rows, and the number of dropped rows."""


@dataclass(slots=True)
class _Follower:
    wanted: Wanted
    rows: list[Row] = field(default_factory=list)
    lost: int = 0


class Followers:
    """All followers of one worker."""

    def __init__(self, relays: Callable[[], Iterable[Any]], poller: "Poller", node: str, tell: Tell) -> None:
        """`relays()` returns all that there are now."""
        self._relays = relays
        self._poller = poller
        self.node = node
        self._tell = tell
        self._followers: dict[int, _Follower] = {}
        self._armed = False

    def add(self, number: int, wanted: Wanted) -> None:
        """Add a follower; the oldest one is removed if there are too many."""
        while len(self._followers) >= FOLLOWERS:
            del self._followers[next(iter(self._followers))]
        self._followers[number] = _Follower(wanted)
        self.attach()

    def remove(self, number: int) -> None:
        """Remove a follower; harmless for an unknown number."""
        self._followers.pop(number, None)
        self.attach()

    def attach(self) -> None:
        """Listen to the relays that there are now, if there are followers."""
        for relay in self._relays():
            if isinstance(relay, TcpService | UdpService):
                relay.followed = self if self._followers else None

    # -- reports of the relays

    def opened(self, item: Item) -> None:
        """Note that a connection's backend is connected, or that a session has begun."""
        service = item.listener.udp.service if isinstance(item, Session) else item.tcp.service
        self._note(item, service, lambda: {"event": "opened", **row(item, self._poller.now)})

    def connection(self, conn: "Connection") -> None:
        """Note a connection that is about to be closed."""
        closed, failed = why(conn)
        self._note(conn, conn.tcp.service, lambda: _row(ended_connection(conn, closed, self.node, failed=failed)))

    def session(self, session: Session, cell: int) -> None:
        """Note a session that has ended; the counter `cell` gives the reason."""
        closed, failed = WHY.get(cell, OTHER)
        now = self._poller.now
        self._note(
            session,
            session.listener.udp.service,
            lambda: _row(ended_session(session, closed, self.node, now, failed=failed)),
        )

    def _note(self, item: Item, service: "Service", make: Callable[[], Row]) -> None:
        made: Row | None = None
        for follower in self._followers.values():
            if follower.wanted.service not in {"", service.plan.name} or item not in follower.wanted:
                continue
            if len(follower.rows) >= ROWS:
                follower.lost += 1
                continue
            made = made or make()
            follower.rows.append(made)
            if not self._armed:
                self._armed = True
                self._poller.at(self._poller.now + HAND_ON_PAUSE, self._due)

    def _due(self, _: float) -> None:
        self._armed = False
        for number, follower in self._followers.items():
            if follower.rows:
                rows, lost = follower.rows, follower.lost
                follower.rows, follower.lost = [], 0
                self._tell(number, rows, lost)


def _row(ended: Ended) -> Row:
    return {"event": "ended", **ended.as_dict()}
