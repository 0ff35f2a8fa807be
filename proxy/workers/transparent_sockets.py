"""Transparent sockets: the master makes them for the workers, which have no privilege to set the option."""

import socket
from contextlib import suppress

from proxy.processes.channel import DESCRIPTORS

# The socket module names neither; the numbers are Linux's (linux/in.h, linux/in6.h).
IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75

KINDS = frozenset(
    (int(family), int(kind))
    for family in (socket.AF_INET, socket.AF_INET6)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
)


def make(family: int, kind: int) -> socket.socket:
    """Return an unbound, non-blocking socket that may be bound to any address; PermissionError without the privilege."""
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def make_some(family: int, kind: int, count: int) -> list[socket.socket]:
    """Return `count` of them for a worker, fewer if descriptors run out; the request may be hostile."""
    made: list[socket.socket] = []
    if (family, kind) in KINDS:
        with suppress(OSError):
            for _ in range(max(0, min(count, DESCRIPTORS))):
                made.append(make(family, kind))  # noqa: PERF401 - what was made before an error counts
    return made


def possible() -> bool:
    """Whether this process has the privilege."""
    try:
        make(socket.AF_INET, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True
