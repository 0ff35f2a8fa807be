"""Whence we connect to a backend: addresses of ours that take turns, each with local ports of its own (source-addresses).

An address that this host does not have is our fault, never the backend's: the next one is tried, and NoSourceError says
that there was none.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterable

from proxy.relay.sockets.address import Sockaddr, sockaddr
from proxy.stats.layout import SERVICE_NO_SOURCE_ADDRESS

# The socket module names it only from Python 3.13 on; the number is Linux's (linux/in.h), for both families.
IP_BIND_ADDRESS_NO_PORT = 24


class LackError(OSError):
    """We have nothing to connect from; `cell` counts it in the service's block."""

    cell: int

    def __init__(self) -> None:
        super().__init__(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


class NoSourceError(LackError):
    """This host has none of the addresses that it is to connect from."""

    cell = SERVICE_NO_SOURCE_ADDRESS


class Sources:
    """The addresses of a backend's family; false if the kernel chooses."""

    __slots__ = ("_addresses", "_at")

    def __init__(self, addresses: Iterable[str], family: socket.AddressFamily) -> None:
        self._addresses = [one for one in addresses if (":" in one) == (family == socket.AF_INET6)]
        self._at = 0

    def __bool__(self) -> bool:
        return bool(self._addresses)

    def turn(self) -> list[str]:
        """Return all addresses, the one whose turn it is first."""
        at = self._at
        self._at = (at + 1) % len(self._addresses)
        return self._addresses[at:] + self._addresses[:at]


def open_stream(
    sources: Sources, family: socket.AddressFamily, tune: Callable[[socket.socket], None], where: Sockaddr
) -> tuple[socket.socket, int]:
    """Return (a TCP socket, what `connect_ex` said), from the first address that is ours and has a free port.

    NoSourceError where none is ours.  The port is chosen by `connect`, so that one may serve for many backends
    (IP_BIND_ADDRESS_NO_PORT, ip(7)); EADDRNOTAVAIL means that they have run out, for every address that is ours.
    """
    dry = False
    for source in sources.turn():
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            tune(sock)
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            if not _bound(sock, source):
                sock.close()
                continue
            result = sock.connect_ex(where)
        except BaseException:
            sock.close()
            raise
        if result != errno.EADDRNOTAVAIL:
            return sock, result
        dry = True
        sock.close()
    if dry:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    raise NoSourceError


def open_datagram(sources: Sources, connected: Callable[[str], socket.socket]) -> socket.socket:
    """Return a UDP socket that `connected(address)` makes, from the first address that is ours; else NoSourceError."""
    for source in sources.turn():
        try:
            return connected(source)
        except OSError as error:
            if error.errno not in _MISSING:
                raise
    raise NoSourceError


def _bound(sock: socket.socket, source: str) -> bool:
    try:
        sock.bind(sockaddr(source, 0))
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        return False
    return True


_MISSING = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})  # the address, or a link-local one's interface
