"""UDP sockets to backends, each connected, from a random port.

A port that cannot be guessed is half of the protection against forged answers (RFC 5452, section 9.2), so it comes from
the kernel's CSPRNG.  A connected socket receives only from its backend.
"""

import errno
import random
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from proxy.relay.sockets import transparent
from proxy.relay.sockets.address import sockaddr
from proxy.relay.sockets.datagram import BATCH
from proxy.relay.sockets.sources import open_datagram
from proxy.stats.layout import (
    SERVICE_NO_DESCRIPTOR,
    SERVICE_NO_LOCAL_PORT,
    SERVICE_NO_MEMORY,
    SERVICE_NO_SOURCE_ADDRESS,
)

if TYPE_CHECKING:
    from proxy.relay.sockets.sources import Sources
    from proxy.relay.sockets.transparent import Stock

LIFETIME = 60.0  # s until a socket is replaced
REOPEN_PAUSE = 0.1  # s until opening a socket is tried again after it failed
RECEIVE_BUFFER = 4 << 20

SHORTAGES = {
    errno.EMFILE: SERVICE_NO_DESCRIPTOR,
    errno.ENFILE: SERVICE_NO_DESCRIPTOR,
    errno.ENOSPC: SERVICE_NO_DESCRIPTOR,  # epoll's watches
    errno.ENOBUFS: SERVICE_NO_MEMORY,
    errno.ENOMEM: SERVICE_NO_MEMORY,
    errno.EAGAIN: SERVICE_NO_LOCAL_PORT,
    errno.EADDRINUSE: SERVICE_NO_LOCAL_PORT,
    errno.EADDRNOTAVAIL: SERVICE_NO_SOURCE_ADDRESS,
}
"""Errors of this host, not of a backend, when a socket is opened -> the counter of the service."""

_random = random.SystemRandom()


class Destination(Protocol):
    """The part of a backend that a socket to it needs."""

    address: str
    family: socket.AddressFamily
    sources: "Sources"


@cache
def _port_range() -> tuple[int, int]:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_bytes().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return 32768, 60999


def connect(target: Destination, port: int) -> socket.socket:
    """Open a non-blocking UDP socket connected to a backend, from one of its source addresses if it has any."""
    if target.sources:
        return open_datagram(target.sources, lambda source: connected(target.address, port, source))
    return connected(target.address, port)


def connect_as(target: Destination, port: int, client: tuple[object, ...], stock: "Stock | None") -> socket.socket:
    """Open a socket for a client's session; with `stock` (transparent mode) it has the client's own address."""
    if stock is None:
        return connect(target, port)
    return transparent.open_datagram(stock, target.family, client, sockaddr(target.address, port), RECEIVE_BUFFER)


def connected(address: str, port: int, source: str = "") -> socket.socket:
    """Open a non-blocking UDP socket connected to a backend from a random port; raise OSError if that is impossible."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        low, high = _port_range()
        for _ in range(8):
            try:
                sock.bind(sockaddr(source, _random.randint(low, high)))
                break
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
        else:
            # Eight ports in a row were taken: the kernel's own choice, which is random too, looks at all ports.
            if source:
                sock.bind(sockaddr(source, 0))
        sock.connect(sockaddr(address, port))
        # Between `bind` and `connect` any host could send to the port.
        with suppress(OSError):
            for _ in range(BATCH):
                sock.recv(1)
    except BaseException:
        sock.close()
        raise
    return sock
