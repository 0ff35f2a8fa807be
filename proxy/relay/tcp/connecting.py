"""How a TCP connection gets its backend: choose one, connect, and try another if that fails.

Laws:
- A connect that fails is tried on another backend, each one once and at most `ATTEMPTS` of them.  The client does not
  notice: nothing has passed in either direction yet.
- If the host lacks descriptors, memory, local ports or an address to connect from, no backend is at fault: the client
  waits, and the connect is tried again.
- A backend with `send-proxy` gets a PROXY header before anything else.
"""

import errno
import socket
from functools import partial
from typing import TYPE_CHECKING

from proxy.relay.native.poller import IN, PRI, RDHUP, STREAM
from proxy.relay.proxy_header.header import build
from proxy.relay.sockets import transparent
from proxy.relay.sockets.address import sockaddr
from proxy.relay.sockets.sources import LackError, open_stream
from proxy.relay.sockets.stream_options import OURS
from proxy.relay.target import ATTEMPTS, Target
from proxy.relay.tcp.side import Half, State
from proxy.stats.histogram import bucket
from proxy.stats.layout import (
    BACKEND_BYTES_IN,
    BACKEND_BYTES_OUT,
    BACKEND_CONNECT_REFUSED,
    BACKEND_CONNECT_RESET,
    BACKEND_CONNECT_TIMEOUT,
    BACKEND_CONNECT_UNREACHABLE,
    BACKEND_LATENCY,
    SERVICE_NO_LOCAL_PORT,
    SERVICE_REFUSED_NO_BACKEND,
    SERVICE_RETRIES,
)

if TYPE_CHECKING:
    from proxy.relay.tcp.connection import Connection

PORT_PAUSE = 0.05  # s until a connect is tried again after local ports ran out

_CONNECT_ERRORS = {
    errno.ECONNREFUSED: BACKEND_CONNECT_REFUSED,
    errno.ECONNRESET: BACKEND_CONNECT_RESET,
    errno.ETIMEDOUT: BACKEND_CONNECT_TIMEOUT,
}


def connect(conn: "Connection") -> None:
    """Connect to the next backend that has not been tried; reset the client if none is left."""
    tcp = conn.tcp
    service = tcp.service
    key = service.key(conn.listener.route, conn.source) if service.selector.needs_key else 0
    pick = service.pick if tcp.queue is None else partial(tcp.queue.pick, conn)
    persistence = service.persistence
    if persistence is not None:
        if not conn.sticky:
            conn.sticky = persistence.key(conn.source[0])
            persistence.hold(conn.sticky)
        pick = partial(persistence.pick, conn.sticky, otherwise=pick)
    full: Target | None = None
    while len(avoid := conn.tried + conn.portless) < ATTEMPTS:
        target = pick(key, avoid)
        if target is None:
            full = None if service.capacity is None else service.capacity.full
            break
        if avoid:
            tcp.cells[tcp.base + SERVICE_RETRIES] += 1
        if _attempt(conn, target):
            return
        service.unclaim(target)
    now = tcp.poller.now
    patience = conn.accepted + tcp.times.connect_timeout
    if tcp.queue is not None:
        patience = max(patience, tcp.queue.until(conn))  # waiting for a slot does not use up the time to connect
    if conn.portless and now < patience:
        conn.portless = ()
        conn.state = State.WAITING
        conn.expect(now + PORT_PAUSE)
        return
    if tcp.queue is not None and full is not None:
        tcp.queue.join(conn, full)
    else:
        conn.ends(SERVICE_REFUSED_NO_BACKEND)
        conn.close(reset=True)


