"""The connection log of one worker: it chooses which ends are logged, and limits the number of lines.

Laws:
- A connection that ended well costs one look-up if only failures are logged, and one attribute test if nothing is.
- At most `LINES` lines (`FAILURES` if only failures are logged) are made in `HAND_ON_PAUSE` seconds, and at most
  `WAITING` octets wait to be written; further lines are dropped and counted.  So the cost of a flood of refused clients
  is limited.
- The loop formats lines and hands them on every `HAND_ON_PAUSE` seconds; only the thread writes (`sink`).
"""

import contextlib
import time
from typing import TYPE_CHECKING, Final

from proxy.relay.observe.ended import BACKEND_FIN, CLIENT_FIN, OTHER, WHY, Ended, asked, endpoint, line
from proxy.relay.observe.sink import Collector, Descriptor, Nowhere, Sink, Writer
from proxy.relay.proxy_header.datagrams import who
from proxy.relay.sockets import datagram
from proxy.relay.sockets.datagram import WILDCARDS
from proxy.stats.layout import SERVICE_CLOSED

if TYPE_CHECKING:
    from proxy.relay.dns.inflight import Refused
    from proxy.relay.native.poller import Poller
    from proxy.relay.native.tcp_connection import Connection
    from proxy.relay.native.udp import Session
    from proxy.relay.plan import LogPlan
    from proxy.relay.service import Service
    from proxy.relay.target import Target

HAND_ON_PAUSE: Final = 0.1  # s between two times that lines are handed on
LINES: Final = 500  # in one pause
FAILURES: Final = 50  # the same if only failures are logged: a flood of them must cost next to nothing
HAND_OVER: Final = 64 << 10  # octets that are handed on before the pause ends
WAITING: Final = 1 << 20  # octets that are not written yet
STDOUT: Final = 1


