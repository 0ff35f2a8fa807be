"""Plain UDP: a session for each client address, with a connected socket of its own to the picked backend.

Laws:
- A datagram goes on whole and unchanged, an empty one too; answers leave from the address that was asked.
- A session whose backend is down or in maintenance picks anew with the client's next datagram; one on a draining backend
  stays.  Where the backend has closed the port, or cannot be sent to, the datagram goes to another backend at once: the
  last one that was sent, if the backend has said nothing since, and so do those of other clients that it has not answered
  (`unanswered`): ICMP tells of one of many.  New sessions leave it alone for a moment (`closed_ports`).
- A session whose own address has left this host gets a new socket: Linux refuses to send from an IPv4 address that is
  gone (EINVAL), and goes on to send from an IPv6 address.
- Sessions end after `idle-timeout` without a datagram either way; the table never exceeds its bound.
- A source that is listed for it says before each datagram, by a PROXY header, who the client is, which has a session of
  its own; answers go to the source without.  A backend that wants to know is told before each datagram, too.
- A session answers through whichever socket of its listener is polled here, else through the last one that was.
"""

import resource
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING

from proxy.relay.loop.poller import DATAGRAM, Poller
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
    from proxy.relay.observer import Observer

MOVED = 256  # sessions moved in one turn
GRAIN = 0.25  # s: sessions that expire within it share a timer
EXPIRED_AT_ONCE = 500
EXPIRED_PAUSE = 0.005  # s between two lots of that size
ANSWER_DUE = 0.5  # s after the last datagram of all sessions until nothing is waited for any more
HEARD = 1.0  # s without an answer after which a session's own address is looked at
SPARE_FILES = 0.5  # the share of our descriptors that sessions may take: connections and probes need some


