"""Converts addresses as the configuration writes them to the tuples that `bind` and `connect` take."""

import errno
import os
import socket
from typing import Any

Sockaddr = tuple[str, int] | tuple[str, int, int, int]


def sockaddr(address: str, port: int) -> Sockaddr:
    """Return (address, port), and for "fe80::1%eth0" the number of the interface as well (RFC 4007, section 11).

    Python drops a zone in the text unless it is given as a number, and looks up a zone that does not exist, which
    blocks. Raises OSError (ENODEV) if there is no such interface.
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
    """Return the interface number of an IPv6 client (host, port, flow, scope, ...); 0 if there is none."""
    return int(str(client[3])) if len(client) > 3 and ":" in str(client[0]) else 0  # noqa: PLR2004 - as above


Client = tuple[Any, ...]
"""A client as the listening socket names it: (host, port), or (host, port, flow, scope) for IPv6.  A wildcard listener
adds the control message with the local address that the client sent to."""
