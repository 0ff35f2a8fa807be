"""When a router whose adverts do not leave the host gives its addresses up.

The other hosts hear nothing of such a router and become active as well.  An error that passes by itself, such as a full
queue, is no reason: the next advert may leave.  An error that each advert meets is one, as a firewall that drops them.
"""

import errno
import os
from typing import Final

PATIENCE: Final = 3
"""Adverts in a row that may fail: then the others count us as down (RFC 9568 section 6.1)."""
FIRST_PAUSE: Final = 5.0
"""s until a router that gave up tries again; each time twice as long."""
LAST_PAUSE: Final = 300.0
"""s between two such trials at most."""

_PASSING = frozenset(
    (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EINTR, errno.ENETDOWN, errno.ENODEV, errno.ENXIO)
)
"""A queue is full, or the link is down, which is a fault of its own."""
_WORDS = {
    errno.EPERM: "Operation not permitted (a firewall of this host drops them)",
    errno.ENETUNREACH: "Network is unreachable (no route to the other members)",
    errno.EHOSTUNREACH: "No route to host (no route to the other members)",
}


class Sending:
    """What became of one router's adverts."""

    __slots__ = ("_failed", "_pause")

    def __init__(self) -> None:
        """Begin with nothing sent."""
        self._failed = 0
        self._pause = FIRST_PAUSE

    def left(self) -> None:
        """Take note that an advert has left for at least one other host."""
        self._failed = 0
        self._pause = FIRST_PAUSE

    def failed(self, code: int) -> str:
        """Take note of the error number of an advert that reached no host; return why to give up, "" if not (yet).

        A router that has given up before does so at the first failure.
        """
        if code in _PASSING:
            return ""
        self._failed += 1
        if self._failed < PATIENCE and self._pause == FIRST_PAUSE:
            return ""
        return f"adverts cannot be sent: {_WORDS.get(code) or os.strerror(code)}"

    def next_pause(self) -> float:
        """Return the seconds until a router that gives up now tries again."""
        pause, self._pause = self._pause, min(2 * self._pause, LAST_PAUSE)
        return pause
