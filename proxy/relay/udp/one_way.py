"""Plain UDP without sessions: each datagram is balanced by itself and goes one way (syslog, RFC 5426; metrics).

Laws:
- A datagram goes on whole and unchanged to one backend, picked for it alone; nothing is kept of its client.
- One connected socket a backend and port, whoever the clients are; replaced every minute and when it proves broken.
- What backends send is read, counted and dropped: nobody is known to wait for it.
- PROXY headers, in and out, are as for sessions: before each datagram.
- A backend whose port is closed gets nothing for a moment, as long as another one is there.  The last datagram that it was
  sent goes to another one at once; of those before it nobody knows.
"""

import errno
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

from proxy.relay.loop.poller import DATAGRAM, Poller
from proxy.relay.plan import Member
from proxy.relay.proxy_header.datagrams import Introducers, header_for, who
from proxy.relay.proxy_header.header import Header
from proxy.relay.service import Service
from proxy.relay.sockets.address import Client, sockaddr
from proxy.relay.sockets.datagram import BATCH, LARGEST, UNSENT, endpoint, source_of
from proxy.relay.sockets.outgoing import LIFETIME, PAUSE, RECEIVE_BUFFER, SHORTAGES, connect
from proxy.relay.sockets.transparent import NO_WAY, EmptyStockError, open_outlet
from proxy.relay.target import ATTEMPTS, Target
from proxy.relay.udp.closed_ports import ClosedPorts
from proxy.relay.udp.unanswered import KEPT
from proxy.stats.layout import (
    BACKEND_BYTES_IN,
    BACKEND_PORT_UNREACHABLE,
    BACKEND_SEND_FAILED,
    SERVICE_DATAGRAMS,
    SERVICE_DENIED,
    SERVICE_NO_SOURCE_ADDRESS,
    SERVICE_REFUSED_NO_BACKEND,
    SERVICE_RETRIES,
    SERVICE_SOURCE_PORT_ZERO,
    SERVICE_UNWANTED_REPLY,
)


class Sent(NamedTuple):
    """A datagram that was sent to a backend, and what is needed to send it to another one."""

    listener: "PerDatagramListener"
    data: bytes
    client: Client
    told: Header | None
    tried: tuple[Target, ...]
    at: float


class PerDatagramListener:
    """One UDP socket that clients send to."""

    def __init__(self, udp: "PerDatagramService", member: Member, sock: socket.socket) -> None:
        self.udp = udp
        self.member = member
        self.sock = sock
        self.receive, _ = endpoint(sock, member.address)
        self.route = member.text.encode()

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - whatever happened, reading tells
        """Send the clients' datagrams on."""
        receive = self.receive
        udp = self.udp
        buffer, view = udp.buffer, udp.view
        for _ in range(BATCH):
            try:
                size, client = receive(buffer)
            except BlockingIOError:
                return
            except OSError:
                continue
            udp.take(self, view[:size], client)
        udp.poller.again(self.on_event)


