"""Whether the IPv6 addresses that we send from are still this host's.

Linux goes on to send from one that is gone, and nobody is told: answers to it go elsewhere.
"""

import errno
import socket

KNOWN = 1.0  # s that what was found is believed


class Homes:
    """What was found of addresses lately; a look costs a socket."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], bool] = {}  # (address, scope): whether it was ours at `_looked`
        self._looked = 0.0

    def has(self, host: str, scope: int, now: float) -> bool:
        """Whether an address is on this host, `now` in monotonic seconds."""
        if now - self._looked >= KNOWN:
            self._looked = now
            self._found.clear()
        known = self._found.get((host, scope))
        if known is None:
            known = self._found[host, scope] = _is_ours(host, scope)
        return known


def _is_ours(host: str, scope: int) -> bool:
    """Whether an IPv6 address is on this host; what cannot be told is taken to be."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as trial:
            trial.bind((host, 0, 0, scope))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True
