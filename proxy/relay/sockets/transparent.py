"""Sockets that connect to a backend from the client's own address (transparent mode).

Only a process with CAP_NET_ADMIN or CAP_NET_RAW may make a socket transparent, and a worker has no capabilities.  But
any process may bind a transparent socket to any address (ip(7), IP_TRANSPARENT).  So the master makes them, and each
worker keeps a stock that is refilled early, so that no client has to wait.
"""

import errno
import socket
from collections import deque
from collections.abc import Callable, Iterable

from proxy.relay.sockets.address import Sockaddr, scope_of, sockaddr
from proxy.relay.sockets.sources import IP_BIND_ADDRESS_NO_PORT, LackError, NoSourceError
from proxy.stats.layout import SERVICE_NO_TRANSPARENT_SOCKET

STOCK = 256  # sockets of each kind that are kept ready
LOT = 64  # sockets that are asked for at a time

Kind = tuple[int, int]
"""(address family, type of socket)"""

Want = Callable[[int, int, int], None]
"""Asks the master for transparent sockets: (family, type, count). They arrive by `Engine.prepared`."""

_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES})  # the client's port is in use, or privileged


NO_WAY = frozenset({errno.EINVAL, errno.ENETUNREACH, errno.EHOSTUNREACH})
"""Errors if a link-local client's backend is not on the same link."""


class EmptyStockError(LackError):
    """The stock is empty: the master is busy, or has run out of descriptors."""

    cell = SERVICE_NO_TRANSPARENT_SOCKET


class Stock:
    """The transparent sockets of one worker, by kind; `want(family, type, count)` asks for more, which `put` receives."""

    def __init__(self, want: Want) -> None:
        self._want = want
        self._ready: dict[Kind, deque[socket.socket]] = {}
        self._asked: dict[Kind, int] = {}

    def keep(self, kind: Kind) -> None:
        """Begin to keep sockets of this kind ready."""
        if kind not in self._ready:
            self._ready[kind] = deque()
            self._asked[kind] = 0
            self._fill(kind)

    def take(self, kind: Kind) -> socket.socket:
        """Return a transparent, non-blocking socket, which the caller owns; raise EmptyStockError if there is none."""
        self.keep(kind)
        ready = self._ready[kind]
        sock = ready.popleft() if ready else None
        self._fill(kind)
        if sock is None:
            raise EmptyStockError
        return sock

    def put(self, kind: Kind, asked: int, socks: Iterable[socket.socket]) -> None:
        """Add sockets that were made for a request of `asked` ones: fewer if the master could not make more."""
        self.keep(kind)
        self._asked[kind] = max(0, self._asked[kind] - asked)
        self._ready[kind].extend(socks)

    def is_answered(self, kind: Kind) -> bool:
        """Return True if sockets of this kind are ready, or the master could not make any."""
        return bool(self._ready[kind]) or not self._asked[kind]

    def close(self) -> None:
        """Close all that are left."""
        for ready in self._ready.values():
            for sock in ready:
                sock.close()
            ready.clear()

    def _fill(self, kind: Kind) -> None:
        while len(self._ready[kind]) + self._asked[kind] <= STOCK - LOT:
            self._asked[kind] += LOT
            self._want(*kind, LOT)


def open_stream(
    stock: Stock,
    family: socket.AddressFamily,
    client: tuple[object, ...],
    tune: Callable[[socket.socket], None],
    where: Sockaddr,
) -> tuple[socket.socket, int]:
    """Return (a TCP socket with the client's address, the result of `connect_ex`).

    It has the client's port too if that is free: an earlier connection may be in TIME-WAIT, or the port privileged.
    Raises NoSourceError if the client's address cannot be used or, from a PROXY header, is of the other family, and
    EmptyStockError.
    """
    _same_family(client, family)

    def attempt(port: int) -> tuple[socket.socket, int]:
        sock = stock.take((family, socket.SOCK_STREAM))
        try:
            tune(sock)
            if port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            _bind(sock, client, port)
            result = sock.connect_ex(where)
        except BaseException:
            sock.close()
            raise
        if result in NO_WAY and scope_of(client):
            sock.close()
            raise NoSourceError
        return sock, result

    try:
        sock, result = attempt(int(str(client[1])))
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
    else:
        if result != errno.EADDRNOTAVAIL:
            return sock, result
        sock.close()
    return attempt(0)


def open_datagram(
    stock: Stock, family: socket.AddressFamily, client: tuple[object, ...], where: Sockaddr, buffer: int
) -> socket.socket:
    """Return a UDP socket with the client's address, and its port if that is free, connected to a backend.

    Raises NoSourceError and EmptyStockError like `open_stream`.
    """
    _same_family(client, family)
    sock = stock.take((family, socket.SOCK_DGRAM))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        # No SO_REUSEADDR: if one client's port has sessions with one backend by two listeners, one session would get the
        # answers to both.
        try:
            _bind(sock, client, int(str(client[1])))
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            _bind(sock, client, 0)
        try:
            sock.connect(where)
        except OSError as error:
            if error.errno in NO_WAY and scope_of(client):
                raise NoSourceError from error
            raise
    except BaseException:
        sock.close()
        raise
    return sock


def open_outlet(stock: Stock, family: socket.AddressFamily, where: Sockaddr, buffer: int) -> socket.socket:
    """Return a UDP socket connected to a backend that may send from any address, which each datagram names."""
    sock = stock.take((family, socket.SOCK_DGRAM))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, client: tuple[object, ...], port: int) -> None:
    """Bind a socket to the client's address; raise OSError if the port is taken, NoSourceError if the address fails."""
    scope = scope_of(client)
    host = str(client[0])
    try:
        sock.bind((host, port, 0, scope) if scope else sockaddr(host, port))
    except OSError as error:
        if error.errno in _TAKEN:
            raise
        raise NoSourceError from error  # for example a link-local address without its interface


def _same_family(client: tuple[object, ...], family: socket.AddressFamily) -> None:
    if (":" in str(client[0])) != (family == socket.AF_INET6):
        raise NoSourceError