class UdpService:
    """The sessions of one service in one worker, the longest idle one first."""

    def __init__(self, service: Service, poller: Poller) -> None:
        self.service = service
        self.poller = poller
        self.cells = service.cells
        self.base = service.cell
        self.log = service.log
        self.followed: Observer | None = None  # while somebody wants to know what begins and ends
        self.buffer = bytearray(LARGEST)
        self.view = memoryview(self.buffer)
        self.sessions: OrderedDict[Key, Session] = OrderedDict()
        self.most = min(service.plan.udp.max_sessions, _affordable())
        self._idle = service.plan.udp.idle_timeout
        self._evict = service.plan.udp.when_full == "evict-idle"
        self._access = service.access
        self._introducers = Introducers(service.plan.accept_proxy, service.cells, service.cell)
        self.take: Callable[[UdpListener, memoryview, Client], None] = (
            self._introduced if self._introducers else self.admit
        )
        """Takes one datagram as it came."""
        self._rate = service.rate("udp")
        self.unanswered: UnansweredTable[Session] = UnansweredTable()
        self.closed_ports = ClosedPorts()
        self._moving: list[Session] = []  # whose last datagram goes elsewhere, as another one was refused
        self._armed = False
        self._homes = Homes()
        self._polled: list[UdpListener] = []
        self._retired: list[UdpListener] = []  # no longer polled, and sessions answer through them

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
        """Stop polling it.  Its sessions go on; datagrams of their clients reach whoever polls it now.

        They answer through another socket of the same listener, if there is one here; if not, `listener.sessions` is
        how many still need this one.
        """
        self.poller.forget(listener.sock, listener.on_event)
        self._polled.remove(listener)
        heir = next((one for one in self._polled if one.ident == listener.ident), None)
        if heir is not None:
            self._hand_on(listener, heir)
        elif listener.sessions:
            self._retired.append(listener)

    @property
    def idle(self) -> bool:
        """Whether no answer may be under way; the end of a session is nothing that could be waited for."""
        if not self.sessions:
            return True
        latest = self.sessions[next(reversed(self.sessions))].touched
        return monotonic() - latest >= ANSWER_DUE

    def close(self) -> None:
        """Close every session."""
        for session in list(self.sessions.values()):
            self._end(session, SERVICE_DRAINED_HARD)

    def returned(self, targets: Iterable[Target]) -> None:
        """Backends came up again: they get new sessions at once.  Those that moved away stay where they are."""
        for target in targets:
            self.closed_ports.forget(target)

    def unfit(self, targets: Iterable[Target]) -> None:
        """Nothing to do: what was sent there may have been answered."""

    def went_down(self, targets: Iterable[Target]) -> None:
        """Nothing to do: each session there picks anew with its next datagram, as it does where one was ejected."""

    def failed_back(self, targets: Iterable[Target]) -> None:
        """Better backends serve again, and the service wants nothing to stay on these."""
        self.cut(targets)

    def cut(self, targets: Iterable[Target]) -> None:
        """These backends serve nobody any more: their sessions end, and begin anew elsewhere."""
        ended = set(targets)
        for session in [one for one in self.sessions.values() if one.target in ended]:
            self._end(session, SERVICE_DRAINED_HARD)

    def relisted(self, gone: Iterable[Target]) -> None:
        """Nothing to do: the sessions of those who are not listed any more were cut."""

    def disconnect(self, session: Session) -> None:
        """End a session because an operator wants it; the client's next datagram begins another."""
        self.cells[self.base + SERVICE_DISCONNECTED] += 1
        self._end(session, SERVICE_DISCONNECTED)

    # -- datagrams

    def _introduced(self, listener: UdpListener, data: memoryview, client: Client) -> None:
        """Take one datagram, before which a listed source tells of its client."""
        found = self._introducers.read(data, client)
        if found is not None:
            self.admit(listener, found[1], client, found[0])

    def admit(self, listener: UdpListener, data: memoryview, client: Client, told: Header | None = None) -> None:
        """Take one datagram of a client and send it on; `told`: of whom a PROXY header tells."""
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
            if self.resend(session):  # what was sent before comes first
                session = self.sessions[session.key]
                if session.send(data):
                    return
        self._end(session, SERVICE_MOVED)
        if self._begin(listener, client, data, (session.target,) if session.refused else (), told):
            cells[base + SERVICE_MOVED] += self.sessions[session.key].target is not session.target

    def resend(self, session: Session) -> bool:
        """Send the last datagram of a session again, elsewhere, because its backend refused it; whether it was sent."""
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
        """A backend's port is closed, as ICMP tells for one session: what others have sent there did not arrive either."""
        if self.service.stock is not None:
            return  # it may be that client's address alone that is refused
        self.closed_ports.note(session.target, self.poller.now)
        self._moving += self.unanswered.holders(session.end)
        self.poller.again(self._move)

    def _move(self, mask: int) -> None:  # noqa: ARG002 - the poller's
        """Send elsewhere what was not answered where a port is closed, a portion at a time."""
        portion, self._moving = self._moving[:MOVED], self._moving[MOVED:]
        for session in portion:
            self.resend(session)
        if self._moving:
            self.poller.again(self._move)

    def touch(self, session: Session) -> None:
        """Traffic of either direction keeps a session."""
        session.touched = self.poller.now
        self.sessions.move_to_end(session.key)

    def _begin(
        self, listener: UdpListener, client: Client, data: bytes | memoryview, tried: tuple[Target, ...],
        told: Header | None, *, instead: Session | None = None,
    ) -> bool:  # fmt: skip
        """Open a session for a datagram and send it; whether it was sent.

        Backends in `tried` have just refused: they are asked only if nobody else is there, and not at all where the new
        session is one `instead` of another, which ends then.  If a datagram cannot be sent at all (no route, say), the
        next backend gets it.
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
            self._end(instead, SERVICE_MOVED)
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
                self._end(session, SERVICE_MOVED)
            tried += (target,)
            target = pick(tried)
            if target is None:
                return False
        service.unclaim(target)
        return False

    def _has_room(self) -> bool:
        """Whether one more session has a place, which another one may have to leave."""
        if len(self.sessions) >= self.most:
            if not self._evict:
                self.cells[self.base + SERVICE_TABLE_FULL] += 1
                return False
            self._evict_oldest()
        return True

    # -- the table

    def _still_good(self, session: Session) -> bool:
        """Whether its backend may keep the session after a change: it is fit, if not for new ones, ready or draining."""
        session.epoch = self.service.epoch
        return session.target.verdict not in {"down", "unknown", "ejected"} and session.target.admin != "maint"

    def _at_home(self, session: Session) -> bool:
        """Whether the IPv6 address that a session sends from is still this host's, as far as that is worth a look."""
        now = self.poller.now
        if session.local is None or now - session.heard < HEARD:
            return True
        host, _, _, scope = session.local
        return self._homes.has(host, scope, now)

    def _open(self, listener: UdpListener, client: Client, target: Target, told: Header | None) -> Session:
        """Begin a session; OSError where a socket cannot be had."""
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
        if not self._armed:
            self._arm(session.touched + self._idle)
        return session

    def _count_unopened(self, error: OSError, target: Target) -> bool:
        """Count why there is no socket; whether another backend is worth a try, which it is not if we are at fault."""
        cells, base = self.cells, self.base
        if isinstance(error, LackError):
            cells[base + error.cell] += 1
            return isinstance(error, NoSourceError)  # another backend may have other addresses
        shortage = SHORTAGES.get(error.errno or 0)
        if shortage is not None:
            cells[base + shortage] += 1
            if shortage != SERVICE_NO_LOCAL_PORT and self._evict and self.sessions:
                # Its descriptor is free by the end of the round: the client's next datagram finds it.
                self._evict_oldest()
            return False
        cells[target.cell + BACKEND_SEND_FAILED] += 1
        self.service.failed(target)
        return True

    def _evict_oldest(self) -> None:
        self.cells[self.base + SERVICE_EVICTED] += 1
        self._end(next(iter(self.sessions.values())), SERVICE_EVICTED)

    def _end(self, session: Session, why: int) -> None:
        """End a session, for what this counter counts."""
        if self.sessions.pop(session.key, None) is None:
            return
        if self.log is not None:
            self.log.session(session, why)
        if self.followed is not None:
            self.followed.session(session, why)
        self.unanswered.forget(session)
        session.listener.sessions -= 1
        self.poller.discard(session.sock)
        self.service.gave_back(session.target)
        if session.sticky and self.service.persistence is not None:
            self.service.persistence.release(session.sticky, session.touched)
        self.cells[self.base + SERVICE_SESSIONS] -= 1

    def _hand_on(self, old: UdpListener, new: UdpListener) -> None:
        """Let the sessions that answer through one socket of a listener answer through another."""
        if old.sessions:
            for session in self.sessions.values():
                if session.listener is old:
                    session.listener = new
            new.sessions += old.sessions
            old.sessions = 0

    def _arm(self, when: float) -> None:
        if when != float("inf"):
            self._armed = True
            self.poller.at(when, self._expire)

    def _expire(self, now: float) -> None:
        """End the sessions that have been idle for long enough; the longest idle one is the first."""
        self._armed = False
        for _ in range(EXPIRED_AT_ONCE):
            if not self.sessions:
                return
            session = next(iter(self.sessions.values()))
            when = session.touched + self._idle
            if when > now:
                self._arm(max(when, now + GRAIN))
                return
            self.cells[self.base + SERVICE_EXPIRED] += 1
            self._end(session, SERVICE_EXPIRED)
        self._arm(now + EXPIRED_PAUSE)


def _affordable() -> int:
    """How many sessions our limit of open files allows."""
    return max(16, int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * SPARE_FILES))
