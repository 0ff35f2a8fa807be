"""Plain UDP: the policy of sessions, whose datagrams `proxy.relay.native.udp` passes on.

Laws:
- A session whose backend is down or in maintenance picks another one with the client's next datagram; a session on a
  draining backend stays.
- If the backend's port is closed, or it cannot be reached, the last datagram goes to another backend at once, unless
  the backend has answered since.  So do other clients' unanswered datagrams (`unanswered`), because ICMP reports one of
  many. New sessions avoid the backend for a moment (`closed_ports`).
- A session whose local address has left this host gets a new socket: Linux refuses to send from an IPv4 address that is
  gone (EINVAL), but goes on sending from an IPv6 address.
- The table never exceeds its limit.
- A listed source sends a PROXY header, which names the client, before each datagram, and each such client has its own
  session; answers to the source have no header.  A backend with `send-proxy` gets a header before each datagram.
- A session answers through a socket of its listener that this worker polls, else through the last one that it polled.
"""

import resource
import socket
from collections.abc import Iterable
from time import monotonic
from typing import cast
from weakref import WeakValueDictionary

from proxy.relay.native.poller import Poller
from proxy.relay.native.udp import Session, Sessions, UdpListener
from proxy.relay.native.udp_unanswered import End
from proxy.relay.plan import Member
from proxy.relay.proxy_header.datagrams import Introducers, header_for, who
from proxy.relay.proxy_header.header import Header
from proxy.relay.service import Service
from proxy.relay.sockets.address import Client
from proxy.relay.sockets.outgoing import SHORTAGES, connect_as
from proxy.relay.sockets.own_addresses import Homes
from proxy.relay.sockets.sources import LackError, NoSourceError
from proxy.relay.target import ATTEMPTS, Target
from proxy.relay.udp.closed_ports import ClosedPorts
from proxy.stats.layout import (
    BACKEND_SEND_FAILED,
    SERVICE_DISCONNECTED,
    SERVICE_DRAINED_HARD,
    SERVICE_EVICTED,
    SERVICE_EXPIRED,
    SERVICE_MOVED,
    SERVICE_NO_LOCAL_PORT,
    SERVICE_RETRIES,
    SERVICE_SESSIONS_OPENED,
    SERVICE_TABLE_FULL,
)

MOVED = 256  # sessions moved in one turn
ANSWER_DUE = 0.5  # s after the last datagram of all sessions, after which no more answers are expected
SPARE_FILES = 0.5  # the share of this worker's descriptors that sessions may take: connections need some


