"""TCP services: the policy of accepting clients, and what happens to connections when the service changes."""

import errno
import socket
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from proxy.relay.clients.access import Blocks
from proxy.relay.clients.connection_counts import Clients
from proxy.relay.native.pipes import MOST as PIPES
from proxy.relay.native.poller import Poller
from proxy.relay.native.siblings import Siblings
from proxy.relay.native.tcp_connection import Connection
from proxy.relay.native.tcp_half import Room
from proxy.relay.native.tcp_listener import TcpListener
from proxy.relay.native.tcp_pair import State
from proxy.relay.native.tcp_streams import Streams
from proxy.relay.plan import Member
from proxy.relay.service import Service
from proxy.relay.sockets.stream_options import tune
from proxy.relay.target import Target
from proxy.relay.tcp import connecting, introducing
from proxy.relay.tcp.gate import Gate
from proxy.relay.tcp.queue import Queue
from proxy.stats.layout import (
    SERVICE_ACCEPT_PAUSED,
    SERVICE_DENIED,
    SERVICE_DRAINED_HARD,
    SERVICE_NO_DESCRIPTOR,
    SERVICE_NO_MEMORY,
    SERVICE_RATE_LIMITED,
    SERVICE_REFUSED_CLIENT,
    SERVICE_RESET_ON_DOWN,
    SERVICE_RESET_ON_FAILBACK,
)

if TYPE_CHECKING:
    from proxy.relay.native.timers import Timer

BUFFER = 256 << 10  # octets read at a time, and the size of a pipe
SPLICE_FROM = 16 << 10  # octets of a read from which on octets are spliced
COUNTED = 256  # connections counted in one turn for a new limit on their clients
MOVED = 64  # pending connects to an unfit backend that are moved in one turn
ACCEPT_PAUSE = 0.1  # s without accepting after descriptors or memory ran out


