"""From an address as the configuration writes it to what `bind` and `connect` take."""

import errno
import os
import socket
from typing import Any

Sockaddr = tuple[str, int] | tuple[str, int, int, int]


def sockaddr(address: str, port: int) -> Sockaddr:
    """Return (address, port), and for "fe80::1%eth0" the number of the interface as well (RFC 4007, section 11).

    Python leaves a zone in the text out unless it is given as a number, and would look up one that does not exist, which
    blocks.  OSError (ENODEV) where there is no such interface.
    """
    host, _, zone = address.partition("%")
    if not zone:
        return address, port
    if zone.isdecimal():
        return host, port, 0, int(zone)
    try:
        return host, port, 0, socket.if_nametoindex(zone)
    except OSError:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), zone) from None


def scope_of(client: tuple[object, ...]) -> int:
    """Return the interface of an IPv6 client as the kernel told it, (host, port, flow, scope, ...); 0 for none or not said."""
    return int(str(client[3])) if len(client) > 3 and ":" in str(client[0]) else 0  # noqa: PLR2004 - as above


Client = tuple[Any, ...]
"""Who asked, as the listening socket names it: (host, port), IPv6 (host, port, flow, scope); a wildcard listener adds
the control message that tells which of our addresses was asked."""
