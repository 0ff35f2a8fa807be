"""Plain UDP without sessions: the policy of datagrams, which `proxy.relay.native.one_way` passes on.

Laws:
- A backend's socket is replaced every minute and when it is broken.
- PROXY headers stand before each datagram, in and out, as with sessions.
- A backend whose port is closed gets nothing for a moment if another one is usable.  The last datagram sent to it goes
  to another backend at once; earlier ones are lost.
"""

import errno
import socket
from collections.abc import Iterable

from proxy.relay.native.one_way import Datagrams, Outlet, PerDatagramListener
from proxy.relay.native.poller import Poller
from proxy.relay.native.udp_unanswered import KEPT
from proxy.relay.plan import Member
from proxy.relay.proxy_header.datagrams import Introducers, header_for, who
from proxy.relay.proxy_header.header import Header
from proxy.relay.service import Service
from proxy.relay.sockets.address import Client, sockaddr
from proxy.relay.sockets.datagram import source_of
from proxy.relay.sockets.outgoing import LIFETIME, RECEIVE_BUFFER, REOPEN_PAUSE, SHORTAGES, connect
from proxy.relay.sockets.transparent import NO_WAY, EmptyStockError, open_outlet
from proxy.relay.target import ATTEMPTS, Target
from proxy.relay.udp.closed_ports import ClosedPorts
from proxy.stats.layout import (
    BACKEND_SEND_FAILED,
    SERVICE_NO_SOURCE_ADDRESS,
    SERVICE_REFUSED_NO_BACKEND,
    SERVICE_RETRIES,
)

Last = tuple[PerDatagramListener, bytes, Client, Header | None, tuple[Target, ...], float]
"""The last datagram to a backend: its listener, octets, client and header, the backends that had refused it, and when it
was sent (monotonic seconds)."""

Source = tuple[int, int, bytes]
"""The control message (level, type, octets) that names the address which a datagram is sent from."""


