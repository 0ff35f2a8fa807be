"""The backends' side of a DNS service: four connected sockets a backend, with random ports and random query IDs.

A forged answer must match the socket's port and the query's ID (RFC 5452, section 9.2); both come from the kernel's
CSPRNG.  A socket is replaced every minute, so that its port does not stay known, and at once if it is broken: a
connected socket does not survive a change of the host's address or of the backend's route.
"""

import errno
import os
import socket
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from proxy.relay.dns.message import HEADER, OPCODE, QR, is_answer
from proxy.relay.native.poller import DATAGRAM, Poller
from proxy.relay.proxy_header.datagrams import header_for
from proxy.relay.sockets.datagram import BATCH
from proxy.relay.sockets.outgoing import LIFETIME, REOPEN_PAUSE, SHORTAGES, connect
from proxy.stats.layout import (
    BACKEND_BYTES_IN,
    BACKEND_NO_ANSWER,
    BACKEND_PORT_UNREACHABLE,
    BACKEND_SEND_FAILED,
    SERVICE_COALESCED,
    SERVICE_LATE_REPLY,
    SERVICE_MALFORMED_REPLY,
    SERVICE_WRONG_ID,
    SERVICE_WRONG_QUESTION,
)

if TYPE_CHECKING:
    from proxy.relay.dns.inflight import Query
    from proxy.relay.dns.service import DnsService
    from proxy.relay.target import Target

SOCKETS = 4
LINGER = 5.0  # s that a replaced socket is still read
SPARE = 1.0  # s between two replacements of one socket: a broken route must not cost one socket a query
SILENT = 4  # queries in a row without an answer, after which a socket is replaced
MOVED = 256  # queries sent to other backends in one turn
LATE_KEPT = 1024
IDENTICAL_CAP = 64  # identical queries in flight to one backend: each more would help a forger (RFC 5452, section 5)
PENDING_CAP = 32768  # IDs in use on one socket: above it a random free ID is no longer cheap to find

# The host lacks something, or the datagram is too large for any backend: a new socket would not help.
_UNSENT = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE})


def random_numbers() -> Iterator[int]:
    """Yield 32-bit numbers from the kernel's CSPRNG, read 4 KiB at a time: one system call for a thousand queries."""
    while True:
        yield from array("I", os.urandom(4096))


