"""TCP services: accept clients while there is room, and keep the connections of each service."""

import errno
import socket
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from proxy.relay.clients.access import Blocks
from proxy.relay.clients.connection_counts import Clients
from proxy.relay.native.poller import LISTENER, STREAM, Poller
from proxy.relay.plan import Member
from proxy.relay.service import Service
from proxy.relay.sockets.stream_options import OURS, arm_reset, tune
from proxy.relay.target import Target
from proxy.relay.tcp import connecting
from proxy.relay.tcp.connection import Connection
from proxy.relay.tcp.gate import Gate
from proxy.relay.tcp.queue import Queue
from proxy.relay.tcp.side import BUFFER, State
from proxy.stats.columns import Siblings
from proxy.stats.layout import (
    SERVICE_ACCEPT_FAILED,
    SERVICE_ACCEPT_PAUSED,
    SERVICE_ACCEPTED,
    SERVICE_CONNECTIONS,
    SERVICE_DRAINED_HARD,
    SERVICE_NO_DESCRIPTOR,
    SERVICE_NO_MEMORY,
    SERVICE_RESET_ON_DOWN,
    SERVICE_RESET_ON_FAILBACK,
    SERVICE_SESSIONS,
)

if TYPE_CHECKING:
    from proxy.relay.native.timers import Timer
    from proxy.relay.observer import Observer

ACCEPTS = 64  # connections accepted in one turn
COUNTED = 256  # connections counted in one turn for a new limit on their clients
MOVED = 64  # pending connects to an unfit backend that are moved in one turn
ACCEPT_PAUSE = 0.1  # s without accepting after descriptors or memory ran out


class TcpListener:
    """One listening socket."""

    def __init__(self, tcp: "TcpService", member: Member, sock: socket.socket) -> None:
        self.tcp = tcp
        self.member = member
        self.sock = sock
        self.route = member.text.encode()

    def stop(self) -> None:
        """Stop polling, and take what has arrived already."""
        self.tcp.poller.forget(self.sock)
        self.tcp.poller.again(self.on_event)

    @property
    def reading(self) -> bool:
        """Return True if there may be more to take, or clients wait for room."""
        return self in self.tcp.stalled or self.tcp.poller.waits(self.on_event)

    needed = False
    """Connections have sockets of their own."""

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - accept() tells what happened
        """Accept waiting clients while there is room."""
        self._accept()
        if self.tcp.gate is not None:
            self.tcp.gate.settle()

    def _accept(self) -> None:
        tcp = self.tcp
        admission, gate = tcp.admission, tcp.gate
        for _ in range(ACCEPTS):
            if not admission.room() or (gate is not None and not gate.enter(self)):
                tcp.stalled.add(self)
                return
            try:
                sock, source = self.sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OURS:
                    tcp.stalled.add(self)
                    admission.pause(tcp, error.errno)
                    return
                # The connection died in the queue (accept(2): accept returns errors of the new socket).
                tcp.cells[tcp.base + SERVICE_ACCEPT_FAILED] += 1
                if error.errno == errno.EINVAL:
                    return  # the listening socket itself was destroyed
                continue
            tcp.accepted(self, sock, source)
        tcp.poller.again(self.on_event)


