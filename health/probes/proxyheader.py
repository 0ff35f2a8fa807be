"""The PROXY header of a connection that speaks for nobody but ourselves (PROXY protocol, sections 2.1 and 2.2)."""

import socket
from typing import Final

LOCAL: Final = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"  # version 2, command LOCAL, no addresses


def build(version: str, opened: socket.SocketType) -> tuple[bytes, str]:
    """Return the PROXY header of "v1" or "v2" that speaks for ourselves on `opened`, and what to call it.

    Version 1 has no LOCAL, and its UNKNOWN is refused by Postfix: there our own connection's addresses stand, as the
    specification asks of a sender that is its own client (PROXY protocol, section 2).
    """
    if version == "v2":
        return LOCAL, "PROXY v2 LOCAL"
    (ours, our_port), (theirs, their_port) = opened.getsockname()[:2], opened.getpeername()[:2]
    family = "TCP6" if opened.family == socket.AF_INET6 else "TCP4"
    line = f"PROXY {family} {ours.partition('%')[0]} {theirs.partition('%')[0]} {our_port} {their_port}"
    return f"{line}\r\n".encode(), line