class Upstream:
    """One connected socket and the queries pending on it, by ID."""

    __slots__ = ("_moving", "_receive", "_unmoved", "born", "late", "peer", "pending", "send", "silent", "sock")

    def __init__(self, peer: "Peer", sock: socket.socket, now: float) -> None:
        self.peer = peer
        self.sock = sock
        self.born = now
        self.silent = 0
        self.pending: dict[int, Query] = {}
        self.late: dict[int, None] = {}  # IDs that were given up, the oldest first
        self.send = sock.send
        self._receive = sock.recv_into
        self._moving: list[Query] = []
        self._unmoved = False  # True if queries may have been sent here since `_moving` was made

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - reading tells what happened
        """Read answers and ICMP errors."""
        receive = self._receive
        pending = self.pending
        dns = self.peer.dns
        buffer = dns.buffer
        now = monotonic()
        for _ in range(BATCH):
            try:
                size = receive(buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if self.sock.fileno() < 0:  # closed since it asked to be called again
                    return
                self.broke(error, now)
                continue
            if size < HEADER or not buffer[2] & QR:
                dns.cells[dns.base + SERVICE_MALFORMED_REPLY] += 1
                continue
            ident = buffer[0] << 8 | buffer[1]
            query = pending.get(ident)
            if query is None:
                dns.cells[dns.base + (SERVICE_LATE_REPLY if ident in self.late else SERVICE_WRONG_ID)] += 1
                continue
            # Fast path: nearly every answer repeats the question byte for byte.
            end = query.end
            if (
                size < end or buffer[HEADER:end] != query.question or buffer[5] != query.message[5] or buffer[4]
            ) and not is_answer(dns.view[:size], query.message, end):
                dns.cells[dns.base + SERVICE_WRONG_QUESTION] += 1
                continue
            self.silent = 0
            dns.answer(query, self, ident, size, now)
        self.peer.poller.again(self.on_event)

    def broke(self, error: OSError, now: float) -> bool:
        """Count a socket's error, and replace the socket if that may help; return True if sending may work at once."""
        peer = self.peer
        refused = error.errno == errno.ECONNREFUSED
        peer.dns.cells[peer.target.cell + (BACKEND_PORT_UNREACHABLE if refused else BACKEND_SEND_FAILED)] += 1
        if error.errno in _UNSENT:
            return False
        peer.dns.service.failed(peer.target)
        # An ICMP error does not say which query it is about, so all of them are moved.
        self.ask_elsewhere()
        return refused or peer.replace(self, now)

    def ask_elsewhere(self) -> None:
        """Send the queries whose latest attempt is here to other backends, too.

        It happens in a later round, because the caller may be in the middle of sending.
        """
        self._unmoved = True
        self.peer.poller.again(self._move)

    def _move(self, mask: int) -> None:  # noqa: ARG002 - the poller passes it
        """Send a portion of the pending queries to other backends; an answer from here still counts."""
        dns, now = self.peer.dns, self.peer.poller.now
        if not self._moving:
            self._unmoved = False
            self._moving = list(self.pending.values())
        for query in self._moving[-MOVED:]:
            if not query.done and query.attempts[-1][0] is self:
                dns.ask_elsewhere(query, now)
        del self._moving[-MOVED:]
        if self._moving or self._unmoved:
            self.peer.poller.again(self._move)

    def unanswered(self, now: float) -> None:
        """Count a query that got no answer although any server answers it; after `SILENT` in a row replace the socket."""
        peer = self.peer
        peer.dns.cells[peer.target.cell + BACKEND_NO_ANSWER] += 1
        self.silent += 1
        if self.silent >= SILENT:
            peer.dns.service.hint(peer.target)
            peer.replace(self, now)

    def forget(self, ident: int) -> None:
        """Remember an ID that was given up: its answer is counted as late, not as forged, and reaches no other client."""
        late = self.late
        if len(late) >= LATE_KEPT:
            del late[next(iter(late))]
        late[ident] = None


@dataclass(slots=True, eq=False)
class Peer:
    """One backend at one port."""

    dns: "DnsService"
    target: "Target"
    port: int
    poller: Poller
    sockets: list[Upstream | None] = field(default_factory=lambda: [None] * SOCKETS)
    asked: dict[bytes, list["Query"]] = field(default_factory=dict)  # queries in flight here, by message
    replaced: list[float] = field(default_factory=lambda: [-SPARE] * SOCKETS)
    barred: list[float] = field(default_factory=lambda: [-REOPEN_PAUSE] * SOCKETS)
    retired: set[Upstream] = field(default_factory=set)

    def send(self, query: "Query", now: float) -> bool:
        """Send a query to this backend, or let it wait for an identical one's answer; return False if neither worked."""
        dns, target = self.dns, self.target
        payload, twin = query.payload, query.twin
        head = (
            b"" if target.send_proxy == "off" else header_for(target, query.listener.member, query.client, query.told)
        )
        twins = self.asked.get(twin)
        if twins is not None and len(twins) >= IDENTICAL_CAP and not payload[0] & OPCODE:
            return self._coalesce(query, twins)
        for _ in range(SOCKETS + 1):  # all may be broken, if the host's address has changed
            number = next(dns.random)
            place = number % SOCKETS
            upstream = self.sockets[place]
            if upstream is None or now - upstream.born >= LIFETIME:
                upstream = self.open(place, now)
                if upstream is None:
                    return False
            pending, late = upstream.pending, upstream.late
            if len(pending) >= PENDING_CAP:
                return False
            ident = number >> 16
            while ident in pending or ident in late:
                ident = next(dns.random) >> 16
            try:
                upstream.send(head + ident.to_bytes(2, "big") + payload)
            except OSError as error:
                # The ICMP error is about an earlier query.  This one was not sent; the next socket may send it.
                if upstream.broke(error, now):
                    continue
                return False
            pending[ident] = query
            query.attempts.append((upstream, ident, now))
            if twins is None:
                self.asked[twin] = [query]
            else:
                twins.append(query)
            dns.service.took(target)
            dns.cells[target.cell + BACKEND_BYTES_IN] += len(payload) + 2
            return True
        return False

    def _coalesce(self, query: "Query", twins: "list[Query]") -> bool:
        """Let a query wait for the answer to an identical one; at most IDENTICAL_CAP of them are sent."""
        if query in twins:
            return False
        leader = twins[next(self.dns.random) % len(twins)]
        if leader.also is None:
            leader.also = []
        leader.also.append(query)
        self.dns.cells[self.dns.base + SERVICE_COALESCED] += 1
        return True

    def open(self, place: int, now: float) -> Upstream | None:
        """Open or replace the socket of a place; if that fails, return the current one, which may be None."""
        current = self.sockets[place]
        if now < self.barred[place]:
            return current
        try:
            sock = connect(self.target, self.port)
        except OSError as error:
            self._cannot_open(place, error, now)
            return current
        upstream = Upstream(self, sock, now)
        try:
            self.poller.register(sock, upstream.on_event, DATAGRAM)
        except OSError as error:
            sock.close()
            self._cannot_open(place, error, now)
            return current
        if current is not None:
            self._retire(current, place)
        self.sockets[place] = upstream
        return upstream

    def replace(self, upstream: Upstream, now: float) -> bool:
        """Stop using a broken socket; return False if it was replaced too recently."""
        if upstream not in self.sockets:
            return True
        place = self.sockets.index(upstream)
        if now - self.replaced[place] < SPARE:
            return False
        self.replaced[place] = now
        self._retire(upstream, place)
        return True

    def renew(self, now: float) -> None:
        """Replace every socket: the backend came up again, perhaps by another route."""
        for upstream in self.sockets:
            if upstream is not None:
                self.replace(upstream, now)

    def ask_elsewhere(self) -> None:
        """Send the queries in flight here to other backends, too: this backend is down."""
        for upstream in (*self.sockets, *self.retired):
            if upstream is not None:
                upstream.ask_elsewhere()

    def retire(self) -> None:
        """Stop sending queries: the backend is no longer listed."""
        for place, upstream in enumerate(self.sockets):
            if upstream is not None:
                self._retire(upstream, place)

    def close(self) -> None:
        """Close all sockets; the caller finishes pending queries first."""
        for upstream in (*self.sockets, *self.retired):
            if upstream is not None:
                self.poller.discard(upstream.sock)
        self.sockets = [None] * SOCKETS
        self.retired.clear()

    def _cannot_open(self, place: int, error: OSError, now: float) -> None:
        self.barred[place] = now + REOPEN_PAUSE
        shortage = SHORTAGES.get(error.errno or 0)
        if shortage is not None:
            self.dns.cells[self.dns.base + shortage] += 1
        else:
            self.dns.cells[self.target.cell + BACKEND_SEND_FAILED] += 1

    def _retire(self, upstream: Upstream, place: int) -> None:
        """Send no more queries over a socket, but read it for `LINGER` seconds: answers may be on their way."""
        self.sockets[place] = None
        self.retired.add(upstream)

        def bury(_: float) -> None:
            if upstream in self.retired:
                self.retired.remove(upstream)
                self.poller.discard(upstream.sock)

        self.poller.at(self.poller.now + LINGER, bury)