class TcpService:
    """The connections of one service in one worker."""

    def __init__(self, service: Service, poller: Poller, admission: "Admission") -> None:
        self.service = service
        self.poller = poller
        self.cells = service.cells
        self.base = service.cell
        self.log = service.log
        self.followed: Observer | None = None  # set while an operator follows beginnings and ends
        self.buffer, self.view = admission.buffer, admission.view
        self.admission = admission
        self.connections: set[Connection] = set()
        self.stalled: set[TcpListener] = set()
        self._moving: list[tuple[Connection, Target]] = []  # connections that must still leave an unfit backend
        self._uncounted: list[Connection] = []  # connections that began before their clients were limited
        self.gate: Gate | None = None
        self.queue: Queue | None = None
        self.per_client = service.plan.limits.per_client
        self._take()

    def _take(self) -> None:
        """Use what the service's plan says now."""
        service, plan = self.service, self.service.plan
        self.times = plan.tcp
        self.introducers = Blocks(plan.accept_proxy)
        self.rate = service.rate("tcp")
        most = plan.limits.connections
        if most and self.gate is not None:
            self.gate.most = most
        elif most:
            self.gate = Gate(self, most, self.admission.siblings)
        elif self.gate is not None:
            self.gate.open()
            self.gate = None
        if self.queue is not None:
            self.queue.changed()
        elif service.capacity is not None:
            self.queue = Queue(self, service.capacity)

    def listen(self, member: Member, sock: socket.socket) -> TcpListener:
        """Poll a member's socket; clients that are queued in it already cause an edge."""
        listener = TcpListener(self, member, sock)
        self.poller.register(sock, listener.on_event, LISTENER)
        return listener

    def unlisten(self, listener: TcpListener) -> None:
        """Stop polling a member's socket; the worker that polls it next accepts the waiting clients."""
        self.poller.forget(listener.sock, listener.on_event)
        self.stalled.discard(listener)

    def accepted(self, listener: TcpListener, sock: socket.socket, source: tuple[str, int]) -> None:
        """Begin a connection.  Its socket inherits the options of the listening socket."""
        sock.setblocking(False)
        conn = Connection(self, listener, sock, source)
        try:
            self.poller.register(sock, conn.client.on_event, STREAM)
        except OSError as error:
            arm_reset(sock)
            sock.close()
            self.admission.pause(self, error.errno)
            return
        self.admission.open += 1
        self.connections.add(conn)
        cells = self.cells
        cells[self.base + SERVICE_ACCEPTED] += 1
        cells[self.base + SERVICE_SESSIONS] += 1
        cells[self.base + SERVICE_CONNECTIONS] = len(self.connections)
        if self.introducers and source[0] in self.introducers:
            conn.await_header()
        else:
            conn.admit()

    def freed(self, conn: Connection) -> None:
        """Count the end of a connection, and accept a waiting client."""
        self.connections.discard(conn)
        self.cells[self.base + SERVICE_SESSIONS] -= 1
        self.cells[self.base + SERVICE_CONNECTIONS] = len(self.connections)
        if conn.counted:
            self.admission.clients.leave(conn.counted)
        self.admission.freed()

    def has_room_for(self, conn: Connection) -> bool:
        """Return True and count the connection if its client may have one more."""
        if not self.per_client:
            return True
        conn.counted = self.admission.clients.enter(self.service.plan.slot, conn.source[0], self.per_client)
        return conn.counted != 0

    def accept_again(self) -> None:
        """Let the listeners that waited for room try again."""
        stalled, self.stalled = self.stalled, set()
        for listener in stalled:
            self.poller.again(listener.on_event)

    def tune(self, sock: socket.socket) -> None:
        """Set the options of a socket to a backend."""
        tune(sock, self.times.keepalive, self.times.user_timeout)

    # -- changes

    def unfit(self, targets: Iterable[Target]) -> None:
        """Move pending connects away from backends that went down or were ejected."""
        begins = not self._moving
        self._moving += [
            (conn, target) for target in targets for conn in target.connections if conn.state is State.CONNECTING
        ]
        if begins:
            self._move(0)

    def _move(self, mask: int) -> None:  # noqa: ARG002 - the poller passes it
        """Move the next pending connects; there may be thousands."""
        lot, self._moving = self._moving[-MOVED:], self._moving[:-MOVED]
        for conn, target in lot:
            if conn.state is State.CONNECTING and conn.target is target:
                connecting.move(conn)
        if self._moving:
            self.poller.again(self._move)

    def went_down(self, targets: Iterable[Target]) -> None:
        """Reset the connections of backends that went down, if the service has `on-down = "reset"`."""
        if self.service.plan.on_down == "reset":
            self._end(targets, SERVICE_RESET_ON_DOWN)

    def failed_back(self, targets: Iterable[Target]) -> None:
        """Reset connections on backends that are no longer the best ones, with `on-failback = "reset"`."""
        self._end(targets, SERVICE_RESET_ON_FAILBACK)

    def returned(self, targets: Iterable[Target]) -> None:
        """Nothing to do: connections stay where they are."""

    def changed(self, gone: Iterable[Target], moved: Iterable[Target]) -> None:
        """Use the service's changed plan; backends are `gone`, or `moved` to another address or source address."""
        self._take()
        if self.queue is not None:
            self.queue.relisted(gone)
        limit, self.per_client = self.per_client, self.service.plan.limits.per_client
        if self.per_client and not limit:
            self._uncounted = list(self.connections)
            self.poller.again(self._count)
        for target in moved:
            for conn in list(target.connections):
                if conn.state is State.CONNECTING:
                    connecting.anew(conn)
        self.accept_again()

    def _count(self, mask: int) -> None:  # noqa: ARG002 - the poller passes it
        """Count the next connections that began before their clients were limited."""
        lot, self._uncounted = self._uncounted[-COUNTED:], self._uncounted[:-COUNTED]
        for conn in lot:
            if not conn.counted and conn.state not in {State.CLOSED, State.INTRODUCING}:
                conn.counted = self.admission.clients.enter(self.service.plan.slot, conn.source[0], sys.maxsize)
        if self._uncounted:
            self.poller.again(self._count)

    def tidy(self) -> None:
        """Drop what is left of limits and addresses that were changed, when nothing needs it any more."""
        if self.queue is not None and not self.service.limited and not len(self.queue):
            self.queue = self.service.capacity = None
        for target in self.service.targets:
            if target.former:
                target.former = {conn: at for conn, at in target.former.items() if conn.state is not State.CLOSED}

    def cut(self, targets: Iterable[Target]) -> None:
        """Reset all connections of these backends: they are in maintenance, gone, or past their drain-timeout."""
        self._end(targets, SERVICE_DRAINED_HARD)

    def _end(self, targets: Iterable[Target], cell: int) -> None:
        for target in targets:
            for conn in list(target.connections):
                if conn.state is State.CONNECTING:
                    connecting.move(conn)
                else:
                    conn.ends(cell)
                    conn.close(reset=True)

    @property
    def paused(self) -> bool:
        """Return True if accepting is paused because descriptors or memory ran out."""
        return self.admission.paused

    @property
    def idle(self) -> bool:
        """Return True if no connection is open."""
        return not self.connections

    def close(self) -> None:
        """Reset every connection that is left."""
        for conn in list(self.connections):
            conn.ends(SERVICE_DRAINED_HARD)
            conn.close(reset=True)


