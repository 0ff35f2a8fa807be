"""Binds the listening sockets: one reuseport group a listener."""

import errno
import os
import socket
from collections.abc import Callable, Sequence

from proxy.host.port_holders import beside_ours, holders
from proxy.relay.plan import Member, TcpPlan
from proxy.relay.sockets import datagram, stream_options
from proxy.relay.sockets.address import sockaddr

RECEIVE_BUFFER = 4 << 20  # octets: the default holds 256 small datagrams, less than a worker's restart lets queue up
IP_FREEBIND = 15  # linux/in.h
IPV6_FREEBIND = 78  # linux/in6.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h

Warn = Callable[[str], None]


class BindError(Exception):
    """A listener cannot be bound: `where`, and the kernel's reason.  `explain` puts it in words."""

    def __init__(self, where: Member, error: OSError) -> None:
        super().__init__(f"{where.text}: {os.strerror(error.errno or 0)}")
        self.where = where
        self.errno = error.errno


def bind(where: Member, members: int, tcp: TcpPlan, backlog: int, warn: Warn | None) -> list[socket.socket]:
    """Bind a listener's reuseport group of `members` sockets, non-blocking; TCP ones listen.  BindError if it fails.

    `warn` is told of an address that is not here yet; None where it comes and goes by itself (a virtual one).

    The first is bound without SO_REUSEPORT: with it, a second daemon of the same user would be let in and silently get
    its share of the traffic.  Unless nothing but a listener of our own is in the way, which is `*` beside an address.
    """
    transport, address, port = where.transport, where.address, where.port
    group: list[socket.socket] = []
    try:
        for index in range(members):
            sock = _socket(transport, address)
            group.append(sock)
            if index:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                _bind(sock, address, port, warn if not index else None)
            except OSError as error:
                if index or error.errno != errno.EADDRINUSE or not beside_ours((transport, address, port)):
                    raise
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                _bind(sock, address, port, warn)
            if not index:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Only once all are bound: a socket that listens earlier would take connections while the group still grows.
        if transport == "tcp":
            for sock in group:
                stream_options.tune(sock, tcp.keepalive, tcp.user_timeout)
                sock.listen(backlog)
    except OSError as error:
        for sock in group:
            sock.close()
        raise BindError(where, error) from error
    return group


def explain(errors: Sequence[BindError]) -> list[str]:
    """Return a line for each listener that cannot be bound: its address, the reason, the holder of the port."""
    taken = [error.where for error in errors if error.errno == errno.EADDRINUSE]
    in_the_way = holders({(where.transport, where.address, where.port) for where in taken})
    return [
        f"{error.where.text}: {_reason(error, in_the_way.get((error.where.transport, error.where.address, error.where.port)))}"
        for error in errors
    ]


def _socket(transport: str, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if transport == "tcp":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        _widen(sock)
        datagram.prepare(sock, address)
    return sock


def _widen(sock: socket.socket) -> None:
    if os.geteuid() == 0:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except OSError:
            pass  # root of a user namespace: the kernel then allows at most net.core.rmem_max
        else:
            return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def _bind(sock: socket.socket, address: str, port: int, warn: Warn | None) -> None:
    name = sockaddr(address, port)
    try:
        sock.bind(name)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        if warn is not None:
            warn(f"{address} is on no interface of this host yet: bound anyway, no traffic arrives until it is")
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        sock.bind(name)


def _reason(error: BindError, holder: str | None) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"already in use by {holder}" if holder else "already in use"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"not permitted: ports below 1024 need root or CAP_NET_BIND_SERVICE (the daemon runs as uid {os.geteuid()})"
        )
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return "out of descriptors: raise the limit of open files (LimitNOFILE)"
    return os.strerror(error.errno or 0)
