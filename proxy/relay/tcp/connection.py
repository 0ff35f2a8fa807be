"""One relayed TCP connection: its client and backend sockets, from the accept to their ends.

Laws:
- The client is not read before a backend is connected; until something has passed, a reset of the backend counts as a
  failed connect (`connecting`).
- All octets that one side has sent reach the other in order, followed by its FIN (RFC 9293, section 3.6) or its RST.
  An RST is passed on when the octets before it have left the send queue, at the latest after fin-timeout.
- At most one buffer of `BUFFER` octets waits in each direction; meanwhile the sending side is not read.
- A source listed in `accept-proxy` first sends a PROXY header, which names the client and the address it connected to.
"""

import errno
import socket
from typing import TYPE_CHECKING

from proxy.relay.native.poller import ERR, HUP, IN, OUT, PRI, RDHUP
from proxy.relay.proxy_header.header import LONGEST, Endpoint, HeaderError, parse
from proxy.relay.sockets.stream_options import arm_reset
from proxy.relay.tcp import connecting
from proxy.relay.tcp.side import Half, State
from proxy.stats.layout import (
    BACKEND_RESET,
    BACKEND_TIMEOUT,
    SERVICE_BACKEND_RESET,
    SERVICE_BACKEND_TIMEOUT,
    SERVICE_CLIENT_GONE,
    SERVICE_CLIENT_RESET,
    SERVICE_CLIENT_TIMEOUT,
    SERVICE_CLOSED,
    SERVICE_DENIED,
    SERVICE_FIN_TIMEOUT,
    SERVICE_IDLE_TIMEOUT,
    SERVICE_PROXY_MALFORMED,
    SERVICE_PROXY_TIMEOUT,
    SERVICE_QUEUE_TIMEOUT,
    SERVICE_RATE_LIMITED,
    SERVICE_REFUSED_CLIENT,
)

if TYPE_CHECKING:
    from proxy.relay.native.timers import Timer
    from proxy.relay.target import Target
    from proxy.relay.tcp.service import TcpListener, TcpService

GRACE = 0.5  # s that a connect may still take after the client has sent nothing but a FIN
LINGERING = 0.01  # s between two looks at the send queue before an RST; doubled each time, up to a second
LOOK = 30.0  # s: no timer is set further ahead, because a cancelled timer stays in the heap until it would be due

# The kernel's errors when it gives up retransmitting: ETIMEDOUT, or the last ICMP error.
_GIVEN_UP = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})