class Outlet:
    """The way to one backend at one port: a connected socket, opened when it is needed."""

    __slots__ = ("barred", "born", "last", "port", "sock", "target", "udp")

    def __init__(self, udp: "PerDatagramService", target: Target, port: int) -> None:
        self.udp = udp
        self.target = target
        self.port = port
        self.sock: socket.socket | None = None
        self.born = 0.0
        self.barred = 0.0  # no other try to open it before
        self.last: Sent | None = None  # the last datagram, of which ICMP may say that it was not delivered

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - whatever happened, reading tells
        """Drop what the backend sent, and hear of ICMP errors."""
        udp = self.udp
        for _ in range(BATCH):
            if self.sock is None:
                return
            try:
                self.sock.recv_into(udp.spare)
            except BlockingIOError:
                return
            except OSError as error:
                self.broke(error)
                continue
            self.last = None  # it arrived
            udp.cells[udp.base + SERVICE_UNWANTED_REPLY] += 1
        udp.poller.again(self.on_event)

    def send(self, head: bytes, data: bytes | memoryview, source: list[tuple[int, int, bytes]]) -> bool:
        """Send a datagram behind a header, from a source if there is to be another than ours; False: it must go elsewhere."""
        udp, target = self.udp, self.target
        if source and (source[0][0] == socket.IPPROTO_IPV6) != (target.family == socket.AF_INET6):
            udp.cells[udp.base + SERVICE_NO_SOURCE_ADDRESS] += 1  # the kernel would pass over it, and take ours
            return False
        now = udp.poller.now
        sock = self.sock
        if sock is None or now - self.born >= LIFETIME:
            sock = self._open(now)
            if sock is None:
                return False
        for _ in range(2):
            try:
                sock.sendmsg((head, data), source)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    # It may be what ICMP said of an earlier datagram (RFC 1191), not sent; the path is known by now.
                    continue
                if error.errno in UNSENT:
                    break
                if source and _is_the_clients(error, source):
                    udp.cells[udp.base + SERVICE_NO_SOURCE_ADDRESS] += 1
                    udp.service.unclaim(target)
                    return True
                self.broke(error)
                return False
            udp.service.took(target)
            udp.service.gave_back(target)
            udp.cells[target.cell + BACKEND_BYTES_IN] += len(data)
            return True
        udp.cells[target.cell + BACKEND_SEND_FAILED] += 1
        udp.service.unclaim(target)
        return True

    def broke(self, error: OSError) -> None:
        """An ICMP error, which is an earlier datagram's, or a broken route, for which a new socket may help."""
        udp, target = self.udp, self.target
        refused = error.errno == errno.ECONNREFUSED
        udp.cells[target.cell + (BACKEND_PORT_UNREACHABLE if refused else BACKEND_SEND_FAILED)] += 1
        udp.service.failed(target)
        if refused:
            udp.closed_ports.note(target, udp.poller.now)
            udp.lose(self)
        else:
            self.close()

    def close(self) -> None:
        """Let the socket go."""
        if self.sock is not None:
            self.udp.poller.discard(self.sock)
            self.sock = None

    def _open(self, now: float) -> socket.socket | None:
        """Open the socket, or replace one whose time is over; what there is then."""
        if now < self.barred:
            return self.sock
        udp = self.udp
        sock: socket.socket | None = None
        try:
            stock = udp.service.stock
            if stock is None:
                sock = connect(self.target, self.port)
            else:
                where = sockaddr(self.target.address, self.port)
                sock = open_outlet(stock, self.target.family, where, RECEIVE_BUFFER)
            udp.poller.register(sock, self.on_event, DATAGRAM)
        except OSError as error:
            if sock is not None:
                sock.close()
            if isinstance(error, EmptyStockError):
                udp.cells[udp.base + error.cell] += 1  # the next datagram may find one
                return self.sock
            self.barred = now + PAUSE
            shortage = SHORTAGES.get(error.errno or 0)
            if shortage is not None:
                udp.cells[udp.base + shortage] += 1
            else:
                udp.cells[self.target.cell + BACKEND_SEND_FAILED] += 1
                udp.service.failed(self.target)
            return self.sock
        self.close()
        self.sock = sock
        self.born = now
        return sock


