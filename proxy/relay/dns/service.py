"""DNS over UDP, query by query (RFC 1035, section 4.2.1).

Laws:
- A query gets a fresh random ID and a random socket of its backend.  An answer counts only if it arrives at that socket
  with that ID and that question (`message.is_answer`).  It is passed on unchanged but for the ID.
- The first answer wins, whichever backend sent it; the client gets exactly one answer.
- A query of opcode QUERY without an answer is sent to another backend after `retry-after`, to a third one after twice
  that time, and so on; at once if its backend goes down or has closed the port.  A query of another opcode is never
  sent twice: an UPDATE would act twice.
- A backend with `send-proxy` gets a PROXY header, which names the client, before each query; answers go without one.
- A backend's silence is a failure only if another backend answers the same plain query.
- A query without an answer by `give-up`, or without a usable backend, is answered with SERVFAIL: never with silence.
"""

import socket
from collections.abc import Iterable
from typing import cast

from proxy.relay.dns.client_subnet import undo
from proxy.relay.dns.inflight import Inflight, Query
from proxy.relay.dns.intake import DnsListener, Intake
from proxy.relay.dns.journal import Journal
from proxy.relay.dns.message import OPCODE, servfail
from proxy.relay.dns.upstream import Peer, Upstream, random_numbers
from proxy.relay.native.poller import DATAGRAM, Poller
from proxy.relay.plan import Member
from proxy.relay.proxy_header.datagrams import who
from proxy.relay.service import Service
from proxy.relay.sockets.datagram import LARGEST
from proxy.relay.target import ATTEMPTS, Target
from proxy.stats.histogram import bucket
from proxy.stats.layout import (
    BACKEND_BYTES_OUT,
    BACKEND_LATENCY,
    BACKEND_REPLIES,
    SERVICE_DRAINED_HARD,
    SERVICE_GAVE_UP,
    SERVICE_INFLIGHT,
    SERVICE_REPLIES,
    SERVICE_RETRIES,
    SERVICE_SERVFAIL,
    SERVICE_TABLE_FULL,
    SERVICE_UNSENT_REPLIES,
)

