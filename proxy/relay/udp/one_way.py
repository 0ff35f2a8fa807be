"""Plain UDP without sessions: each datagram is balanced by itself, without answers (syslog, RFC 5426; metrics).

Laws:
- A datagram goes unchanged to one backend, picked for it alone; the relay remembers nothing about its client.
- Each backend and port has one connected socket for all clients; it is replaced every minute and when it is broken.
- Datagrams from backends are read, counted and dropped: no client waits for them.
- PROXY headers stand before each datagram, in and out, as with sessions.
- A backend whose port is closed gets nothing for a moment if another one is usable.  The last datagram sent to it goes
  to another backend at once; earlier ones are lost.
"""

import errno
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

from proxy.relay.native.poller import DATAGRAM, Poller
from proxy.relay.plan import Member
from proxy.relay.proxy_header.datagrams import Introducers, header_for, who
from proxy.relay.proxy_header.header import Header
from proxy.relay.service import Service
from proxy.relay.sockets.address import Client, sockaddr
from proxy.relay.sockets.datagram import BATCH, LARGEST, UNSENT, endpoint, source_of
from proxy.relay.sockets.outgoing import LIFETIME, RECEIVE_BUFFER, REOPEN_PAUSE, SHORTAGES, connect
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
    """A datagram that was sent to a backend, with all that is needed to send it to another one."""

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

    def stop(self) -> None:
        """Stop polling, and take what has arrived already."""
        self.udp.poller.forget(self.sock)
        self.udp.poller.again(self.on_event)

    @property
    def reading(self) -> bool:
        """Return True if there may be more to take."""
        return self.udp.poller.waits(self.on_event)

    needed = False
    """Nothing is answered."""

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - reading tells what happened
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
    """The connected socket to one backend at one port, opened when it is needed."""

    __slots__ = ("barred", "born", "last", "port", "sock", "target", "udp")

    def __init__(self, udp: "PerDatagramService", target: Target, port: int) -> None:
        self.udp = udp
        self.target = target
        self.port = port
        self.sock: socket.socket | None = None
        self.born = 0.0
        self.barred = 0.0  # it is not opened before this time
        self.last: Sent | None = None  # the last datagram, which an ICMP error may be about

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - reading tells what happened
        """Drop datagrams from the backend, and read ICMP errors."""
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
            self.last = None  # the backend's port is open, so the last datagram arrived
            udp.cells[udp.base + SERVICE_UNWANTED_REPLY] += 1
        udp.poller.again(self.on_event)

    def send(self, head: bytes, data: bytes | memoryview, source: list[tuple[int, int, bytes]]) -> bool:
        """Send a datagram behind a header, from the client's address if `source` names it; False: try another backend."""
        udp, target = self.udp, self.target
        if source and (source[0][0] == socket.IPPROTO_IPV6) != (target.family == socket.AF_INET6):
            udp.cells[udp.base + SERVICE_NO_SOURCE_ADDRESS] += (
                1  # the kernel would ignore it and use this host's address
            )
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
                    # Perhaps an ICMP error about an earlier datagram (RFC 1191): this one was not sent, and the path is known now.
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
        """Count an ICMP error about an earlier datagram, or close the socket after another error: a new one may help."""
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
        """Close the socket."""
        if self.sock is not None:
            self.udp.poller.discard(self.sock)
            self.sock = None

    def _open(self, now: float) -> socket.socket | None:
        """Open or replace the socket; if that fails, return the current one, which may be None."""
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
                udp.cells[udp.base + error.cell] += 1  # there may be a socket for the next datagram
                return self.sock
            self.barred = now + REOPEN_PAUSE
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
    """No answers are pending."""

    def __init__(self, service: Service, poller: Poller) -> None:
        self.service = service
        self.poller = poller
        self.cells = service.cells
        self.base = service.cell
        self.buffer = bytearray(LARGEST)
        self.view = memoryview(self.buffer)
        self.spare = bytearray(LARGEST)  # for backends' datagrams, while a client's is in the buffer
        self.closed_ports = ClosedPorts()
        self._lost: list[Sent] = []  # refused datagrams, which go to other backends in the next round
        self._outlets: dict[tuple[Target, int], Outlet] = {}
        self._take()

    def _take(self) -> None:
        """Use what the service's plan says now."""
        service = self.service
        self._stock = service.stock
        self._access = service.access
        self._rate = service.rate("udp")
        self._introducers = Introducers(service.plan.accept_proxy, service.cells, service.cell)
        self.take: Callable[[PerDatagramListener, memoryview, Client], None] = (
            self._introduced if self._introducers else self.admit
        )
        """Takes one datagram as it arrived, with its PROXY header if there is one."""

    def listen(self, member: Member, sock: socket.socket) -> PerDatagramListener:
        """Poll a member's socket."""
        listener = PerDatagramListener(self, member, sock)
        self.poller.register(sock, listener.on_event, DATAGRAM)
        return listener

    def unlisten(self, listener: PerDatagramListener) -> None:
        """Stop polling a listener."""
        self.poller.forget(listener.sock, listener.on_event)

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
        self._take()
        left = {*gone, *moved} if stock is self._stock else {target for target, _ in self._outlets}
        for target, port in [key for key in self._outlets if key[0] in left]:
            self._outlets.pop((target, port)).close()
            self.closed_ports.forget(target)

    def _introduced(self, listener: PerDatagramListener, data: memoryview, client: Client) -> None:
        """Take one datagram that begins with a PROXY header if its source is listed."""
        found = self._introducers.read(data, client)
        if found is not None:
            self.admit(listener, found[1], client, found[0])

    def admit(
        self, listener: PerDatagramListener, data: memoryview, client: Client, told: Header | None = None
    ) -> None:
        """Send one datagram of a client to a backend; `told` is its PROXY header."""
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
        """Send an outlet's last datagram, which was refused, to another backend.

        It happens in a later round, because the caller may be in the middle of sending.
        """
        last, outlet.last = outlet.last, None
        if last is not None and self.poller.now - last.at <= KEPT and len(last.tried) + 1 < ATTEMPTS:
            self._lost.append(last._replace(tried=(*last.tried, outlet.target)))
            self.poller.again(self._resend)

    def _resend(self, mask: int) -> None:  # noqa: ARG002 - the poller passes it
        """Send refused datagrams to other backends."""
        lost, self._lost = self._lost, []
        for one in lost:
            self._send(one.listener, one.data, one.client, one.told, one.tried)

    def _send(
        self, listener: PerDatagramListener, data: bytes | memoryview, client: Client, told: Header | None,
        refused: tuple[Target, ...] = (),
    ) -> None:  # fmt: skip
        """Send one datagram to a backend, none of the `refused` ones, which have refused it."""
        cells, base, service = self.cells, self.base, self.service
        key = service.key(listener.route, who(client, told)) if service.selector.needs_key else 0
        closed = (*refused, *self.closed_ports.targets(self.poller.now)) if self.closed_ports else refused
        target = service.pick(key, closed)
        if target is None and refused:
            return  # already counted at its backends
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
        # The refusal may have been about an earlier datagram: if the port is open again, it gets this one.
        if not self._outlet(listener, first).send(header_for(first, listener.member, client, told), data, source):
            cells[base + SERVICE_REFUSED_NO_BACKEND] += 1

    def _outlet(self, listener: PerDatagramListener, target: Target) -> Outlet:
        port = target.port or listener.member.port
        outlet = self._outlets.get((target, port))
        if outlet is None:
            outlet = self._outlets[target, port] = Outlet(self, target, port)
        return outlet


def _is_the_clients(error: OSError, source: list[tuple[int, int, bytes]]) -> bool:
    """Return True if the error is due to the client's address: it cannot be used, or cannot leave its own link."""
    scope = source[0][2][16:]  # of IPv6 only (RFC 3542, section 6.1)
    return error.errno in {errno.EINVAL, errno.EADDRNOTAVAIL} or (any(scope) and error.errno in NO_WAY)