class Admission:
    """The state that all TCP services of a worker share: the limit on connections, and the buffer they read into.

    When descriptors or memory run out, every service stops accepting for `ACCEPT_PAUSE`, or until a connection ends.
    Clients wait in the kernel's queue, and nothing spins.  Afterwards clients that are accepted already come first.
    """

    def __init__(self, most: int, poller: Poller, siblings: Siblings, clients: Clients) -> None:
        self.most = most
        self.siblings = siblings
        self.clients = clients
        self.open = 0
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.services: list[TcpService] = []
        self.paused = False
        self._poller = poller
        self._timer: Timer | None = None
        self._waiting: list[Connection] = []

    def limit(self, most: int) -> None:
        """Change the limit; connections above it go on."""
        self.most = most
        self._accept()

    def room(self) -> bool:
        """Return True if one more connection may be accepted."""
        return self.open < self.most and not self.paused

    def pause(self, tcp: TcpService, number: int | None) -> None:
        """Stop accepting for a moment because `tcp` got this error."""
        no_memory = number in {errno.ENOBUFS, errno.ENOMEM}
        tcp.cells[tcp.base + (SERVICE_NO_MEMORY if no_memory else SERVICE_NO_DESCRIPTOR)] += 1
        if not self.paused:
            self.paused = True
            tcp.cells[tcp.base + SERVICE_ACCEPT_PAUSED] += 1
            self._timer = self._poller.at(self._poller.now + ACCEPT_PAUSE, self._resume)

    def wait(self, tcp: TcpService, conn: Connection, number: int | None) -> None:
        """Stop accepting, and let `conn` connect before another client is accepted."""
        self.pause(tcp, number)
        if conn not in self._waiting:
            self._waiting.append(conn)

    def freed(self) -> None:
        """Count the end of a connection, and accept again in the next round, when its descriptors are closed."""
        self.open -= 1
        if self.paused:
            self._poller.again(self._resume)
        else:
            self._accept()

    def _resume(self, _: float) -> None:
        """Connect waiting clients and accept again, because the pause is over or a connection has ended."""
        self.paused = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and not self.paused:
            conn = self._waiting.pop(0)
            if conn.state is State.WAITING:
                connecting.connect(conn)
        if not self.paused:
            self._accept()

    def _accept(self) -> None:
        for service in self.services:
            if service.stalled:
                service.accept_again()
