"""UDP sessions that leave for a successor's worker, or come from a predecessor's."""

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from proxy.relay.native.poller import DATAGRAM
from proxy.relay.udp.session import Session
from proxy.relay.udp.sessions import ANSWER_DUE
from proxy.stats.layout import SERVICE_MOVED, SERVICE_SESSIONS, SERVICE_SESSIONS_ADOPTED, SERVICE_SESSIONS_DROPPED

if TYPE_CHECKING:
    from proxy.relay.target import Target
    from proxy.relay.udp.handover import Moving
    from proxy.relay.udp.listener import UdpListener
    from proxy.relay.udp.session import Key
    from proxy.relay.udp.sessions import UdpService


def give(udp: "UdpService", session: Session) -> socket.socket:
    """Forget a session and return its socket, which the caller owns."""
    del udp.sessions[session.key]
    udp.poller.forget(session.sock, session.on_event)
    udp.let_go(session)
    return session.sock


def adopt(listener: "UdpListener", moving: "Moving", sock: socket.socket) -> bool:
    """Continue a predecessor's session and own its socket; return False, and count it, if it cannot go on here.

    If the client has begun a session here meanwhile, that one only waits for its answers.
    """
    udp = listener.udp
    service, now = udp.service, udp.poller.now
    target = next((one for one in service.targets if one.name == moving.backend), None)
    if target is None or len(udp.sessions) >= udp.most or not _leads_to(sock, target, listener):
        udp.cells[udp.base + SERVICE_SESSIONS_DROPPED] += 1
        return False
    if not service.claim(target):
        udp.cells[udp.base + SERVICE_SESSIONS_DROPPED] += 1
        return False
    session = Session(listener, moving.client, target, sock, moving.told)
    try:
        sock.setblocking(False)
        udp.poller.register(sock, session.on_event, DATAGRAM)
    except OSError:
        service.unclaim(target)
        udp.cells[udp.base + SERVICE_SESSIONS_DROPPED] += 1
        return False
    _step_aside(udp, session.key)
    udp.sessions[session.key] = session
    udp.sessions.move_to_end(session.key, last=False)  # the newest ones come first
    session.began = session.touched = session.heard = now - moving.idle
    session.epoch = -1  # its backend may have failed meanwhile
    listener.sessions += 1
    service.adopted(target)
    if service.persistence is not None:
        session.sticky = service.persistence.key(str(session.who[0]))
        service.persistence.hold(session.sticky)
    udp.cells[udp.base + SERVICE_SESSIONS] += 1
    udp.cells[udp.base + SERVICE_SESSIONS_ADOPTED] += 1
    udp.arm_anew()
    return True


def _leads_to(sock: socket.socket, target: "Target", listener: "UdpListener") -> bool:
    """Return True if a socket is connected to the address that a backend has now."""
    try:
        host, port, *_ = sock.getpeername()
    except OSError:
        return False
    return ip_address(host) == ip_address(target.address) and port == (target.port or listener.member.port)


def _step_aside(udp: "UdpService", key: "Key") -> None:
    """Let a session that began here while its client's older one was on its way only wait for its last answers."""
    session = udp.sessions.get(key)
    if session is None:
        return
    aside: Key = (key[0], (*key[1], "aside"))
    if aside in udp.sessions:
        udp.end(udp.sessions[aside], SERVICE_MOVED)
    del udp.sessions[key]
    session.key = aside
    udp.sessions[aside] = session

    def end(_: float) -> None:
        if udp.sessions.get(aside) is session:
            udp.end(session, SERVICE_MOVED)

    udp.poller.at(udp.poller.now + ANSWER_DUE, end)