def _attempt(conn: "Connection", target: Target) -> bool:
    """Begin to connect to `target`, or wait if the host lacks something; return False if another backend may be tried."""
    tcp = conn.tcp
    sock: socket.socket | None = None
    try:
        where = sockaddr(target.address, target.port or conn.listener.member.port)
        if tcp.service.stock is not None:
            sock, result = transparent.open_stream(tcp.service.stock, target.family, conn.source, tcp.tune, where)
        elif target.sources:
            sock, result = open_stream(target.sources, target.family, tcp.tune, where)
        else:
            sock = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            tcp.tune(sock)
            result = sock.connect_ex(where)
        if result not in (0, errno.EINPROGRESS):
            raise OSError(result, "connect")  # noqa: TRY301 - one place decides who is at fault
        backend = Half(conn, sock)
        tcp.poller.register(sock, backend.on_event, STREAM)
    except OSError as error:
        if sock is not None:
            sock.close()
        if error.errno in OURS:
            if tcp.queue is not None:
                tcp.queue.leave(conn)
                tcp.queue.capacity.unclaim(target)
            conn.state = State.WAITING
            tcp.admission.wait(tcp, conn, error.errno)
            return True
        if error.errno == errno.EADDRNOTAVAIL:
            tcp.cells[tcp.base + (error.cell if isinstance(error, LackError) else SERVICE_NO_LOCAL_PORT)] += 1
            conn.portless += (target,)
            return False
        conn.tried += (target,)
        _count_failed(conn, target, error.errno)
        return False
    if tcp.queue is not None:
        tcp.queue.leave(conn)
    conn.state = State.CONNECTING
    conn.began = tcp.poller.now
    conn.deadline = conn.began + tcp.times.connect_timeout
    conn.tried += (target,)
    conn.backend = backend
    backend.other = conn.client
    conn.client.other = backend
    conn.target = target
    target.connections.add(conn)
    tcp.service.took(target)
    conn.expect(min(conn.deadline, conn.leaves))
    return True


def _count_failed(conn: "Connection", target: Target, number: int | None) -> None:
    cell = _CONNECT_ERRORS.get(number or 0, BACKEND_CONNECT_UNREACHABLE)
    conn.tcp.cells[target.cell + cell] += 1
    conn.tcp.service.failed(target)


def failed(conn: "Connection", number: int) -> None:
    """Count a failed connect, give the backend back and try another one."""
    if conn.target is not None:
        _count_failed(conn, conn.target, number)
    move(conn)


def move(conn: "Connection") -> None:
    """Give the backend back and try another one; allowed only before any octet has passed."""
    conn.release(reset=True)
    connect(conn)


def anew(conn: "Connection") -> None:
    """Give up a pending connect whose backend has another address now, and connect again, perhaps to that address."""
    target = conn.target
    conn.release(reset=True)
    conn.tried = tuple(one for one in conn.tried if one is not target)
    connect(conn)


def opened(conn: "Connection", backend: Half, mask: int, number: int) -> None:
    """Relay from now on: the backend is connected.  `number` is its error if it sent something and was then reset."""
    tcp = conn.tcp
    client, target = conn.client, conn.target
    assert target is not None  # noqa: S101 - for the type checker: an attempt has a target
    now = tcp.poller.now
    tcp.cells[target.cell + BACKEND_LATENCY + bucket(int((now - conn.began) * 1e6))] += 1
    if tcp.service.timed:
        tcp.service.took_time(target, now - conn.began)
    target.failures = 0
    conn.state = State.OPEN
    conn.began = now
    client.bytes_cell = target.cell + BACKEND_BYTES_IN
    backend.bytes_cell = target.cell + BACKEND_BYTES_OUT
    conn.expect(now + tcp.times.idle_timeout)
    if tcp.followed is not None:
        tcp.followed.opened(conn)
    if not number and target.send_proxy != "off":
        number = _introduce(conn, backend.sock, target.send_proxy)
    if number:
        conn.broken(backend, number)
        return
    client.pull(dry=True)
    if conn.state is State.OPEN and mask & (IN | RDHUP | PRI):
        backend.readable = True
        backend.pull(dry=True)


def _introduce(conn: "Connection", sock: socket.socket, version: str) -> int:
    """Send a backend the PROXY header; return 0, or the error."""
    try:
        header = build(version, conn.source, conn.asked or conn.client.sock.getsockname()[:2])
        # The send queue of a new connection is empty: a partial send is an error.
        return 0 if sock.send(header) == len(header) else errno.ENOBUFS
    except OSError as error:
        return error.errno or errno.ECONNRESET
