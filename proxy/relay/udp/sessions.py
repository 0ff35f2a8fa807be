"""Plain UDP: each client address has a session with its own connected socket to the picked backend.

Laws:
- A datagram is passed on unchanged, even an empty one; answers leave from the address that the client sent to.
- A session whose backend is down or in maintenance picks another one with the client's next datagram; a session on a
  draining backend stays.
- If the backend's port is closed, or it cannot be reached, the last datagram goes to another backend at once, unless
  the backend has answered since.  So do other clients' unanswered datagrams (`unanswered`), because ICMP reports one of
  many. New sessions avoid the backend for a moment (`closed_ports`).
- A session whose local address has left this host gets a new socket: Linux refuses to send from an IPv4 address that is
  gone (EINVAL), but goes on sending from an IPv6 address.
- A session ends after `idle-timeout` without a datagram in either direction; the table never exceeds its limit.
- A listed source sends a PROXY header, which names the client, before each datagram, and each such client has its own
  session; answers to the source have no header.  A backend with `send-proxy` gets a header before each datagram.
- A session answers through a socket of its listener that this worker polls, else through the last one that it polled.
"""

import resource
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING

from proxy.relay.native.poller import DATAGRAM, Poller
from proxy.relay.plan import Member
from proxy.relay.proxy_header.datagrams import Introducers, who
from proxy.relay.proxy_header.header import Header
from proxy.relay.service import Service
from proxy.relay.sockets.address import Client
from proxy.relay.sockets.datagram import LARGEST
from proxy.relay.sockets.outgoing import SHORTAGES, connect_as
from proxy.relay.sockets.own_addresses import Homes
from proxy.relay.sockets.sources import LackError, NoSourceError
from proxy.relay.target import ATTEMPTS, Target
from proxy.relay.udp.closed_ports import ClosedPorts
from proxy.relay.udp.listener import UdpListener
from proxy.relay.udp.session import Key, Session, key_of
from proxy.relay.udp.unanswered import UnansweredTable
from proxy.stats.layout import (
    BACKEND_SEND_FAILED,
    SERVICE_DATAGRAMS,
    SERVICE_DENIED,
    SERVICE_DISCONNECTED,
    SERVICE_DRAINED_HARD,
    SERVICE_EVICTED,
    SERVICE_EXPIRED,
    SERVICE_MOVED,
    SERVICE_NO_LOCAL_PORT,
    SERVICE_RETRIES,
    SERVICE_SESSIONS,
    SERVICE_SESSIONS_OPENED,
    SERVICE_SOURCE_PORT_ZERO,
    SERVICE_TABLE_FULL,
)

if TYPE_CHECKING:
    from proxy.relay.native.timers import Timer
    from proxy.relay.observer import Observer

MOVED = 256  # sessions moved in one turn
GRAIN = 0.25  # s: sessions that expire within it share a timer
EXPIRED_AT_ONCE = 500
EXPIRED_PAUSE = 0.005  # s between two lots of that size
ANSWER_DUE = 0.5  # s after the last datagram of all sessions, after which no more answers are expected
HEARD = 1.0  # s without an answer, after which a session's local address is checked
SPARE_FILES = 0.5  # the share of this worker's descriptors that sessions may take: connections need some


