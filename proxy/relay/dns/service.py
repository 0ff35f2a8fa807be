"""DNS over UDP, query by query (RFC 1035, section 4.2.1).

Laws:
- A query has a fresh random ID on a random socket of the backend it is sent to; an answer counts only if it comes from
  that socket with that ID and that question (`message.is_answer`), and is sent on unchanged but for the ID.
- The first answer wins, whichever backend sent it; the client gets exactly one.
- Opcode QUERY without an answer is asked elsewhere after `retry-after`, again after twice that, and so on as long as
  there is a backend that it was not sent to; at once when its backend goes down or has closed the port.  No other opcode
  is ever sent twice: an UPDATE would act twice.
- A source that is listed for it says before each query, by a PROXY header, who the client is; answers go to the source
  without.  A backend that wants to know is told before each query, too.
- With `client-subnet` a query tells its client's network to the backend, and the answer is sent on without.
- A backend has failed by silence where another one answers a plain query that it did not.
- By `give-up`, and at once when no backend is usable, the answer is SERVFAIL: never silence.
"""

import socket
from collections.abc import Callable, Iterable
from time import monotonic
from typing import cast

from proxy.relay.dns.client_subnet import add, undo
from proxy.relay.dns.inflight import Inflight, Query
from proxy.relay.dns.journal import Journal
from proxy.relay.dns.message import HEADER, OPCODE, QR, formerr, question_end, servfail, truncated
from proxy.relay.dns.upstream import Peer, Upstream, random_numbers
from proxy.relay.loop.poller import DATAGRAM, Poller
from proxy.relay.plan import Member
from proxy.relay.proxy_header.datagrams import Introducers, who
from proxy.relay.proxy_header.header import Header
from proxy.relay.service import Service
from proxy.relay.sockets.address import Client
from proxy.relay.sockets.datagram import BATCH, LARGEST, endpoint
from proxy.relay.target import ATTEMPTS, Target
from proxy.stats.histogram import bucket
from proxy.stats.layout import (
    BACKEND_BYTES_OUT,
    BACKEND_LATENCY,
    BACKEND_REPLIES,
    SERVICE_DATAGRAMS,
    SERVICE_DENIED,
    SERVICE_DRAINED_HARD,
    SERVICE_EMPTY_DATAGRAM,
    SERVICE_GAVE_UP,
    SERVICE_INFLIGHT,
    SERVICE_JOINED,
    SERVICE_MALFORMED,
    SERVICE_QUERIES,
    SERVICE_REPLAYED,
    SERVICE_REPLIES,
    SERVICE_RESPONSE_AS_QUERY,
    SERVICE_RETRIES,
    SERVICE_SERVFAIL,
    SERVICE_SOURCE_PORT_ZERO,
    SERVICE_TABLE_FULL,
    SERVICE_TRUNCATED,
    SERVICE_UNSENT_REPLIES,
)

INFLIGHT_CAP = 65536  # queries of one service in one worker
ANEW = 2  # times that a query which every backend has is sent again: a packet may be lost
LARGE = 1024  # octets: a query longer than that is an UPDATE or somebody's malice
LARGE_CAP = 512  # of these at a time: 65,536 datagrams of 64 KiB, of which two copies are kept, would be 8 GB
SLIP = 2  # of so many queries above a client's rate one is answered, as with BIND's response rate limiting


class DnsListener:
    """One UDP socket that clients ask."""

    def __init__(self, dns: "DnsService", member: Member, sock: socket.socket) -> None:
        self.dns = dns
        self.member = member
        self.sock = sock
        self.receive, self.reply = endpoint(sock, member.address)
        self.peers = dns.peers(member.port)
        self.route = member.text.encode()
        self.ident = member.listener

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - whatever happened, reading tells
        """Read the queries that came."""
        receive = self.receive
        dns = self.dns
        buffer, view = dns.buffer, dns.view
        take = dns.take
        now = monotonic()
        for _ in range(BATCH):
            try:
                size, client = receive(buffer)
            except OSError as error:  # BlockingIOError is the usual one; an ICMP error is never an unconnected socket's
                if isinstance(error, BlockingIOError):
                    return
                continue
            take(self, view[:size].tobytes(), client, now)
        dns.poller.again(self.on_event)


