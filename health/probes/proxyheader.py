"""The PROXY header of a probe's connection, which has no client behind it (PROXY protocol, sections 2.1 and 2.2)."""

import socket
from typing import Final

LOCAL: Final = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"  # version 2, command LOCAL, no addresses


def build(version: str, opened: socket.SocketType) -> tuple[bytes, str]:
    """Return the PROXY header "v1" or "v2" for the probe's own connection `opened`, and its text for the transcript.

    Version 1 has no LOCAL, and Postfix refuses its UNKNOWN.  So version 1 contains the addresses of our own connection, as
    the specification demands of a sender that is its own client (PROXY protocol, section 2).
    """
    if version == "v2":
        return LOCAL, "PROXY v2 LOCAL"
    (ours, our_port), (theirs, their_port) = opened.getsockname()[:2], opened.getpeername()[:2]
    family = "TCP6" if opened.family == socket.AF_INET6 else "TCP4"
    line = f"PROXY {family} {ours.partition('%')[0]} {theirs.partition('%')[0]} {our_port} {their_port}"
    return f"{line}\r\n".encode(), line