class Connection:
    """One client's connection, from its accept to the end of both sockets."""

    __slots__ = ("accepted", "asked", "backend", "began", "client", "counted", "deadline", "last", "leaves", "listener", "lost", "portless", "queued",
                 "source", "state", "sticky", "target", "tcp", "timer", "touched", "tried", "wait", "why")  # fmt: skip

    def __init__(
        self, tcp: "TcpService", listener: "TcpListener", sock: socket.socket, source: tuple[str, int]
    ) -> None:
        self.tcp = tcp
        self.listener = listener
        self.source = source
        self.asked: Endpoint | None = None  # the address that the client connected to, if a PROXY header names it
        self.client = Half(self, sock)
        self.backend: Half | None = None
        self.lost: Half | None = None
        self.last: Half | None = None  # the side that sent its FIN second
        self.why = -1  # the counter for the reason of its end
        self.target: Target | None = None
        self.tried: tuple[Target, ...] = ()
        self.portless: tuple[Target, ...] = ()  # backends for which no local address and port were free in this turn
        self.counted = 0  # the client's key if its connections are counted, else 0
        self.queued: Target | None = None  # the full backend that counts this connection as queued
        self.state = State.WAITING
        self.sticky = 0  # the key of the client's template if the service has persistence
        self.accepted = self.began = tcp.poller.now  # `began`: start of this attempt, later the time of opening
        self.touched = 0.0  # time of the last octets or FIN; 0.0: nothing has passed
        self.deadline = self.leaves = float("inf")  # `leaves`: then a client that sent only a FIN counts as gone
        self.wait = LINGERING
        self.timer: Timer | None = None

    # -- admission

    def await_header(self) -> None:
        """Wait for the peer's PROXY header."""
        self.state = State.INTRODUCING
        self.deadline = self.accepted + self.tcp.times.connect_timeout
        self.expect(self.deadline)

    def _read_header(self, mask: int) -> None:
        """Read the header when all of it has arrived, and no octet after it."""
        sock = self.client.sock
        try:
            data = sock.recv(LONGEST, socket.MSG_PEEK)
            header = parse(data)
            if header is not None:
                sock.recv(header.size)
        except BlockingIOError:
            return
        except HeaderError:
            self.ends(SERVICE_PROXY_MALFORMED)
            self.close(reset=True)
            return
        except OSError:
            self._gone()
            return
        if header is None:
            if mask & RDHUP or not data:
                self._gone()
            return
        self.source = header.client or self.source
        self.asked = header.asked
        self.client.readable = True  # octets behind the header cause no further edge
        self.deadline = float("inf")
        self.state = State.WAITING
        self.admit()

    def admit(self) -> None:
        """Connect to a backend, or reset the client if it is denied, exceeds its rate, or has too many connections."""
        access = self.tcp.service.access
        if not (access.anybody or access.permits(self.source[0])):
            self.ends(SERVICE_DENIED)
            self.close(reset=True)
        elif self.tcp.rate is not None and self.tcp.service.is_too_fast(self.tcp.rate, self.source[0]):
            self.why = SERVICE_RATE_LIMITED
            self.close(reset=True)
        elif not self.tcp.has_room_for(self):
            self.ends(SERVICE_REFUSED_CLIENT)
            self.close(reset=True)
        else:
            connecting.connect(self)

    # -- events in every state but OPEN

    def on_event(self, half: Half, mask: int) -> None:
        """Handle an event of `half`, or go on relaying (mask 0), in a state other than OPEN."""
        match self.state:
            case State.INTRODUCING:
                self._read_header(mask)
            case State.WAITING | State.QUEUED | State.CONNECTING if half is self.client:
                self._client_event(mask)
            case State.CONNECTING:
                number = half.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number and not half.has_more():
                    connecting.failed(self, number)
                elif number or mask & OUT:
                    connecting.opened(self, half, mask, number)
            case State.RESETTING:
                if half is self.lost:
                    half.pull(dry=True)
                elif mask & ERR:
                    self.close(reset=True)
                elif mask & OUT:
                    half.flush()

    def _client_event(self, mask: int) -> None:
        client = self.client
        if mask & (ERR | HUP):
            self._gone()
            return
        if mask & (IN | RDHUP | PRI):
            client.readable = True
        if mask & RDHUP and not client.has_more():
            # Either the client half-closes and the server speaks first, or the client has left: a short wait decides.
            self.leaves = min(self.leaves, self.tcp.poller.now + GRACE)
            self.expect(self.leaves)

    def _gone(self) -> None:
        self.ends(SERVICE_CLIENT_GONE)
        self.close(reset=True)

    # -- the end

    def ended(self, half: Half) -> None:
        """Pass the end of `half` on: its FIN or RST has been read, and all octets before it have been sent."""
        half.eof = True
        now = self.tcp.poller.now
        if self.state is State.RESETTING:
            self._await_delivery(now)
            return
        other = half.other
        self.touched = now
        try:
            other.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.broken(other, error.errno or errno.ECONNRESET)
            return
        if other.eof:
            self.last = half
            self.ends(SERVICE_CLOSED)
            self.close()
        else:
            self.expect(now + self.tcp.times.fin_timeout)

    def broken(self, half: Half, number: int) -> None:
        """Begin to end the connection because `half` was reset or timed out; deliver what it sent before."""
        if self.state is State.RESETTING:
            if half is self.lost:
                self.ended(half)
            else:
                self.close(reset=True)
            return
        if half is self.backend and not self.touched and not half.has_more():
            connecting.failed(self, number)
            return
        self._count_broken(half, number)
        self.state = State.RESETTING
        self.lost = half
        self.deadline = self.tcp.poller.now + self.tcp.times.fin_timeout
        half.pending = None
        if half.eof:
            self.ended(half)
        else:
            half.readable = True
            half.pull(dry=True)
        if self.state is State.RESETTING:
            self.expect(self.deadline)

    def _count_broken(self, half: Half, number: int) -> None:
        given_up = number in _GIVEN_UP
        if half is self.client:
            self.ends(SERVICE_CLIENT_TIMEOUT if given_up else SERVICE_CLIENT_RESET)
        elif self.target is not None:
            self.ends(SERVICE_BACKEND_TIMEOUT if given_up else SERVICE_BACKEND_RESET)
            self.tcp.cells[self.target.cell + (BACKEND_TIMEOUT if given_up else BACKEND_RESET)] += 1

    def _await_delivery(self, now: float) -> None:
        """Reset the other side when the send queue, which has all octets of the lost side, is empty."""
        if self.lost is None or now >= self.deadline or self.lost.other.unsent() == 0:
            self.close(reset=True)
            return
        self.expect(min(now + self.wait, self.deadline))
        self.wait = min(2 * self.wait, 1.0)

    def ends(self, cell: int) -> None:
        """Count the reason of the end in a counter of the service."""
        self.tcp.cells[self.tcp.base + cell] += 1
        self.why = cell

    def close(self, *, reset: bool = False) -> None:
        """End both sides, with FINs or with RSTs; idempotent."""
        if self.state is State.CLOSED:
            return
        tcp = self.tcp
        if tcp.log is not None:
            tcp.log.connection(self)
        if tcp.followed is not None:
            tcp.followed.connection(self)
        self.state = State.CLOSED
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if tcp.queue is not None:
            tcp.queue.leave(self)
        if reset:
            arm_reset(self.client.sock)
        tcp.poller.discard(self.client.sock)
        self.release(reset=reset)
        if self.sticky and tcp.service.keeper is not None:
            tcp.service.keeper.release(self.sticky, tcp.poller.now)
        tcp.freed(self)

    def release(self, *, reset: bool) -> None:
        """Give the backend back."""
        backend, target, tcp = self.backend, self.target, self.tcp
        if backend is not None:
            if reset:
                arm_reset(backend.sock)
            tcp.poller.discard(backend.sock)
            self.backend = None
        if target is not None:
            target.connections.discard(self)
            tcp.service.gave_back(target)
            self.target = None

    # -- time

    def expect(self, when: float) -> None:
        """Look at this connection at `when`, or sooner if that was planned."""
        poller = self.tcp.poller
        when = min(when, poller.now + LOOK)
        timer = self.timer
        if timer is not None:
            if timer.when <= when:
                return
            timer.cancel()
        self.timer = poller.at(when, self._due)

    def _due(self, now: float) -> None:
        """Act if a deadline of the state has passed, else set the timer again."""
        self.timer = None
        match self.state:
            case State.INTRODUCING:
                self.ends(SERVICE_PROXY_TIMEOUT)
                self.close(reset=True)
            case State.WAITING | State.QUEUED | State.CONNECTING if now >= self.leaves:
                self._gone()
            case State.WAITING:
                connecting.connect(self)
            case State.QUEUED | State.CONNECTING:
                if now < self.deadline:
                    self.expect(min(self.deadline, self.leaves))
                else:
                    self._too_late()
            case State.OPEN:
                self._open_due(now)
            case State.RESETTING:
                if now >= self.deadline or (self.lost is not None and self.lost.eof):
                    self._await_delivery(now)
                else:
                    self.expect(self.deadline)

    def _too_late(self) -> None:
        """Reset a client that got no slot in time; try another backend if a connect took too long."""
        if self.state is State.QUEUED:
            self.ends(SERVICE_QUEUE_TIMEOUT)
            self.close(reset=True)
        else:
            connecting.failed(self, errno.ETIMEDOUT)

    def _open_due(self, now: float) -> None:
        times = self.tcp.times
        closing = self.client.eof or (self.backend is not None and self.backend.eof)
        ends = (self.touched or self.began) + (times.fin_timeout if closing else times.idle_timeout)
        if now < ends:
            self.expect(ends)
            return
        self.ends(SERVICE_FIN_TIMEOUT if closing else SERVICE_IDLE_TIMEOUT)
        self.close(reset=True)
