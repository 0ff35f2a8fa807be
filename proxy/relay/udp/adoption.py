"""UDP sessions that leave for a successor's worker, or come from a predecessor's."""

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from proxy.relay.native.udp import Session
from proxy.relay.proxy_header.datagrams import header_for
from proxy.relay.udp.sessions import ANSWER_DUE
from proxy.stats.layout import SERVICE_MOVED, SERVICE_SESSIONS_ADOPTED, SERVICE_SESSIONS_DROPPED

if TYPE_CHECKING:
    from proxy.relay.native.udp import UdpListener
    from proxy.relay.target import Target
    from proxy.relay.udp.handover import Moving
    from proxy.relay.udp.sessions import UdpService


def adopt(listener: "UdpListener", moving: "Moving", sock: socket.socket) -> bool:
    """Continue a predecessor's session and own its socket; return False, and count it, if it cannot go on here.

    If the client has begun a session here meanwhile, that one only waits for its answers.
    """
    udp = listener.udp
    if _continue(udp, listener, moving, sock):
        return True
    udp.cells[udp.base + SERVICE_SESSIONS_DROPPED] += 1
    return False


def _continue(udp: "UdpService", listener: "UdpListener", moving: "Moving", sock: socket.socket) -> bool:
    service, client, told = udp.service, moving.client, moving.told
    target = next((one for one in service.targets if one.name == moving.backend), None)
    if target is None or udp.size >= udp.most or not _leads_to(sock, target, listener) or not service.claim(target):
        return False
    end = udp.end_of(target, target.address, target.port or listener.member.port)
    session = Session(listener, client, end, sock, told, header_for(target, listener.member, client, told))
    session.began = session.touched = session.heard = udp.poller.now - moving.idle
    session.epoch = -1  # its backend may have failed meanwhile
    try:
        _step_aside(udp, udp.find(listener, client, told))
        udp.insert(session, oldest=True)  # the newest ones come first
    except OSError:
        service.unclaim(target)
        return False
    service.adopted(target)
    if service.persistence is not None:
        session.sticky = service.persistence.key(str(session.who[0]))
        service.persistence.hold(session.sticky)
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


def _step_aside(udp: "UdpService", session: Session | None) -> None:
    """Let a session that began here while its client's older one was on its way only wait for its last answers."""
    if session is None:
        return
    udp.put_aside(session)
    udp.poller.at(udp.poller.now + ANSWER_DUE, lambda _: udp.end(session, SERVICE_MOVED))