class UdpService(Sessions):
    """The sessions of one service in one worker."""

    def __init__(self, service: Service, poller: Poller) -> None:
        super().__init__(service, poller)
        self.cells = service.cells
        self.base = service.cell
        self.log = service.log
        self.closed_ports = ClosedPorts()
        self._ends: WeakValueDictionary[tuple[Target, str, int], End] = WeakValueDictionary()
        self._moving: list[Session] = []  # sessions to move with their last datagrams, because another one was refused
        self._homes = Homes()
        self._polled: list[UdpListener] = []
        self._retired: list[UdpListener] = []  # no longer polled, but sessions still answer through them
        self._take_plan()

    def _take_plan(self) -> None:
        """Use what the service's plan says now."""
        service, udp = self.service, self.service.plan.udp
        self.most = min(udp.max_sessions, _affordable())
        self.idle_timeout = udp.idle_timeout
        self._evict = udp.when_full == "evict-idle"
        self._introducers = Introducers(service.plan.accept_proxy, service.cells, service.cell)
        self.introduced = bool(self._introducers)

    def listen(self, member: Member, sock: socket.socket) -> UdpListener:
        """Poll a member's socket."""
        listener = UdpListener(self, member, sock)
        self._polled.append(listener)
        for old in self._retired:
            if old.ident == listener.ident:
                self.hand_on(old, listener)
        self._retired = [old for old in self._retired if old.sessions]
        return listener

    def unlisten(self, listener: UdpListener) -> None:
        """Stop polling a listener.  Its sessions go on; their clients' datagrams reach the worker that polls it now.

        The sessions answer through another socket of the same listener if there is one here; if not,
        `listener.sessions` is the number of sessions that still need this one.
        """
        listener.leave()
        self._polled.remove(listener)
        heir = next((one for one in self._polled if one.ident == listener.ident), None)
        if heir is not None:
            self.hand_on(listener, heir)
        elif listener.sessions:
            self._retired.append(listener)

    def is_quiet(self, listener: UdpListener) -> bool:
        """Return True if no answer through a listener is expected any more."""
        newest = self.newest(listener)
        return newest is None or monotonic() - newest.touched >= ANSWER_DUE

    def leave(self, listener: UdpListener) -> None:
        """End the sessions that answer through a listener that is gone for good."""
        for session in [one for one in self.sessions if one.listener is listener]:
            self.cells[self.base + SERVICE_EXPIRED] += 1
            self.end(session, SERVICE_EXPIRED)

    @property
    def idle(self) -> bool:
        """Return True if no answer is expected any more; UDP sessions have no end that a drain could wait for."""
        newest = self.newest()
        return newest is None or monotonic() - newest.touched >= ANSWER_DUE

    def close(self) -> None:
        """Close every session; those without traffic of late have expired, the others are cut."""
        why = SERVICE_EXPIRED if self.idle else SERVICE_DRAINED_HARD
        for session in self.sessions:
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
        for session in [one for one in self.sessions if one.target in ended]:
            self.end(session, SERVICE_DRAINED_HARD)

    def changed(self, gone: Iterable[Target], moved: Iterable[Target]) -> None:
        """Use the service's changed plan; backends are `gone`, or `moved` to another address or source address."""
        self._take_plan()
        for target in (*gone, *moved):
            self.closed_ports.forget(target)
        self.arm_anew()

    def disconnect(self, session: Session) -> None:
        """End a session by an operator's command; the client's next datagram begins another one."""
        self.cells[self.base + SERVICE_DISCONNECTED] += 1
        self.end(session, SERVICE_DISCONNECTED)

    # -- what the native side asks for

    def introduce(self, listener: UdpListener, data: bytes, client: Client) -> None:
        """Take one datagram that begins with a PROXY header if its source is listed."""
        found = self._introducers.read(data, client)
        if found is not None:
            self.admit(listener, found[1], client, found[0])

    def still_good(self, session: Session) -> bool:
        """Return True if the session may stay after a change: its backend has not failed, and is ready or draining."""
        session.epoch = self.service.epoch
        return session.target.verdict not in {"down", "unknown", "ejected"} and session.target.admin != "maint"

    def is_at_home(self, session: Session) -> bool:
        """Return True if this host still has a session's local IPv6 address."""
        host, _, _, scope = session.local
        return self._homes.has(host, scope, self.poller.now)

    def begin(
        self, listener: UdpListener, client: Client, data: bytes, tried: tuple[Target, ...], told: Header | None,
        *, instead: Session | None = None,
    ) -> Session | None:  # fmt: skip
        """Open a session for a datagram and send it; return the session if it was sent.

        Backends in `tried` have just refused the datagram.  They get it only if no other backend is usable, and never
        if the new session replaces another one (`instead`), which then ends.  If a datagram cannot be sent (no route,
        for example), the next backend gets it.
        """
        service = self.service
        if instead is None and not self._has_room():
            return None
        sticky, pick = service.picker(listener.route, who(client, told))
        target = pick((*tried, *self.closed_ports.targets(self.poller.now))) if self.closed_ports else None
        target = target or pick(tried) or (pick(()) if instead is None and tried else None)
        if target is None:
            self.cells[self.base + service.why_nobody()] += instead is None
            return None
        if instead is not None:
            self.end(instead, SERVICE_MOVED)
        for _ in range(ATTEMPTS):
            try:
                session = self._open(listener, client, target, told)
            except OSError as error:
                service.unclaim(target)
                if not self._count_unopened(error, target):
                    return None
            else:
                if service.persistence is not None:
                    session.sticky = sticky
                    service.persistence.hold(sticky)
                if session.send(data, tried):
                    return session
                self.end(session, SERVICE_MOVED)
            tried += (target,)
            target = pick(tried)
            if target is None:
                return None
        service.unclaim(target)
        return None

    def begin_anew(self, session: Session, listener: UdpListener, data: bytes, told: Header | None) -> None:
        """Replace a session that cannot go on, and send a datagram by the new one."""
        self.end(session, SERVICE_MOVED)
        new = self.begin(listener, session.client, data, (session.target,) if session.refused else (), told)
        if new is not None:
            self.cells[self.base + SERVICE_MOVED] += new.target is not session.target

    def resend(self, session: Session) -> Session | None:
        """Send the last datagram of a session, which was refused, to another backend; return the new session."""
        last = self.unanswered.take(session, self.poller.now)
        if last is None or len(last[1]) + 1 >= ATTEMPTS:
            return None
        data, tried = last
        new = self.begin(
            session.listener, session.client, data, (*tried, session.target), session.told, instead=session
        )
        if new is not None:
            self.cells[self.base + SERVICE_MOVED] += 1
            self.cells[self.base + SERVICE_RETRIES] += 1
        return new

    def closed(self, session: Session) -> None:
        """Move all unanswered datagrams to a closed port: ICMP reported one session's, and the others are lost too."""
        if self.service.stock is not None:
            return  # the refusal may concern that client's address alone
        target, end = session.target, session.end
        if (end.address, end.port) == (target.address, target.port or session.listener.member.port):  # not moved since
            self.closed_ports.note(target, self.poller.now)
        self._moving += cast("list[Session]", self.unanswered.holders(end))
        self.poller.again(self._move)

    # -- the table

    def _move(self, mask: int) -> None:  # noqa: ARG002 - the poller passes it
        """Send a portion of the unanswered datagrams to other backends."""
        portion, self._moving = self._moving[:MOVED], self._moving[MOVED:]
        for session in portion:
            self.resend(session)
        if self._moving:
            self.poller.again(self._move)

    def _has_room(self) -> bool:
        """Return True if the table has room for one more session; evict the oldest one if `when-full` says so."""
        if self.size >= self.most:
            if not self._evict:
                self.cells[self.base + SERVICE_TABLE_FULL] += 1
                return False
            self._evict_oldest()
        return True

    def end_of(self, target: Target, address: str, port: int) -> End:
        """Return where the sessions lead that begin at this backend's address; all of them share it."""
        end = self._ends.get((target, address, port))
        if end is None:
            end = self._ends[target, address, port] = End(target, address, port)
        return end

    def _open(self, listener: UdpListener, client: Client, target: Target, told: Header | None) -> Session:
        """Begin a session; raise OSError if its socket cannot be opened."""
        port = target.port or listener.member.port
        sock = connect_as(target, port, who(client, told), self.service.stock)
        end = self.end_of(target, target.address, port)
        session = Session(listener, client, end, sock, told, header_for(target, listener.member, client, told))
        session.began = session.touched = session.heard = self.poller.now
        if self.service.timed:
            session.asked = session.touched
        self.insert(session)
        self.service.took(target)
        self.cells[self.base + SERVICE_SESSIONS_OPENED] += 1
        if self.followed is not None:
            self.followed.opened(session)
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
            oldest = self.oldest
            if shortage != SERVICE_NO_LOCAL_PORT and self._evict and oldest is not None:
                # The descriptor is free at the end of the round, in time for the client's next datagram.
                self._evict_oldest()
            return False
        cells[target.cell + BACKEND_SEND_FAILED] += 1
        self.service.failed(target)
        return True

    def _evict_oldest(self) -> None:
        oldest = self.oldest
        if oldest is not None:
            self.cells[self.base + SERVICE_EVICTED] += 1
            self.end(oldest, SERVICE_EVICTED)


def _affordable() -> int:
    """Return how many sessions the limit of open files allows."""
    return max(16, int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * SPARE_FILES))
