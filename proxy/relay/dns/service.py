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

`proxy.relay.native.dns` does that; here is what changes, begins and ends.
"""

import socket
from collections.abc import Iterable

from proxy.relay.dns import upstream
from proxy.relay.dns.inflight import moments
from proxy.relay.dns.upstream import Peer
from proxy.relay.native.dns import Queries
from proxy.relay.native.dns_journal import Journal
from proxy.relay.native.dns_listener import Listener
from proxy.relay.native.poller import Poller
from proxy.relay.plan import Member
from proxy.relay.proxy_header.datagrams import Introducers
from proxy.relay.service import Service
from proxy.relay.target import Target
from proxy.stats.layout import SERVICE_DRAINED_HARD

INFLIGHT_CAP = 65536  # queries of one service in one worker
LARGE_CAP = 512  # large queries at a time: two copies each of 65,536 datagrams of 64 KiB would be 8 GB


class DnsService(Queries):
    """The queries of one service in one worker."""

    service: Service

    def __init__(self, service: Service, poller: Poller, journal: Journal | None) -> None:
        dns = service.plan.dns
        super().__init__(service, poller, journal, moments(dns.retry_after, dns.give_up))
        self.cells = service.cells
        self.inflight_cap, self.large_cap = INFLIGHT_CAP, LARGE_CAP
        self.pending_cap = upstream.PENDING_CAP
        self.share(1)
        self.moved = upstream.MOVED
        self._peers: dict[tuple[Target, int], Peer] = {}
        self._former: list[Peer] = []  # not asked any more; late answers are still read
        self._ports: dict[int, list[Peer]] = {}
        self._take_plan()

    def _take_plan(self) -> None:
        """Use what the service's plan says now."""
        service = self.service
        self.retry_after = service.plan.dns.retry_after
        self.introduces = any(target.send_proxy != "off" for target in service.targets)
        self.subnets = service.plan.dns.client_subnet
        self.limited = service.rate("udp") is not None
        introducers = Introducers(service.plan.accept_proxy, service.cells, service.cell)
        self.introducers = introducers or None

    def share(self, workers: int) -> None:
        """Take this worker's share of what all of them may have in flight together, whichever of them clients reach."""
        self.identical_cap = max(1, upstream.IDENTICAL_CAP // workers)

    # -- wiring

    def peers(self, port: int) -> list[Peer]:
        """Return the backends' peers, by backend index, for listeners on this port: always the same list."""
        peers = self._ports.setdefault(port, [])
        peers[:] = [self._peer(target, target.port or port) for target in self.service.targets]
        return peers

    def _peer(self, target: Target, port: int) -> Peer:
        peer = self._peers.get((target, port))
        if peer is None:
            peer = self._peers[target, port] = Peer(self, target, port)
        peer.introduces = target.send_proxy != "off"
        return peer

    def changed(self, gone: Iterable[Target], moved: Iterable[Target]) -> None:
        """Use the service's changed plan; read late answers of backends that are `gone` or have `moved`."""
        self._take_plan()
        dns = self.service.plan.dns
        self.retime(moments(dns.retry_after, dns.give_up))
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

    def listen(self, member: Member, sock: socket.socket) -> Listener:
        """Poll a member's socket."""
        return Listener(self, member, sock, self.peers(member.port))

    def unlisten(self, listener: Listener) -> None:
        """Stop polling a listener.  Queries in flight are still answered through it; then the engine closes it."""
        listener.unlisten()

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
        return not self.unfinished

    def close(self) -> None:
        """Answer queries in flight with SERVFAIL and close the sockets to the backends."""
        self.fail_all(SERVICE_DRAINED_HARD)
        self.flush()
        for peer in (*self._peers.values(), *self._former):
            peer.close()