class ConnectionLog:
    """Makes a line of each logged end."""

    def __init__(self, plan: "LogPlan", poller: "Poller") -> None:
        self._poller = poller
        self._take(plan)
        self._writer = Writer(_sink(plan))
        self._lines: list[bytes] = []
        self._octets = 0  # octets of `_lines`
        self._made = 0  # lines in this pause
        self._handed = 0  # octets, since the start
        self._armed = False
        self.lines = 0  # lines that were handed on
        self._dropped = 0

    def _take(self, plan: "LogPlan") -> None:
        self._plan = plan
        self._all = plan.connections == "all"
        self._most = LINES if self._all else FAILURES

    @property
    def wanted(self) -> bool:
        """Return False if no end is logged."""
        return self._plan.connections != "off"

    def change(self, plan: "LogPlan") -> None:
        """Log other ends, in another format, or to another place; the lines until now still go to the old one.

        If that is another file now, the old one is written until `open` brings the new one.
        """
        old = self._plan
        self._hand_on()
        self._take(plan)
        if not self.wanted:
            self._writer.turn_to(Nowhere())
        elif plan.to.startswith("/") and old.connections != "off":
            return
        elif (plan.to, plan.address, plan.port) != (old.to, old.address, old.port) or old.connections == "off":
            self._writer.turn_to(_sink(plan))

    @property
    def lost(self) -> int:
        """Return the number of lines that were dropped here or could not be written."""
        return self._dropped + self._writer.lost

    def open(self, fd: int) -> None:
        """Write to this file from now on, and own the descriptor."""
        self._writer.turn_to(Descriptor(fd))

    def close(self) -> None:
        """Write the remaining lines."""
        self._hand_on()
        self._writer.close()

    # -- ends

    def connection(self, conn: "Connection") -> None:
        """Log a TCP connection that is about to be closed."""
        if conn.why == SERVICE_CLOSED and not self._all:
            return  # the usual end
        closed, failed = why(conn)
        if (failed or self._all) and self._room():
            self._add(ended_connection(conn, closed, self._plan.node, failed=failed))

    def session(self, session: "Session", cell: int) -> None:
        """Log a UDP session that has ended; the counter `cell` gives the reason."""
        closed, failed = WHY.get(cell, OTHER)
        if (failed or self._all) and self._room():
            self._add(ended_session(session, closed, self._plan.node, self._poller.now, failed=failed))

    def query(self, service: "Service", query: "Refused", cell: int) -> None:
        """Log a DNS query that was answered with the relay's own SERVFAIL."""
        if self._room():
            closed, failed = WHY.get(cell, OTHER)
            self._add(ended_query(service, query, closed, self._plan.node, self._poller.now, failed=failed))

    # -- lines

    def _room(self) -> bool:
        if not self._armed:
            self._armed = True
            self._poller.at(self._poller.now + HAND_ON_PAUSE, self._due)
        if self._made >= self._most or self._handed + self._octets - self._writer.done >= WAITING:
            self._dropped += 1
            return False
        return True

    def _add(self, ended: Ended) -> None:
        text = line(ended, self._plan.format)
        self._lines.append(text)
        self._made += 1
        self._octets += len(text)
        if self._octets >= HAND_OVER:
            self._hand_on()

    def _due(self, _: float) -> None:
        self._armed = False
        self._made = 0
        self._hand_on()

    def _hand_on(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            self.lines += len(lines)
            self._handed += self._octets
            self._octets = 0
            self._writer.put(lines)


def _sink(plan: "LogPlan") -> Sink:
    """Return the first sink; a file's descriptor comes from the master later."""
    if plan.connections == "off":
        return Nowhere()
    if plan.address:
        return Collector(plan.address, plan.port)
    if plan.to == "stdout":
        with contextlib.suppress(OSError):  # it may be closed
            return Descriptor(STDOUT)
    return Nowhere()


def why(conn: "Connection") -> tuple[str, bool]:
    """Return the word for why a connection has ended, and whether it failed."""
    if conn.why < 0:
        return OTHER
    return WHY.get(conn.why) or (BACKEND_FIN if conn.backend_first else CLIENT_FIN)


def ended_connection(conn: "Connection", closed: str, node: str, *, failed: bool) -> Ended:
    """Return the record of a connection that is about to be closed."""
    now = conn.tcp.poller.now
    target = conn.target
    return Ended(
        at=time.time() - (now - conn.accepted),
        kind="tcp",
        node=node,
        service=conn.tcp.service.plan.name,
        client=endpoint(*conn.source[:2]),
        listener=endpoint(*asked_of(conn)),
        backend=target.name if target is not None else None,
        backend_address=backend_address(target, conn.listener.member.port, conn),
        bytes_in=conn.bytes_in,
        bytes_out=conn.bytes_out,
        connect_ms=round((conn.began - conn.accepted) * 1e3, 3) if conn.linked else None,
        duration_s=round(now - conn.accepted, 3),
        tries=len(conn.tried),
        closed=closed,
        failed=failed,
    )


def ended_session(session: "Session", closed: str, node: str, now: float, *, failed: bool) -> Ended:
    """Return the record of a UDP session that ends now."""
    member = session.listener.member
    return Ended(
        at=time.time() - (now - session.began),
        kind="udp",
        node=node,
        service=session.listener.udp.service.plan.name,
        client=endpoint(*session.who[:2]),
        listener=endpoint(*datagram.asked(member, session.client)),
        backend=session.target.name,
        backend_address=endpoint(session.end.address, session.end.port),
        bytes_in=session.bytes_in,
        bytes_out=session.bytes_out,
        connect_ms=None,
        duration_s=round(now - session.began, 3),
        tries=1,
        closed=closed,
        failed=failed,
    )


def ended_query(service: "Service", query: "Refused", closed: str, node: str, now: float, *, failed: bool) -> Ended:
    """Return the record of a DNS query that no backend answered."""
    member = query.listener.member
    target = query.target
    return Ended(
        at=time.time() - (now - query.started),
        kind="dns",
        node=node,
        service=service.plan.name,
        client=endpoint(*who(query.client, query.told)[:2]),
        listener=endpoint(*datagram.asked(member, query.client)),
        backend=target.name if target is not None else None,
        backend_address=backend_address(target, member.port),
        bytes_in=len(query.message),
        bytes_out=0,
        connect_ms=None,
        duration_s=round(max(0.0, now - query.started), 3),
        tries=query.tries,
        closed=closed,
        failed=failed,
        query=asked(query.message, query.end),
    )


def asked_of(conn: "Connection") -> tuple[str, int]:
    """Return the address that the client connected to: from the PROXY header, else the local address."""
    if conn.asked is not None:
        return conn.asked[0], conn.asked[1]
    member = conn.listener.member
    if member.address not in WILDCARDS:
        return member.address, member.port
    return conn.local or (member.address, member.port)


def backend_address(target: "Target | None", port: int, item: object = None) -> str | None:
    """Return a backend's address and port, of a connection `item` to it where that leads; `port` is the listener's."""
    if target is None:
        return None
    address, own = target.where(item)
    return endpoint(address, own or port)