class PerDatagramService(Datagrams):
    """The datagrams of one service in one worker."""

    idle = True
    """No answers are pending."""

    def __init__(self, service: Service, poller: Poller) -> None:
        super().__init__(service, poller)
        self.cells = service.cells
        self.base = service.cell
        self.lifetime = LIFETIME
        self.closed_ports = ClosedPorts()
        self._listeners: list[PerDatagramListener] = []
        self._lost: list[tuple[Last, Target]] = []  # refused datagrams, which go to other backends in the next round
        self._outlets: dict[tuple[Target, int], Outlet] = {}
        self._take_plan()

    def _take_plan(self) -> None:
        """Use what the service's plan says now."""
        service = self.service
        self._stock = service.stock
        self._introducers = Introducers(service.plan.accept_proxy, service.cells, service.cell)
        self.introduced = bool(self._introducers)
        self.headed = service.stock is not None or any(target.send_proxy != "off" for target in service.targets)

    def listen(self, member: Member, sock: socket.socket) -> PerDatagramListener:
        """Poll a member's socket."""
        listener = PerDatagramListener(self, member, sock)
        self._listeners.append(listener)
        return listener

    def unlisten(self, listener: PerDatagramListener) -> None:
        """Stop polling a listener."""
        listener.leave()
        self._listeners.remove(listener)

    def close(self) -> None:
        """Close the sockets to the backends."""
        for outlet in self._outlets.values():
            outlet.close()

    def returned(self, targets: Iterable[Target]) -> None:
        """Replace the sockets to backends that came up again: their address or the route may have changed."""
        back = set(targets)
        for outlet in self._outlets.values():
            if outlet.target in back:
                outlet.close()
        for target in back:
            self.closed_ports.forget(target)

    def unfit(self, targets: Iterable[Target]) -> None:
        """Nothing to do: datagrams that were sent are not kept."""

    def went_down(self, targets: Iterable[Target]) -> None:
        """Nothing to do: the next datagram goes to a backend that is up."""

    def failed_back(self, targets: Iterable[Target]) -> None:
        """Nothing to do: nothing is kept."""

    def cut(self, targets: Iterable[Target]) -> None:
        """Nothing to do: nothing is kept."""

    def changed(self, gone: Iterable[Target], moved: Iterable[Target]) -> None:
        """Use the service's changed plan; close the sockets to backends that are gone or are reached in another way."""
        stock = self._stock
        self._take_plan()
        left = {*gone, *moved} if stock is self._stock else {target for target, _ in self._outlets}
        for target, port in [key for key in self._outlets if key[0] in left]:
            self._outlets.pop((target, port)).close()
            self.closed_ports.forget(target)
        for listener in self._listeners:
            listener.forget_outlets()

    # -- what the native side asks for

    def introduce(self, listener: PerDatagramListener, data: bytes, client: Client) -> None:
        """Take one datagram that begins with a PROXY header if its source is listed."""
        found = self._introducers.read(data, client)
        if found is not None:
            self.admit(listener, found[1], client, found[0])

    def is_the_clients(self, error: int, source: Source) -> bool:
        """Return True if an error is due to the client's address: it cannot be used, or cannot leave its own link."""
        scope = source[2][16:]  # of IPv6 only (RFC 3542, section 6.1)
        return error in {errno.EINVAL, errno.EADDRNOTAVAIL} or (any(scope) and error in NO_WAY)

    def outlet_of(self, listener: PerDatagramListener, target: Target) -> Outlet:
        """Return the socket to a backend, at the listener's port if it has none of its own."""
        port = target.port or listener.member.port
        outlet = self._outlets.get((target, port))
        if outlet is None:
            outlet = self._outlets[target, port] = Outlet(self, target, port)
        return outlet

    def open(self, outlet: Outlet) -> None:
        """Open or replace a socket; if that fails, the present one stays if there is one."""
        now = self.poller.now
        if now < outlet.barred:
            return
        target, stock = outlet.target, self.service.stock
        try:
            if stock is None:
                sock = connect(target, outlet.port)
            else:
                sock = open_outlet(stock, target.family, sockaddr(target.address, outlet.port), RECEIVE_BUFFER)
            outlet.use(sock, now)
        except OSError as error:
            if isinstance(error, EmptyStockError):
                self.cells[self.base + error.cell] += 1  # there may be a socket for the next datagram
                return
            outlet.barred = now + REOPEN_PAUSE
            shortage = SHORTAGES.get(error.errno or 0)
            if shortage is not None:
                self.cells[self.base + shortage] += 1
            else:
                self.cells[target.cell + BACKEND_SEND_FAILED] += 1
                self.service.failed(target)

    def refused(self, outlet: Outlet) -> None:
        """Leave a backend out whose port is closed, and send its last datagram to another one.

        That happens in a later round, because the caller may be in the middle of sending.
        """
        self.closed_ports.note(outlet.target, self.poller.now)
        self.avoiding = True
        last = outlet.take_last()
        if last is not None and self.poller.now - last[-1] <= KEPT and len(last[4]) + 1 < ATTEMPTS:
            self._lost.append((last, outlet.target))
            self.poller.again(self._resend)

    def send(
        self, listener: PerDatagramListener, data: bytes, client: Client, told: Header | None,
        refused: tuple[Target, ...] = (),
    ) -> None:  # fmt: skip
        """Send one datagram to a backend, none of the `refused` ones, which have refused it."""
        service = self.service
        key = service.key(listener.route, who(client, told)) if service.selector.needs_key else 0
        closed = (*refused, *self.closed_ports.targets(self.poller.now))
        self.avoiding = bool(self.closed_ports)
        target = service.pick(key, closed)
        if target is None and refused:
            return  # already counted at its backends
        target = target or service.pick(key, ())
        if target is None:
            self.cells[self.base + service.why_nobody()] += 1
            return
        self.cells[self.base + SERVICE_RETRIES] += bool(refused)
        if self._offer(listener, data, client, told, target):
            self.outlet_of(listener, target).keep(listener, data, client, told, refused)
        else:
            self.send_elsewhere(listener, data, client, told, refused, key, target, closed)

    def send_elsewhere(
        self, listener: PerDatagramListener, data: bytes, client: Client, told: Header | None,
        refused: tuple[Target, ...], key: int, first: Target, tried: tuple[Target, ...],
    ) -> None:  # fmt: skip
        """Send one datagram that could not be sent to its `first` backend to another one."""
        service, target = self.service, first
        for attempt in range(1, ATTEMPTS + 1):
            service.unclaim(target)
            tried += (target,)
            other = service.pick(key, tried)
            if other is None:
                break
            target = other
            self.cells[self.base + SERVICE_RETRIES] += 1
            if attempt < ATTEMPTS and self._offer(listener, data, client, told, target):
                self.outlet_of(listener, target).keep(listener, data, client, told, refused)
                return
        else:
            service.unclaim(target)
        # The refusal may have been about an earlier datagram: if the port is open again, it gets this one.
        if not self._offer(listener, data, client, told, first):
            self.cells[self.base + SERVICE_REFUSED_NO_BACKEND] += 1

    def _offer(
        self, listener: PerDatagramListener, data: bytes, client: Client, told: Header | None, target: Target
    ) -> bool:
        """Send one datagram to this backend, behind its header; return False if another backend is to be tried."""
        source: Source | None = None
        if self.service.stock is not None:
            (source,) = source_of(who(client, told))
            if (source[0] == socket.IPPROTO_IPV6) != (target.family == socket.AF_INET6):
                # The kernel would ignore it and use this host's address.
                self.cells[self.base + SERVICE_NO_SOURCE_ADDRESS] += 1
                return False
        head = header_for(target, listener.member, client, told)
        return self.outlet_of(listener, target).send(head, data, source)

    def _resend(self, mask: int) -> None:  # noqa: ARG002 - the poller passes it
        """Send refused datagrams to other backends."""
        lost, self._lost = self._lost, []
        for (listener, data, client, told, refused, _), target in lost:
            self.send(listener, data, client, told, (*refused, target))