INFLIGHT_CAP = 65536  # queries of one service in one worker
ANEW = 2  # times that a query is sent to the same backends again, because a packet may be lost
LARGE = 1024  # octets: a longer query is an UPDATE or an attack
LARGE_CAP = 512  # large queries at a time: two copies each of 65,536 datagrams of 64 KiB would be 8 GB


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
        self.inflight = Inflight(poller, dns.retry_after, dns.give_up, self._silent, self._give_up)
        self._peers: dict[tuple[Target, int], Peer] = {}
        self._former: list[Peer] = []  # not asked any more; late answers are still read
        self._ports: dict[int, list[Peer]] = {}
        self.random = random_numbers()
        self._large = 0  # queries in flight that are longer than LARGE
        self.intake = Intake(self)
        self._take()

    def _take(self) -> None:
        """Use what the service's plan says now."""
        self._retry_after = self.service.plan.dns.retry_after
        self._introduces = any(target.send_proxy != "off" for target in self.service.targets)
        self._timed = self.service.timed

    # -- wiring

    def peers(self, port: int) -> list[Peer]:
        """Return the backends' peers, by backend index, for listeners on this port: always the same list."""
        peers = self._ports.setdefault(port, [])
        peers[:] = [self._peer(target, target.port or port) for target in self.service.targets]
        return peers

    def _peer(self, target: Target, port: int) -> Peer:
        peer = self._peers.get((target, port))
        if peer is None:
            peer = self._peers[target, port] = Peer(self, target, port, self.poller)
        return peer

    def changed(self, gone: Iterable[Target], moved: Iterable[Target]) -> None:
        """Use the service's changed plan; read late answers of backends that are `gone` or have `moved`."""
        self._take()
        dns = self.service.plan.dns
        self.inflight.retime(dns.retry_after, dns.give_up)
        self.intake.changed()
        left, before = {*gone, *moved}, self._peers
        self._peers = {key: peer for key, peer in before.items() if key[0] not in left}
        for port in self._ports:
            self.peers(port)
        asked = {peer for peers in self._ports.values() for peer in peers}
        self._former = [peer for peer in self._former if peer.retired]
        for key, peer in before.items():
            if peer not in asked:
                if self._peers.get(key) is peer:
                    del self._peers[key]
                peer.retire()
                self._former.append(peer)

    def listen(self, member: Member, sock: socket.socket) -> DnsListener:
        """Poll a member's socket."""
        listener = DnsListener(self, member, sock)
        self.poller.register(sock, listener.on_event, DATAGRAM)
        return listener

    def unlisten(self, listener: DnsListener) -> None:
        """Stop polling a listener.  Queries in flight are still answered through it; then the engine closes it."""
        self.poller.forget(listener.sock, listener.on_event)

    def returned(self, targets: Iterable[Target]) -> None:
        """Replace the sockets to backends that came up again: their address or the route may have changed."""
        back = set(targets)
        for (target, _), peer in self._peers.items():
            if target in back:
                peer.renew(self.poller.now)

    def unfit(self, targets: Iterable[Target]) -> None:
        """Send queries in flight at backends that went down or were ejected to other backends at once."""
        down = set(targets)
        for peer in (*self._peers.values(), *self._former):
            if peer.target in down:
                peer.ask_elsewhere()

    def went_down(self, targets: Iterable[Target]) -> None:
        """Nothing to do: `unfit` has done all."""

    def failed_back(self, targets: Iterable[Target]) -> None:
        """Nothing to do: no query outlives give-up."""

    def cut(self, targets: Iterable[Target]) -> None:
        """Nothing to do: no query outlives give-up."""

    @property
    def idle(self) -> bool:
        """Return True if no query waits for an answer."""
        return not len(self.inflight)

    def close(self) -> None:
        """Answer queries in flight with SERVFAIL and close the sockets to the backends."""
        for query in self.inflight.values():
            self._fail(query, SERVICE_DRAINED_HARD)
        for peer in (*self._peers.values(), *self._former):
            peer.close()

    # -- from the client, through `intake`

    def begin(self, query: Query, now: float) -> None:
        """Send a new query to a backend; answer SERVFAIL if the table is full or no backend is usable."""
        cells = self.cells
        base = self.base
        inflight = self.inflight
        is_large = len(query.message) > LARGE
        if self._introduces:
            # The backend sees the client, and its answer may depend on it.
            query.twin = who(query.client, query.told)[0].encode() + b"\0" + query.payload
        if len(inflight) >= INFLIGHT_CAP or (is_large and self._large >= LARGE_CAP):
            cells[base + SERVICE_TABLE_FULL] += 1
            self.refuse(query, SERVICE_TABLE_FULL)
            return
        inflight.add(query)
        self._large += is_large
        cells[base + SERVICE_INFLIGHT] += 1
        if self.journal is not None:
            query.slot = self.journal.note(*query.key)
        # If every backend refused the query just now, it is tried again after `retry-after`.
        if not self._ask(query, now) and not query.tried:
            cell = self.service.why_nobody()
            cells[base + cell] += 1
            self._fail(query, cell)

    # -- to the backend

    def _ask(self, query: Query, now: float) -> bool:
        """Send the query to a backend that has not had it yet; return False if none is left."""
        service = self.service
        selector, capacity, persistence = service.selector, service.capacity, service.persistence
        key = 0
        if selector.needs_key:
            key = service.key(query.listener.route, who(query.client, query.told), query.question)
        sticky = persistence.key(str(who(query.client, query.told)[0])) if persistence is not None else 0
        while len(query.tried) < ATTEMPTS:
            if persistence is not None:
                target = persistence.pick(sticky, key, query.tried)
            elif capacity is None:
                target = cast("Target | None", selector.pick(key, query.tried))
            else:
                target = capacity.pick(key, query.tried)
            if target is None:
                return False
            query.tried += (target,)
            sent = query.listener.peers[target.index].send(query, now)
            if capacity is not None:
                capacity.unclaim(target)
            if sent:
                return True
        return False

    # -- back to the client

    def answer(self, query: Query, upstream: Upstream, ident: int, size: int, now: float) -> None:
        """Send the answer in the buffer to all clients that wait for it; `upstream` got it with the ID `ident`."""
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
        # In this order: if the worker is killed in between, the client gets two answers; in the other order, none.
        try:
            self._reply(query, data)
        finally:
            self._finish(query, ident)
        if query.also is not None:
            self._reply_also(query.also, data)

    def _blame_silent(self, query: Query, answered: Target, now: float) -> None:
        """Count a failure of each backend that was silent for `retry-after` on a query that another one has answered.

        Silence alone proves nothing: a resolver is silent if a name's servers are, and a client may choose such a name.
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
        """Send the same answer to the queries that wait for it, and to the queries that wait for those."""
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
        """Take the query out of every table; late answers may still come for all its IDs but `answered`."""
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
        """Answer SERVFAIL and end the query.  Queries that wait for the same answer have their own timers."""
        try:
            self.refuse(query, why)
        finally:
            self._finish(query)

    def refuse(self, query: Query, why: int) -> None:
        """Send SERVFAIL to the client; the counter `why` gives the reason."""
        self.cells[self.base + SERVICE_SERVFAIL] += 1
        if self.service.log is not None:
            self.service.log.query(self.service, query, why)
        try:
            query.listener.reply(servfail(query.message, query.end), query.client)
        except OSError:
            self.cells[self.base + SERVICE_UNSENT_REPLIES] += 1

    # -- silence and refusal

    def _silent(self, query: Query, now: float) -> None:
        """Send a query without an answer to another backend as well; if all had it, begin again: a packet may be lost."""
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
        """Send the query to one more backend unless it could act twice; return True if it was sent."""
        if query.done or (query.attempts and query.payload[0] & OPCODE) or not self._ask(query, now):
            return False
        self.cells[self.base + SERVICE_RETRIES] += 1
        return True

    def _give_up(self, query: Query) -> None:
        self.cells[self.base + SERVICE_GAVE_UP] += 1
        self._fail(query, SERVICE_GAVE_UP)
