"""Sockets that may have the client's own address towards a backend (transparent mode).

Only who holds CAP_NET_ADMIN or CAP_NET_RAW may make a socket transparent, and a worker holds nothing; but a socket that
is transparent may be bound to any address by whoever has it (ip(7), IP_TRANSPARENT).  So the master prepares them, and
each worker keeps a stock that is filled up while it is still half full: a client waits for nothing.
"""

import errno
import socket
from collections import deque
from collections.abc import Callable, Iterable

from proxy.relay.sockets.address import Sockaddr, scope_of, sockaddr
from proxy.relay.sockets.sources import IP_BIND_ADDRESS_NO_PORT, LackError, NoSourceError
from proxy.stats.layout import SERVICE_NO_TRANSPARENT_SOCKET

STOCK = 256  # sockets of a kind that are kept ready
LOT = 64  # asked for at a time

Kind = tuple[int, int]
"""(address family, type of socket)"""

_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES})  # the client's port: in use, or privileged and we are not


NO_WAY = frozenset({errno.EINVAL, errno.ENETUNREACH, errno.EHOSTUNREACH})
"""What is said of a backend that is not on the link of a link-local client."""


class EmptyStockError(LackError):
    """The stock is empty: the master is busy, or out of descriptors."""

    cell = SERVICE_NO_TRANSPARENT_SOCKET


class Stock:
    """The transparent sockets of one worker, by kind; `want(family, type, count)` asks for more, `put` is the answer."""

    def __init__(self, want: Callable[[int, int, int], None]) -> None:
        self._want = want
        self._ready: dict[Kind, deque[socket.socket]] = {}
        self._asked: dict[Kind, int] = {}

    def keep(self, kind: Kind) -> None:
        """Keep sockets of this kind ready from now on."""
        if kind not in self._ready:
            self._ready[kind] = deque()
            self._asked[kind] = 0
            self._fill(kind)

    def take(self, kind: Kind) -> socket.socket:
        """Return a transparent, non-blocking socket, the caller's from now on; EmptyStockError if there is none."""
        self.keep(kind)
        ready = self._ready[kind]
        sock = ready.popleft() if ready else None
        self._fill(kind)
        if sock is None:
            raise EmptyStockError
        return sock

    def put(self, kind: Kind, asked: int, socks: Iterable[socket.socket]) -> None:
        """Take over what came for `asked` sockets: as many, or fewer where the master could not make more."""
        self.keep(kind)
        self._asked[kind] = max(0, self._asked[kind] - asked)
        self._ready[kind].extend(socks)

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
    """Return (a TCP socket with the client's address, what `connect_ex` said).

    It has the client's port too where that is free: a connection of before may be in TIME-WAIT, or the port privileged.
    NoSourceError for a client whose address cannot be had, or is of the other family, as a PROXY header may tell;
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
    """Return a UDP socket with the client's address, connected to a backend; the client's port too where that is free.

    NoSourceError and EmptyStockError as above.
    """
    _same_family(client, family)
    sock = stock.take((family, socket.SOCK_DGRAM))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        # Without SO_REUSEADDR: of two sessions of one client's port with one backend, by two listeners, one would get the
        # answers of both.
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
    """Return a UDP socket connected to a backend, that may send from any address: each datagram says which."""
    sock = stock.take((family, socket.SOCK_DGRAM))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, client: tuple[object, ...], port: int) -> None:
    """Give a socket the client's address; OSError where the port is taken, NoSourceError where the address is no good."""
    scope = scope_of(client)
    host = str(client[0])
    try:
        sock.bind((host, port, 0, scope) if scope else sockaddr(host, port))
    except OSError as error:
        if error.errno in _TAKEN:
            raise
        raise NoSourceError from error  # such as a link-local address without its interface


def _same_family(client: tuple[object, ...], family: socket.AddressFamily) -> None:
    if (":" in str(client[0])) != (family == socket.AF_INET6):
        raise NoSourceError