class PerDatagramService:
    """The datagrams of one service in one worker."""

    idle = True
    """Nothing is waited for."""

    def __init__(self, service: Service, poller: Poller) -> None:
        self.service = service
        self.poller = poller
        self.cells = service.cells
        self.base = service.cell
        self.buffer = bytearray(LARGEST)
        self.view = memoryview(self.buffer)
        self.spare = bytearray(LARGEST)  # for what backends send while a client's datagram is in the buffer
        self.closed_ports = ClosedPorts()
        self._lost: list[Sent] = []  # datagrams that were refused, and go elsewhere in the next round
        self._outlets: dict[tuple[Target, int], Outlet] = {}
        self._access = service.access
        self._rate = service.rate("udp")
        self._introducers = Introducers(service.plan.accept_proxy, service.cells, service.cell)
        self.take: Callable[[PerDatagramListener, memoryview, Client], None] = (
            self._introduced if self._introducers else self.admit
        )
        """Takes one datagram as it came."""

    def listen(self, member: Member, sock: socket.socket) -> PerDatagramListener:
        """Poll a member's socket."""
        listener = PerDatagramListener(self, member, sock)
        self.poller.register(sock, listener.on_event, DATAGRAM)
        return listener

    def unlisten(self, listener: PerDatagramListener) -> None:
        """Stop polling it; nothing more is sent through it."""
        self.poller.forget(listener.sock, listener.on_event)

    def close(self) -> None:
        """Close the sockets to the backends."""
        for outlet in self._outlets.values():
            outlet.close()

    def returned(self, targets: Iterable[Target]) -> None:
        """Backends that came up again get fresh sockets: their address or our route may have changed."""
        back = set(targets)
        for outlet in self._outlets.values():
            if outlet.target in back:
                outlet.close()
        for target in back:
            self.closed_ports.forget(target)

    def unfit(self, targets: Iterable[Target]) -> None:
        """Nothing to do: what was sent there is not kept."""

    def went_down(self, targets: Iterable[Target]) -> None:
        """Nothing to do: the next datagram goes to those who are up."""

    def failed_back(self, targets: Iterable[Target]) -> None:
        """Nothing to do: nothing is kept."""

    def cut(self, targets: Iterable[Target]) -> None:
        """Nothing to do: nothing is kept."""

    def relisted(self, gone: Iterable[Target]) -> None:
        """Let go of those who are not listed any more."""
        left = set(gone)
        for target, port in [key for key in self._outlets if key[0] in left]:
            self._outlets.pop((target, port)).close()
            self.closed_ports.forget(target)

    def _introduced(self, listener: PerDatagramListener, data: memoryview, client: Client) -> None:
        """Take one datagram, before which a listed source tells of its client."""
        found = self._introducers.read(data, client)
        if found is not None:
            self.admit(listener, found[1], client, found[0])

    def admit(
        self, listener: PerDatagramListener, data: memoryview, client: Client, told: Header | None = None
    ) -> None:
        """Send one datagram of a client to a backend; `told`: of whom a PROXY header tells."""
        cells, base, service = self.cells, self.base, self.service
        cells[base + SERVICE_DATAGRAMS] += 1
        if not client[1]:
            cells[base + SERVICE_SOURCE_PORT_ZERO] += 1
            return
        if not self._access.anybody and not self._access.permits(who(client, told)[0]):
            cells[base + SERVICE_DENIED] += 1
            return
        if self._rate is not None and service.is_too_fast(self._rate, str(who(client, told)[0])):
            return
        self._send(listener, data, client, told)

    def lose(self, outlet: Outlet) -> None:
        """Let what an outlet sent last, which was refused, go elsewhere; in a later round, for this may be the middle of sending."""
        last, outlet.last = outlet.last, None
        if last is not None and self.poller.now - last.at <= KEPT and len(last.tried) + 1 < ATTEMPTS:
            self._lost.append(last._replace(tried=(*last.tried, outlet.target)))
            self.poller.again(self._resend)

    def _resend(self, mask: int) -> None:  # noqa: ARG002 - the poller's
        """Send elsewhere what was refused."""
        lost, self._lost = self._lost, []
        for one in lost:
            self._send(one.listener, one.data, one.client, one.told, one.tried)

    def _send(
        self, listener: PerDatagramListener, data: bytes | memoryview, client: Client, told: Header | None,
        refused: tuple[Target, ...] = (),
    ) -> None:  # fmt: skip
        """Send one datagram to a backend, none of those that have `refused` it."""
        cells, base, service = self.cells, self.base, self.service
        key = service.key(listener.route, who(client, told)) if service.selector.needs_key else 0
        closed = (*refused, *self.closed_ports.targets(self.poller.now)) if self.closed_ports else refused
        target = service.pick(key, closed)
        if target is None and refused:
            return  # counted as its backends' fault
        target = target or service.pick(key, ())
        if target is None:
            cells[base + service.why_nobody()] += 1
            return
        cells[base + SERVICE_RETRIES] += bool(refused)
        source = source_of(who(client, told)) if service.stock is not None else []
        first, tried = target, closed
        for _ in range(ATTEMPTS):
            outlet = self._outlet(listener, target)
            if outlet.send(header_for(target, listener.member, client, told), data, source):
                outlet.last = Sent(listener, bytes(data), client, told, refused, self.poller.now)
                return
            service.unclaim(target)
            tried += (target,)
            target = service.pick(key, tried)
            if target is None:
                break
            cells[base + SERVICE_RETRIES] += 1
        else:
            service.unclaim(target)
        # What was refused may have been an earlier datagram: a port that is open again gets this one.
        if not self._outlet(listener, first).send(header_for(first, listener.member, client, told), data, source):
            cells[base + SERVICE_REFUSED_NO_BACKEND] += 1

    def _outlet(self, listener: PerDatagramListener, target: Target) -> Outlet:
        port = target.port or listener.member.port
        outlet = self._outlets.get((target, port))
        if outlet is None:
            outlet = self._outlets[target, port] = Outlet(self, target, port)
        return outlet


def _is_the_clients(error: OSError, source: list[tuple[int, int, bytes]]) -> bool:
    """Whether it is the client's address that nothing can be sent from, or that has no way beyond its own link."""
    scope = source[0][2][16:]  # of IPv6 only (RFC 3542, section 6.1)
    return error.errno in {errno.EINVAL, errno.EADDRNOTAVAIL} or (any(scope) and error.errno in NO_WAY)
