"""The clients' side of a DNS service: each datagram is read, then dropped, turned away, or passed on as a query.

Laws:
- A datagram that cannot be a query gets no answer; a query whose question cannot be read gets FORMERR.
- A query that the same client already has in flight is not sent again: one answer serves both.
- A source listed in `accept-proxy` sends a PROXY header, which names the client, before each query.
- With `client-subnet` the query that backends get names the client's network.
"""

import socket
from time import monotonic
from typing import TYPE_CHECKING

from proxy.relay.dns.client_subnet import add
from proxy.relay.dns.inflight import Query
from proxy.relay.dns.message import HEADER, OPCODE, QR, formerr, question_end, truncated
from proxy.relay.plan import Member
from proxy.relay.proxy_header.datagrams import Introducers, who
from proxy.relay.proxy_header.header import Header
from proxy.relay.sockets.address import Client
from proxy.relay.sockets.datagram import BATCH, endpoint
from proxy.stats.layout import (
    SERVICE_DATAGRAMS,
    SERVICE_DENIED,
    SERVICE_EMPTY_DATAGRAM,
    SERVICE_JOINED,
    SERVICE_MALFORMED,
    SERVICE_QUERIES,
    SERVICE_REPLAYED,
    SERVICE_RESPONSE_AS_QUERY,
    SERVICE_SOURCE_PORT_ZERO,
    SERVICE_TRUNCATED,
    SERVICE_UNSENT_REPLIES,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.relay.dns.service import DnsService

SLIP = 2  # of this many queries above a client's rate one is answered, as in BIND's response rate limiting


class DnsListener:
    """One UDP socket that clients send queries to."""

    def __init__(self, dns: "DnsService", member: Member, sock: socket.socket) -> None:
        self.dns = dns
        self.member = member
        self.sock = sock
        self.receive, self.reply = endpoint(sock, member.address)
        self.peers = dns.peers(member.port)
        self.route = member.text.encode()
        self.ident = member.listener

    def stop(self) -> None:
        """Stop polling, and take what has arrived already."""
        self.dns.poller.forget(self.sock)
        self.dns.poller.again(self.on_event)

    @property
    def reading(self) -> bool:
        """Return True if there may be more to take."""
        return self.dns.poller.waits(self.on_event)

    @property
    def needed(self) -> bool:
        """Return True if a pending query (until give-up) is answered by this socket."""
        return any(query.listener is self for query in self.dns.inflight.values())

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - reading tells what happened
        """Read the queries that have arrived."""
        receive = self.receive
        dns = self.dns
        buffer, view = dns.buffer, dns.view
        take = dns.intake.take
        now = monotonic()
        for _ in range(BATCH):
            try:
                size, client = receive(buffer)
            except OSError as error:  # usually BlockingIOError; an unconnected socket gets no ICMP errors
                if isinstance(error, BlockingIOError):
                    return
                continue
            take(self, view[:size].tobytes(), client, now)
        dns.poller.again(self.on_event)


class Intake:
    """Makes queries of the datagrams that the listeners of one service read."""

    def __init__(self, dns: "DnsService") -> None:
        service = dns.service
        self._dns = dns
        self._cells = service.cells
        self._base = service.cell
        self._excess = 0  # queries above their clients' rates
        self.changed()

    def changed(self) -> None:
        """Use what the service's plan says now."""
        service = self._dns.service
        self._access = service.access
        self._rate = service.rate("udp")
        self._subnets = service.plan.dns.client_subnet
        self._introducers = Introducers(service.plan.accept_proxy, service.cells, service.cell)
        self.take: Callable[[DnsListener, bytes, Client, float], None] = (
            self._introduced if self._introducers else self.admit
        )
        """Takes one datagram as it arrived, with its PROXY header if there is one."""

    def _introduced(self, listener: DnsListener, datagram: bytes, client: Client, now: float) -> None:
        """Take one datagram that begins with a PROXY header if its source is listed."""
        found = self._introducers.read(datagram, client)
        if found is not None:
            self.admit(listener, found[1], client, now, found[0], datagram)

    def admit(
        self,
        listener: DnsListener,
        message: bytes,
        client: Client,
        now: float,
        told: Header | None = None,
        datagram: bytes | None = None,
    ) -> None:
        """Take one query of a client: drop it, join it to a query in flight, or send it to a backend.

        `told` is the PROXY header, if there is one; `datagram` is that header and the query.
        """
        cells = self._cells
        base = self._base
        cells[base + SERVICE_DATAGRAMS] += 1
        size = len(message)
        if size < HEADER:
            cells[base + (SERVICE_MALFORMED if size else SERVICE_EMPTY_DATAGRAM)] += 1
            return
        if message[2] & QR:
            cells[base + SERVICE_RESPONSE_AS_QUERY] += 1
            return
        access = self._access
        if not client[1] or not (access.anybody or access.permits(who(client, told)[0])):
            cells[base + (SERVICE_DENIED if client[1] else SERVICE_SOURCE_PORT_ZERO)] += 1
            return
        if datagram is None:
            datagram = message
        key = (listener.ident, client, datagram)
        if key in self._dns.inflight:
            cells[base + SERVICE_JOINED] += 1
            return
        end = question_end(message, size)
        if (not end or self._rate is not None) and self._is_turned_away(listener, message, end, client, told):
            return
        cells[base + SERVICE_QUERIES] += 1
        query = Query(listener, client, message, key, end, now, told)
        if self._subnets:
            self._tell_subnet(query)
        self._dns.begin(query, now)

    def _tell_subnet(self, query: Query) -> None:
        """Put the client's network into the query for backends."""
        told = add(query.message, query.end, str(who(query.client, query.told)[0]))
        if told is not None:
            query.payload = query.twin = told[0][2:]
            query.subnet = told[1]

    def _is_turned_away(
        self, listener: DnsListener, message: bytes, end: int, client: Client, told: Header | None
    ) -> bool:
        """Return True if a message goes no further: its question cannot be read, or its client exceeds its rate.

        A message without a readable question (`end` 0) gets FORMERR; so does one with more than one question (RFC
        9619). Above the rate every second query gets an answer with TC: over TCP a client cannot forge its address.
        The others get no answer.
        """
        cells, base = self._cells, self._base
        rate = self._rate
        excessive = rate is not None and self._dns.service.is_too_fast(rate, str(who(client, told)[0]))
        reply = b""
        if not end:
            cells[base + SERVICE_MALFORMED] += 1
            reply = b"" if excessive else formerr(message)
        elif not excessive:
            return False
        else:
            cells[base + SERVICE_QUERIES] += 1
            self._excess += 1
            if not self._excess % SLIP:
                cells[base + SERVICE_TRUNCATED] += 1
                reply = truncated(message, end)
        if reply:
            try:
                listener.reply(reply, client)
            except OSError:
                cells[base + SERVICE_UNSENT_REPLIES] += 1
        return True

    def replay(self, listener: DnsListener, datagram: bytes, client: Client, now: float) -> None:
        """Send a query again that a dead worker had in flight; answer SERVFAIL if it could act twice."""
        found = self._introducers.read(datagram, client) if self._introducers else (None, datagram)
        if found is None:
            return
        told, message = found
        if len(message) >= HEADER and message[2] & OPCODE:
            end = question_end(message, len(message)) or HEADER
            query = Query(listener, client, message, (listener.ident, client, datagram), end, now, told)
            self._dns.refuse(query, SERVICE_REPLAYED)
        else:
            self.admit(listener, message, client, now, told, datagram)