class DnsService:
    """The queries of one service in one worker."""

    def __init__(self, service: Service, poller: Poller, journal: Journal | None) -> None:
        self.service = service
        self.poller = poller
        self.journal = journal
        self.cells = service.cells
        self.base = service.cell
        self.buffer = bytearray(LARGEST)
        self.view = memoryview(self.buffer)
        dns = service.plan.dns
        self._retry_after = dns.retry_after
        self.inflight = Inflight(poller, dns.retry_after, dns.give_up, self._silent, self._give_up)
        self._peers: dict[tuple[Target, int], Peer] = {}
        self._ports: dict[int, list[Peer]] = {}
        self.random = random_numbers()
        self._access = service.access
        self._subnets = dns.client_subnet
        self._introduces = any(target.send_proxy != "off" for target in service.targets)
        self._introducers = Introducers(service.plan.accept_proxy, service.cells, service.cell)
        self.take: Callable[[DnsListener, bytes, Client, float], None] = (
            self._introduced if self._introducers else self.admit
        )
        """Takes one datagram as it came."""
        self._timed = service.timed
        self._rate = service.rate("udp")
        self._excess = 0
        self._large = 0  # queries in flight above LARGE

    # -- wiring

    def peers(self, port: int) -> list[Peer]:
        """The sockets to each backend, by its index, as listeners on this port see them: always the same list."""
        peers = self._ports.setdefault(port, [])
        peers[:] = [self._peer(target, target.port or port) for target in self.service.targets]
        return peers

    def _peer(self, target: Target, port: int) -> Peer:
        peer = self._peers.get((target, port))
        if peer is None:
            peer = self._peers[target, port] = Peer(self, target, port, self.poller)
        return peer

    def relisted(self, gone: Iterable[Target]) -> None:
        """Ask those who are listed now; answers of those who are not may still be under way."""
        left, listed = set(gone), set(self.service.targets)
        for (target, port), peer in list(self._peers.items()):
            if target in left:
                peer.retire()
            elif target not in listed and not peer.retired:
                del self._peers[target, port]
        for port in self._ports:
            self.peers(port)
        self._introduces = any(target.send_proxy != "off" for target in self.service.targets)

    def listen(self, member: Member, sock: socket.socket) -> DnsListener:
        """Poll a member's socket."""
        listener = DnsListener(self, member, sock)
        self.poller.register(sock, listener.on_event, DATAGRAM)
        return listener

    def unlisten(self, listener: DnsListener) -> None:
        """Stop polling it.  Queries in flight are still answered through it; it closes when the last one lets it go."""
        self.poller.forget(listener.sock, listener.on_event)

    def returned(self, targets: Iterable[Target]) -> None:
        """Backends that came up again get fresh sockets: their address or our route may have changed."""
        back = set(targets)
        for (target, _), peer in self._peers.items():
            if target in back:
                peer.renew(self.poller.now)

    def unfit(self, targets: Iterable[Target]) -> None:
        """Backends went down or were ejected: what is in flight there is asked elsewhere, too, and does not wait for its time."""
        down = set(targets)
        for (target, _), peer in self._peers.items():
            if target in down:
                peer.ask_elsewhere()

    def went_down(self, targets: Iterable[Target]) -> None:
        """Nothing to do beyond that."""

    def failed_back(self, targets: Iterable[Target]) -> None:
        """Nothing to do: no query outlives give-up."""

    def cut(self, targets: Iterable[Target]) -> None:
        """Nothing to do: no query outlives give-up."""

    @property
    def idle(self) -> bool:
        """Whether no query waits for an answer."""
        return not len(self.inflight)

    def close(self) -> None:
        """Answer what is in flight with SERVFAIL and close the sockets to the backends."""
        for query in self.inflight.values():
            self._fail(query, SERVICE_DRAINED_HARD)
        for peer in self._peers.values():
            peer.close()

    # -- from the client

    def _introduced(self, listener: DnsListener, datagram: bytes, client: Client, now: float) -> None:
        """Take one datagram, before which a listed source tells of its client."""
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
        """Take one query of a client: drop it, join it to a query in flight, or ask a backend.

        `told`: of whom a PROXY header tells; `datagram`: all that came, header and query.
        """
        cells = self.cells
        base = self.base
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
        inflight = self.inflight
        if key in inflight:
            cells[base + SERVICE_JOINED] += 1
            return
        end = question_end(message, size)
        if (not end or self._rate is not None) and self._is_turned_away(listener, message, end, client, told):
            return
        cells[base + SERVICE_QUERIES] += 1
        query = Query(listener, client, message, key, end, now, told)
        if self._subnets:
            self._tell_subnet(query)
        if self._introduces:
            # What the backend answers may depend on the client.
            query.twin = who(client, told)[0].encode() + b"\0" + query.payload
        if len(inflight) >= INFLIGHT_CAP or (size > LARGE and self._large >= LARGE_CAP):
            cells[base + SERVICE_TABLE_FULL] += 1
            self._refuse(query, SERVICE_TABLE_FULL)
            return
        inflight.add(query)
        self._large += size > LARGE
        cells[base + SERVICE_INFLIGHT] += 1
        if self.journal is not None:
            query.slot = self.journal.note(listener.ident, client, datagram)
        # Sent or not: where every backend refused it just now, it is worth another try after `retry-after`.
        if not self._ask(query, now) and not query.tried:
            cell = self.service.why_nobody()
            cells[base + cell] += 1
            self._fail(query, cell)

    def _tell_subnet(self, query: Query) -> None:
        """Put the client's network into what backends are asked."""
        told = add(query.message, query.end, str(who(query.client, query.told)[0]))
        if told is not None:
            query.payload = query.twin = told[0][2:]
            query.subnet = told[1]

    def _is_turned_away(
        self, listener: DnsListener, message: bytes, end: int, client: Client, told: Header | None
    ) -> bool:
        """Return True if a message goes no further, because its question cannot be read or it is one too many of its client.

        FORMERR to the first kind, which has no end of a question; more than one question is no query (RFC 9619).  Every
        second one of the other kind is sent to TCP, where a client cannot lie about who it is; the others get no answer.
        """
        cells, base = self.cells, self.base
        rate = self._rate
        excessive = rate is not None and self.service.is_too_fast(rate, str(who(client, told)[0]))
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
        """Ask again what a dead worker had in flight; SERVFAIL where that could act twice."""
        found = self._introducers.read(datagram, client) if self._introducers else (None, datagram)
        if found is None:
            return
        told, message = found
        if len(message) >= HEADER and message[2] & OPCODE:
            end = question_end(message, len(message)) or HEADER
            query = Query(listener, client, message, (listener.ident, client, datagram), end, now, told)
            self._refuse(query, SERVICE_REPLAYED)
        else:
            self.admit(listener, message, client, now, told, datagram)

    # -- to the backend

    def _ask(self, query: Query, now: float) -> bool:
        """Send the query to a backend that it was not sent to yet; False when none is left."""
        service = self.service
        selector, slots, persistence = service.selector, service.slots, service.persistence
        key = 0
        if selector.needs_key:
            key = service.key(query.listener.route, who(query.client, query.told), query.question)
        sticky = persistence.key(str(who(query.client, query.told)[0])) if persistence is not None else 0
        while len(query.tried) < ATTEMPTS:
            if persistence is not None:
                target = persistence.pick(sticky, key, query.tried)
            elif slots is None:
                target = cast("Target | None", selector.pick(key, query.tried))
            else:
                target = slots.pick(key, query.tried)
            if target is None:
                return False
            query.tried += (target,)
            sent = query.listener.peers[target.index].send(query, now)
            if slots is not None:
                slots.unclaim(target)
            if sent:
                return True
        return False

    # -- back to the client

    def answer(self, query: Query, upstream: Upstream, ident: int, size: int, now: float) -> None:
        """Send the answer in the buffer, to the query `ident` of a backend's socket, to whoever waits for it."""
        cells = self.cells
        target = upstream.peer.target
        target.failures = 0
        cell = target.cell
        attempts = query.attempts
        sent = attempts[0][2]
        if len(attempts) > 1:
            sent = next(at for socket_, number, at in attempts if number == ident and socket_ is upstream)
            self._blame_silent(query, target, now)
        cells[cell + BACKEND_LATENCY + bucket(int((now - sent) * 1e6))] += 1
        if self._timed:
            self.service.took_time(upstream.peer.target, now - sent)
        cells[cell + BACKEND_REPLIES] += 1
        cells[cell + BACKEND_BYTES_OUT] += size
        data = self.view[:size]
        # In this order: a worker that is killed in between has answered twice, in the other one not at all.
        try:
            self._reply(query, data)
        finally:
            self._finish(query, ident)
        if query.also is not None:
            self._reply_also(query.also, data)

    def _blame_silent(self, query: Query, answered: Target, now: float) -> None:
        """A backend was silent for `retry-after` on what another one has answered: the backend has failed.

        Silence alone proves nothing: a resolver is silent on a name whose servers are, and whoever asks may choose it.
        """
        if not query.is_owed:
            return
        silent = {one.peer.target: sent for one, _, sent in query.attempts if now - sent >= self._retry_after}
        silent.pop(answered, None)
        for target, sent in silent.items():
            self.service.erred(target)
            if self._timed:
                self.service.took_time(target, now - sent)

    def _reply_also(self, queries: list[Query], data: memoryview) -> None:
        """Send the same answer to those that wait for it, and to those that wait for these."""
        for query in queries:
            if not query.done:
                try:
                    self._reply(query, data)
                finally:
                    self._finish(query)
                if query.also is not None:
                    queries += query.also

    def _reply(self, query: Query, data: memoryview) -> None:
        if query.subnet:
            data = memoryview(undo(data, query.subnet))
        data[0:2] = query.message[0:2]
        try:
            query.listener.reply(data, query.client)
        except OSError:
            self.cells[self.base + SERVICE_UNSENT_REPLIES] += 1
        else:
            self.cells[self.base + SERVICE_REPLIES] += 1

    def _finish(self, query: Query, answered: int = -1) -> None:
        """Take the query out of every table; all its IDs but the one that was answered may still be answered late."""
        query.done = True
        twin = query.twin
        for upstream, ident, _ in query.attempts:
            del upstream.pending[ident]
            if ident != answered:
                upstream.forget(ident)
            peer = upstream.peer
            twins = peer.asked[twin]
            if len(twins) == 1:
                del peer.asked[twin]
            else:
                twins.remove(query)
            self.service.gave_back(peer.target)
        self.inflight.remove(query)
        self._large -= len(query.message) > LARGE
        self.cells[self.base + SERVICE_INFLIGHT] -= 1
        if query.slot >= 0 and self.journal is not None:
            self.journal.clear(query.slot)

    def _fail(self, query: Query, why: int) -> None:
        """Nobody answered.  Those that wait for the same answer have a time of their own."""
        try:
            self._refuse(query, why)
        finally:
            self._finish(query)

    def _refuse(self, query: Query, why: int) -> None:
        """SERVFAIL to the client, for what this counter counts."""
        self.cells[self.base + SERVICE_SERVFAIL] += 1
        if self.service.log is not None:
            self.service.log.query(self.service, query, why)
        try:
            query.listener.reply(servfail(query.message, query.end), query.client)
        except OSError:
            self.cells[self.base + SERVICE_UNSENT_REPLIES] += 1

    # -- silence and refusal

    def _silent(self, query: Query, now: float) -> None:
        """No answer in time: ask another backend as well, or begin anew where all were asked: a packet may be lost."""
        if len(query.attempts) > query.unanswered:
            query.unanswered = len(query.attempts)
            if query.is_owed:
                query.attempts[-1][0].unanswered(now)
        if self.ask_elsewhere(query, now) or query.phase > ANEW:
            return
        query.tried = query.tried[-1:]
        if self.ask_elsewhere(query, now):
            return
        query.tried = ()
        self.ask_elsewhere(query, now)

    def ask_elsewhere(self, query: Query, now: float) -> bool:
        """Ask a backend that was not asked yet, unless asking twice could act twice; whether that was done."""
        if query.done or (query.attempts and query.payload[0] & OPCODE) or not self._ask(query, now):
            return False
        self.cells[self.base + SERVICE_RETRIES] += 1
        return True

    def _give_up(self, query: Query) -> None:
        self.cells[self.base + SERVICE_GAVE_UP] += 1
        self._fail(query, SERVICE_GAVE_UP)
