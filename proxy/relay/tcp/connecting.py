"""Which backend a TCP connection gets, where the configuration asks for more than the scheduler's choice.

The connection itself connects, and tries another backend if that fails (`proxy.relay.native.tcp_connection`).
"""

from functools import partial
from typing import TYPE_CHECKING

from proxy.relay.native.tcp_connection import Connection
from proxy.relay.native.tcp_pair import State
from proxy.relay.sockets import transparent
from proxy.relay.sockets.address import sockaddr
from proxy.relay.sockets.sources import open_stream
from proxy.relay.target import Target
from proxy.stats.layout import SERVICE_REFUSED_NO_BACKEND

if TYPE_CHECKING:
    import socket

    from proxy.relay.tcp.service import TcpService

PORT_PAUSE = 0.05  # s until a connect is tried again after local ports ran out


def pick(tcp: "TcpService", conn: Connection, key: int, avoid: tuple[Target, ...]) -> Target | None:
    """Return a backend for a service with limited backends or persistence, none of `avoid`; None if there is none."""
    service = tcp.service
    choose = service.pick if tcp.queue is None else partial(tcp.queue.pick, conn)
    persistence = service.persistence
    if persistence is None:
        return choose(key, avoid)
    if not conn.sticky:
        conn.sticky = persistence.key(conn.source[0])
        persistence.hold(conn.sticky)
    return persistence.pick(conn.sticky, key, avoid, otherwise=choose)


def unserved(tcp: "TcpService", conn: Connection, *, dry: bool) -> None:
    """Let a client wait for a local port or a slot of a backend, or reset it; `dry`: no backend was left to try."""
    now = tcp.poller.now
    patience = conn.accepted + tcp.times.connect_timeout
    if tcp.queue is not None:
        patience = max(patience, tcp.queue.until(conn))  # waiting for a slot does not use up the time to connect
    if conn.portless and now < patience:
        conn.portless = ()
        conn.state = State.WAITING
        conn.expect(now + PORT_PAUSE)
        return
    capacity = tcp.service.capacity
    full = capacity.full if dry and capacity is not None else None
    if tcp.queue is not None and full is not None:
        tcp.queue.join(conn, full)
    else:
        conn.ends(SERVICE_REFUSED_NO_BACKEND)
        conn.close(reset=True)


def open_socket(tcp: "TcpService", conn: Connection, target: Target) -> tuple[int, int]:
    """Return (descriptor, errno of `connect`) of a socket from the client's address, or one of the backend's sources."""
    where = sockaddr(target.address, target.port or conn.listener.member.port)
    stock = tcp.service.stock
    sock: socket.socket
    if stock is not None:
        sock, result = transparent.open_stream(stock, target.family, conn.source, tcp.tune_socket, where)
    else:
        sock, result = open_stream(target.sources, target.family, tcp.tune_socket, where)
    return sock.detach(), result
