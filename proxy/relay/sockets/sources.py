"""The local addresses for connections to a backend (`source-addresses`): they take turns, and each has its own ports.

An address that this host does not have is not the backend's fault: the next one is tried, and NoSourceError means that
this host has none of them.
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
    """There is no local address and port to connect from; `cell` is the service's counter of such errors."""

    cell: int

    def __init__(self) -> None:
        super().__init__(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


class NoSourceError(LackError):
    """This host has none of the addresses that it should connect from."""

    cell = SERVICE_NO_SOURCE_ADDRESS


class Sources:
    """The configured addresses of the backend's family; false if there are none and the kernel chooses."""

    __slots__ = ("_addresses", "_at")

    def __init__(self, addresses: Iterable[str], family: socket.AddressFamily) -> None:
        self._addresses = [one for one in addresses if (":" in one) == (family == socket.AF_INET6)]
        self._at = 0

    def __bool__(self) -> bool:
        return bool(self._addresses)

    def turn(self) -> list[str]:
        """Return all addresses, beginning with the one whose turn it is."""
        at = self._at
        self._at = (at + 1) % len(self._addresses)
        return self._addresses[at:] + self._addresses[:at]


def open_stream(
    sources: Sources, family: socket.AddressFamily, tune: Callable[[socket.socket], None], where: Sockaddr
) -> tuple[socket.socket, int]:
    """Return (a TCP socket, the result of `connect_ex`) from the first address that this host has with a free port.

    Raises NoSourceError if this host has none of the addresses, and EADDRNOTAVAIL if all of them have run out of ports.
    `connect` chooses the port, so that one port may serve many backends (IP_BIND_ADDRESS_NO_PORT, ip(7)).
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
    """Return `connected(address)`, a UDP socket, for the first address that this host has, or raise NoSourceError."""
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


_MISSING = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})  # no such address, or no such interface (link-local)
