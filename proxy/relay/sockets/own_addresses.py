"""Checks whether the IPv6 addresses that sessions send from are still this host's.

Linux goes on sending from an address that is gone, without an error, and the answers do not come back.
"""

import errno
import socket

KNOWN = 1.0  # s that a result is cached


class Homes:
    """A cache of results; each check costs a socket."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], bool] = {}  # (address, scope) -> whether this host had it at `_looked`
        self._looked = 0.0

    def has(self, host: str, scope: int, now: float) -> bool:
        """Return True if this host has an address; `now` is in monotonic seconds."""
        if now - self._looked >= KNOWN:
            self._looked = now
            self._found.clear()
        known = self._found.get((host, scope))
        if known is None:
            known = self._found[host, scope] = _is_ours(host, scope)
        return known


def _is_ours(host: str, scope: int) -> bool:
    """Return True if this host has an IPv6 address, or if that cannot be checked."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as trial:
            trial.bind((host, 0, 0, scope))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True