class TcpService(Streams):
    """The connections of one service in one worker."""

    service: Service
    admission: "Admission"
    gate: Gate | None
    queue: Queue | None

    def __init__(self, service: Service, poller: Poller, admission: "Admission") -> None:
        super().__init__(service, poller, admission)
        self.log = service.log
        self._moving: list[tuple[Connection, Target]] = []  # connections that must still leave an unfit backend
        self._uncounted: list[Connection] = []  # connections that began before their clients were limited
        self._untimed: list[Connection] = []  # connections whose timers are those of an earlier plan
        self.per_client = service.plan.limits.per_client
        self._take()

    def _take(self) -> None:
        """Use what the service's plan says now."""
        service, plan = self.service, self.service.plan
        self.times = plan.tcp
        self.connect_timeout = plan.tcp.connect_timeout
        self.idle_timeout = plan.tcp.idle_timeout
        self.fin_timeout = plan.tcp.fin_timeout
        self.max_lifetime, self.quiet = plan.tcp.max_lifetime, plan.tcp.quiet
        self._introducers = Blocks(plan.accept_proxy)
        self.introduced = bool(self._introducers)
        self.rate = service.rate("tcp")
        self.transparent = service.stock is not None
        self.guarded = bool(not service.access.anybody or self.rate is not None or plan.limits.per_client)
        self.forget_ways()
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
        listener.listen()
        return listener

    def unlisten(self, listener: TcpListener) -> None:
        """Stop polling a member's socket; the worker that polls it next accepts the waiting clients."""
        listener.close()

    def accept_again(self) -> None:
        """Let the listeners that waited for room try again."""
        stalled = list(self.stalled)
        self.stalled.clear()
        for listener in stalled:
            listener.again()

    # -- policy that connections ask for where it is configured

    def is_introducer(self, host: str) -> bool:
        """Return True if connections from `host` begin with a PROXY header."""
        return host in self._introducers

    def introduce(self, conn: Connection, near: bool) -> None:
        """Read the PROXY header of a connection."""
        introducing.read_header(conn, near=near)

    def header(self, conn: Connection, version: str) -> bytes:
        """Return the PROXY header for a connection's backend."""
        return introducing.header(conn, version)

    def refusal(self, conn: Connection) -> int:
        """Return the counter for why a client is denied, exceeds its rate, or has too many connections; -1: none."""
        access = self.service.access
        if not (access.anybody or access.permits(conn.source[0])):
            self.cells[self.base + SERVICE_DENIED] += 1
            return SERVICE_DENIED
        if self.rate is not None and self.service.is_too_fast(self.rate, conn.source[0]):
            return SERVICE_RATE_LIMITED  # counted already
        if self.per_client:
            conn.counted = self.admission.clients.enter(self.service.plan.slot, conn.source[0], self.per_client)
            if not conn.counted:
                self.cells[self.base + SERVICE_REFUSED_CLIENT] += 1
                return SERVICE_REFUSED_CLIENT
        return -1

    def parted(self, conn: Connection) -> None:
        """Note the end of a connection that counts for its client."""
        self.admission.clients.leave(conn.counted)

    def pick(self, conn: Connection, key: int, avoid: tuple[Target, ...]) -> Target | None:
        """Choose a backend where places are limited or clients keep theirs."""
        return connecting.pick(self, conn, key, avoid)

    def unserved(self, conn: Connection, dry: bool) -> None:
        """Decide what becomes of a client for which no backend is left."""
        connecting.unserved(self, conn, dry=dry)

    def open(self, conn: Connection, target: Target) -> tuple[int, int]:
        """Return (descriptor, errno) of a connect from a chosen address."""
        return connecting.open_socket(self, conn, target)

    def tune_socket(self, sock: socket.socket) -> None:
        """Set the options of a socket to a backend."""
        tune(sock, self.times.keepalive, self.times.user_timeout)

    def tune(self, fd: int) -> None:
        """Set the options of a connection to a backend that has lasted; it goes on if that fails."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fd)  # the kernel knows its real family
        try:
            self.tune_socket(sock)
        except OSError:
            pass
        finally:
            sock.detach()

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
                conn.move()
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
        times = self.times
        self._take()
        if times != self.times and not self._untimed:
            self.poller.again(self._time)
        if times != self.times:
            self._untimed = list(self.connections)
        if self.queue is not None:
            self.queue.relisted(gone)
        limit, self.per_client = self.per_client, self.service.plan.limits.per_client
        if self.per_client and not limit:
            self._uncounted = list(self.connections)
            self.poller.again(self._count)
        for target in moved:
            for conn in list(target.connections):
                if conn.state is State.CONNECTING:
                    conn.anew()
        self.accept_again()

    def _count(self, mask: int) -> None:  # noqa: ARG002 - the poller passes it
        """Count the next connections that began before their clients were limited."""
        lot, self._uncounted = self._uncounted[-COUNTED:], self._uncounted[:-COUNTED]
        for conn in lot:
            if not conn.counted and conn.state not in {State.CLOSED, State.INTRODUCING}:
                conn.counted = self.admission.clients.enter(self.service.plan.slot, conn.source[0], sys.maxsize)
        if self._uncounted:
            self.poller.again(self._count)

    def _time(self, mask: int) -> None:  # noqa: ARG002 - the poller passes it
        """Let the next connections look at the changed timers."""
        lot, self._untimed = self._untimed[-COUNTED:], self._untimed[:-COUNTED]
        for conn in lot:
            if conn.state is State.OPEN:
                conn.due(self.poller.now)
        if self._untimed:
            self.poller.again(self._time)

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
                    conn.move()
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


class Admission(Room):
    """What all TCP services of a worker share, and the limit on their connections.

    When descriptors or memory run out, every service stops accepting for `ACCEPT_PAUSE`, or until a connection ends.
    Clients wait in the kernel's queue, and nothing spins.  Afterwards clients that are accepted already come first.
    """

    def __init__(self, most: int, poller: Poller, siblings: Siblings, clients: Clients) -> None:
        super().__init__(most, poller, BUFFER, SPLICE_FROM, PIPES)
        self.siblings = siblings
        self.clients = clients
        self.services: list[TcpService] = []
        self._timer: Timer | None = None
        self._waiting: list[Connection] = []

    def limit(self, most: int) -> None:
        """Change the limit; connections above it go on."""
        self.most = most
        self._accept()

    def pause(self, tcp: TcpService, number: int | None) -> None:
        """Stop accepting for a moment because `tcp` got this error."""
        no_memory = number in {errno.ENOBUFS, errno.ENOMEM}
        tcp.cells[tcp.base + (SERVICE_NO_MEMORY if no_memory else SERVICE_NO_DESCRIPTOR)] += 1
        if not self.paused:
            self.paused = True
            tcp.cells[tcp.base + SERVICE_ACCEPT_PAUSED] += 1
            self._timer = self.poller.at(self.poller.now + ACCEPT_PAUSE, self._resume)

    def wait(self, tcp: TcpService, conn: Connection, number: int | None) -> None:
        """Stop accepting, and let `conn` connect before another client is accepted."""
        self.pause(tcp, number)
        if conn not in self._waiting:
            self._waiting.append(conn)

    def freed(self) -> None:
        """Accept again in the next round, when the descriptors of the connection that ended are closed."""
        if self.paused:
            self.poller.again(self._resume)
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
                conn.connect()
        if not self.paused:
            self._accept()

    def _accept(self) -> None:
        self.crowded = False
        for service in self.services:
            if service.stalled:
                service.accept_again()
