"""The Host header of a request to a listener on loopback [pure].

A page from the internet may make a browser on this host ask us: its name is changed to resolve to 127.0.0.1 ("DNS
rebinding").  Then the Host header has that name.  Whoever means this host writes an address, or localhost.
"""

import ipaddress
from typing import Final

LONGEST: Final = 255  # characters


def is_own(host: str | None) -> bool:
    """Return True if a request's Host header names this host by an address or as localhost, or if it has none.

    A browser always sends one.
    """
    if host is None:
        return True
    if len(host) > LONGEST:
        return False
    name, port = _split(host.strip().lower())
    if port and not (port.isascii() and port.isdecimal()):
        return False
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _split(host: str) -> tuple[str, str]:
    """Return "localhost:9600" as ("localhost", "9600"), "[::1]:9600" as ("::1", "9600")."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return "", ""
        return name, rest[1:]
    name, _, port = host.partition(":")
    return name, port