class UdpService:
    """The sessions of one service in one worker, the longest idle one first."""

    def __init__(self, service: Service, poller: Poller) -> None:
        self.service = service
        self.poller = poller
        self.cells = service.cells
        self.base = service.cell
        self.log = service.log
        self.followed: Observer | None = None  # set while an operator follows beginnings and ends
        self.buffer = bytearray(LARGEST)
        self.view = memoryview(self.buffer)
        self.sessions: OrderedDict[Key, Session] = OrderedDict()
        self._take()
        self.unanswered: UnansweredTable[Session] = UnansweredTable()
        self.closed_ports = ClosedPorts()
        self._moving: list[Session] = []  # sessions to move with their last datagrams, because another one was refused
        self._timer: Timer | None = None  # for the next session to expire
        self._homes = Homes()
        self._polled: list[UdpListener] = []
        self._retired: list[UdpListener] = []  # no longer polled, but sessions still answer through them

    def _take(self) -> None:
        """Use what the service's plan says now."""
        service, udp = self.service, self.service.plan.udp
        self.most = min(udp.max_sessions, _affordable())
        self._idle = udp.idle_timeout
        self._evict = udp.when_full == "evict-idle"
        self._access = service.access
        self._introducers = Introducers(service.plan.accept_proxy, service.cells, service.cell)
        self.take: Callable[[UdpListener, memoryview, Client], None] = (
            self._introduced if self._introducers else self.admit
        )
        """Takes one datagram as it arrived, with its PROXY header if there is one."""
        self._rate = service.rate("udp")

    def listen(self, member: Member, sock: socket.socket) -> UdpListener:
        """Poll a member's socket."""
        listener = UdpListener(self, member, sock)
        self.poller.register(sock, listener.on_event, DATAGRAM)
        self._polled.append(listener)
        for old in self._retired:
            if old.ident == listener.ident:
                self._hand_on(old, listener)
        self._retired = [old for old in self._retired if old.sessions]
        return listener

    def unlisten(self, listener: UdpListener) -> None:
        """Stop polling a listener.  Its sessions go on; their clients' datagrams reach the worker that polls it now.

        The sessions answer through another socket of the same listener if there is one here; if not,
        `listener.sessions` is the number of sessions that still need this one.
        """
        self.poller.forget(listener.sock, listener.on_event)
        self._polled.remove(listener)
        heir = next((one for one in self._polled if one.ident == listener.ident), None)
        if heir is not None:
            self._hand_on(listener, heir)
        elif listener.sessions:
            self._retired.append(listener)

    def is_quiet(self, listener: UdpListener) -> bool:
        """Return True if no answer through a listener is expected any more."""
        newest = next((one for one in reversed(self.sessions.values()) if one.listener is listener), None)
        return newest is None or monotonic() - newest.touched >= ANSWER_DUE

    def leave(self, listener: UdpListener) -> None:
        """End the sessions that answer through a listener that is gone for good."""
        for session in [one for one in self.sessions.values() if one.listener is listener]:
            self.cells[self.base + SERVICE_EXPIRED] += 1
            self.end(session, SERVICE_EXPIRED)

    @property
    def idle(self) -> bool:
        """Return True if no answer is expected any more; UDP sessions have no end that a drain could wait for."""
        if not self.sessions:
            return True
        latest = self.sessions[next(reversed(self.sessions))].touched
        return monotonic() - latest >= ANSWER_DUE

    def close(self) -> None:
        """Close every session; those without traffic of late have expired, the others are cut."""
        why = SERVICE_EXPIRED if self.idle else SERVICE_DRAINED_HARD
        for session in list(self.sessions.values()):
            self.cells[self.base + why] += 1
            self.end(session, why)

    def returned(self, targets: Iterable[Target]) -> None:
        """Give new sessions to backends that came up again; sessions that have moved away stay where they are."""
        for target in targets:
            self.closed_ports.forget(target)

    def unfit(self, targets: Iterable[Target]) -> None:
        """Nothing to do: datagrams that were sent there may have been answered."""

    def went_down(self, targets: Iterable[Target]) -> None:
        """Nothing to do: each session there picks another backend with its next datagram."""

    def failed_back(self, targets: Iterable[Target]) -> None:
        """End the sessions on these backends: better ones serve again, and the service has `on-failback = "reset"`."""
        self.cut(targets)

    def cut(self, targets: Iterable[Target]) -> None:
        """End the sessions on these backends; the clients' next datagrams begin new ones elsewhere."""
        ended = set(targets)
        for session in [one for one in self.sessions.values() if one.target in ended]:
            self.end(session, SERVICE_DRAINED_HARD)

    def changed(self, gone: Iterable[Target], moved: Iterable[Target]) -> None:
        """Use the service's changed plan; backends are `gone`, or `moved` to another address or source address."""
        self._take()
        for target in (*gone, *moved):
            self.closed_ports.forget(target)
        self.arm_anew()

    def disconnect(self, session: Session) -> None:
        """End a session by an operator's command; the client's next datagram begins another one."""
        self.cells[self.base + SERVICE_DISCONNECTED] += 1
        self.end(session, SERVICE_DISCONNECTED)

    # -- datagrams

    def _introduced(self, listener: UdpListener, data: memoryview, client: Client) -> None:
        """Take one datagram that begins with a PROXY header if its source is listed."""
        found = self._introducers.read(data, client)
        if found is not None:
            self.admit(listener, found[1], client, found[0])

    def admit(self, listener: UdpListener, data: memoryview, client: Client, told: Header | None = None) -> None:
        """Take one datagram of a client and send it to a backend; `told` is its PROXY header."""
        cells, base = self.cells, self.base
        cells[base + SERVICE_DATAGRAMS] += 1
        if not client[1]:
            cells[base + SERVICE_SOURCE_PORT_ZERO] += 1
            return
        if not self._access.anybody and not self._access.permits(who(client, told)[0]):
            cells[base + SERVICE_DENIED] += 1
            return
        session = self.sessions.get((listener.ident, client) if told is None else key_of(listener, client, told))
        if session is None:
            if self._rate is None or not self.service.is_too_fast(self._rate, str(who(client, told)[0])):
                self._begin(listener, client, data, (), told)
            return
        if (
            not session.refused
            and (session.epoch == self.service.epoch or self._still_good(session))
            and (session.local is None or self._at_home(session))
        ):
            self.touch(session)
            if session.send(data):
                return
            if self.resend(session):  # the earlier datagram goes first
                session = self.sessions[session.key]
                if session.send(data):
                    return
        self.end(session, SERVICE_MOVED)
        if self._begin(listener, client, data, (session.target,) if session.refused else (), told):
            cells[base + SERVICE_MOVED] += self.sessions[session.key].target is not session.target

    def resend(self, session: Session) -> bool:
        """Send the last datagram of a session, which was refused, to another backend; return True if it was sent."""
        last = self.unanswered.take(session, self.poller.now)
        if last is None or len(last.tried) + 1 >= ATTEMPTS:
            return False
        tried = (*last.tried, session.target)
        if not self._begin(session.listener, session.client, last.data, tried, session.told, instead=session):
            return False
        self.cells[self.base + SERVICE_MOVED] += 1
        self.cells[self.base + SERVICE_RETRIES] += 1
        return True

    def closed(self, session: Session) -> None:
        """Move all unanswered datagrams to a closed port: ICMP reported one session's, and the others are lost too."""
        if self.service.stock is not None:
            return  # the refusal may concern that client's address alone
        target = session.target
        if session.end[1:] == (target.address, target.port or session.listener.member.port):  # it has not moved since
            self.closed_ports.note(target, self.poller.now)
        self._moving += self.unanswered.holders(session.end)
        self.poller.again(self._move)

    def _move(self, mask: int) -> None:  # noqa: ARG002 - the poller passes it
        """Send a portion of the unanswered datagrams to other backends."""
        portion, self._moving = self._moving[:MOVED], self._moving[MOVED:]
        for session in portion:
            self.resend(session)
        if self._moving:
            self.poller.again(self._move)

    def touch(self, session: Session) -> None:
        """Note traffic in either direction, which keeps a session from expiring."""
        session.touched = self.poller.now
        self.sessions.move_to_end(session.key)

    def _begin(
        self, listener: UdpListener, client: Client, data: bytes | memoryview, tried: tuple[Target, ...],
        told: Header | None, *, instead: Session | None = None,
    ) -> bool:  # fmt: skip
        """Open a session for a datagram and send it; return True if it was sent.

        Backends in `tried` have just refused the datagram.  They get it only if no other backend is usable, and never
        if the new session replaces another one (`instead`), which then ends.  If a datagram cannot be sent (no route,
        for example), the next backend gets it.
        """
        service = self.service
        if instead is None and not self._has_room():
            return False
        sticky, pick = service.picker(listener.route, who(client, told))
        target = pick((*tried, *self.closed_ports.targets(self.poller.now))) if self.closed_ports else None
        target = target or pick(tried) or (pick(()) if instead is None and tried else None)
        if target is None:
            self.cells[self.base + service.why_nobody()] += instead is None
            return False
        if instead is not None:
            self.end(instead, SERVICE_MOVED)
        for _ in range(ATTEMPTS):
            try:
                session = self._open(listener, client, target, told)
            except OSError as error:
                service.unclaim(target)
                if not self._count_unopened(error, target):
                    return False
            else:
                if service.persistence is not None:
                    session.sticky = sticky
                    service.persistence.hold(sticky)
                if session.send(data, tried):
                    return True
                self.end(session, SERVICE_MOVED)
            tried += (target,)
            target = pick(tried)
            if target is None:
                return False
        service.unclaim(target)
        return False

    def _has_room(self) -> bool:
        """Return True if the table has room for one more session; evict the oldest one if `when-full` says so."""
        if len(self.sessions) >= self.most:
            if not self._evict:
                self.cells[self.base + SERVICE_TABLE_FULL] += 1
                return False
            self._evict_oldest()
        return True

    # -- the table

    def _still_good(self, session: Session) -> bool:
        """Return True if the session may stay after a change: its backend has not failed, and is ready or draining."""
        session.epoch = self.service.epoch
        return session.target.verdict not in {"down", "unknown", "ejected"} and session.target.admin != "maint"

    def _at_home(self, session: Session) -> bool:
        """Return True if this host still has a session's local IPv6 address; checked only after `HEARD` s of silence."""
        now = self.poller.now
        if session.local is None or now - session.heard < HEARD:
            return True
        host, _, _, scope = session.local
        return self._homes.has(host, scope, now)

    def _open(self, listener: UdpListener, client: Client, target: Target, told: Header | None) -> Session:
        """Begin a session; raise OSError if its socket cannot be opened."""
        cells, base = self.cells, self.base
        sock = connect_as(target, target.port or listener.member.port, who(client, told), self.service.stock)
        session = Session(listener, client, target, sock, told)
        try:
            self.poller.register(sock, session.on_event, DATAGRAM)
        except OSError:
            sock.close()
            raise
        self.sessions[session.key] = session
        session.began = session.touched = session.heard = self.poller.now
        if self.service.timed:
            session.asked = session.touched
        listener.sessions += 1
        self.service.took(target)
        cells[base + SERVICE_SESSIONS] += 1
        cells[base + SERVICE_SESSIONS_OPENED] += 1
        if self.followed is not None:
            self.followed.opened(session)
        if self._timer is None:
            self._arm(session.touched + self._idle)
        return session

    def _count_unopened(self, error: OSError, target: Target) -> bool:
        """Count why a socket could not be opened; return True if another backend may work."""
        cells, base = self.cells, self.base
        if isinstance(error, LackError):
            cells[base + error.cell] += 1
            return isinstance(error, NoSourceError)  # another backend may have other addresses
        shortage = SHORTAGES.get(error.errno or 0)
        if shortage is not None:
            cells[base + shortage] += 1
            if shortage != SERVICE_NO_LOCAL_PORT and self._evict and self.sessions:
                # The descriptor is free at the end of the round, in time for the client's next datagram.
                self._evict_oldest()
            return False
        cells[target.cell + BACKEND_SEND_FAILED] += 1
        self.service.failed(target)
        return True

    def _evict_oldest(self) -> None:
        self.cells[self.base + SERVICE_EVICTED] += 1
        self.end(next(iter(self.sessions.values())), SERVICE_EVICTED)

    def end(self, session: Session, why: int) -> None:
        """End a session; the counter `why` gives the reason."""
        if self.sessions.pop(session.key, None) is None:
            return
        if self.log is not None:
            self.log.session(session, why)
        if self.followed is not None:
            self.followed.session(session, why)
        self.poller.discard(session.sock)
        self.let_go(session)

    def let_go(self, session: Session) -> None:
        """Give back what a session has taken."""
        self.unanswered.forget(session)
        session.listener.sessions -= 1
        self.service.gave_back(session.target)
        if session.sticky and self.service.keeper is not None:
            self.service.keeper.release(session.sticky, session.touched)
        self.cells[self.base + SERVICE_SESSIONS] -= 1

    def _hand_on(self, old: UdpListener, new: UdpListener) -> None:
        """Let sessions that answer through one socket of a listener answer through another."""
        if old.sessions:
            for session in self.sessions.values():
                if session.listener is old:
                    session.listener = new
            new.sessions += old.sessions
            old.sessions = 0

    def arm_anew(self) -> None:
        """Set the timer for the session that is first now, or by another `idle-timeout`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.sessions:
            self._arm(max(next(iter(self.sessions.values())).touched + self._idle, self.poller.now))

    def _arm(self, when: float) -> None:
        if when != float("inf"):
            self._timer = self.poller.at(when, self._expire)

    def _expire(self, now: float) -> None:
        """End sessions that have been idle for `idle-timeout`; the longest idle one comes first."""
        self._timer = None
        for _ in range(EXPIRED_AT_ONCE):
            if not self.sessions:
                return
            session = next(iter(self.sessions.values()))
            when = session.touched + self._idle
            if when > now:
                self._arm(max(when, now + GRAIN))
                return
            self.cells[self.base + SERVICE_EXPIRED] += 1
            self.end(session, SERVICE_EXPIRED)
        self._arm(now + EXPIRED_PAUSE)


def _affordable() -> int:
    """Return how many sessions the limit of open files allows."""
    return max(16, int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * SPARE_FILES))
