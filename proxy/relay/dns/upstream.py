"""The backends' side of a DNS service: four connected sockets a backend, with random ports and random query IDs.

A forged answer must match the socket's port and the query's ID (RFC 5452, section 9.2); both come from the kernel's
CSPRNG.  A socket is replaced every minute, so that its port does not stay known, and at once if it is broken: a
connected socket does not survive a change of the host's address or of the backend's route.

`proxy.relay.native.dns_upstream` receives, `proxy.relay.native.dns` sends.
"""

import errno
from typing import TYPE_CHECKING

from proxy.relay.native.dns_tables import LATE_KEPT
from proxy.relay.native.dns_upstream import SOCKETS_A_BACKEND as SOCKETS
from proxy.relay.native.dns_upstream import Peer as NativePeer
from proxy.relay.native.dns_upstream import Upstream
from proxy.relay.sockets.outgoing import REOPEN_PAUSE, SHORTAGES, connect
from proxy.stats.layout import BACKEND_PORT_UNREACHABLE, BACKEND_SEND_FAILED

if TYPE_CHECKING:
    from proxy.relay.dns.service import DnsService
    from proxy.relay.target import Target

LINGER = 5.0  # s that a replaced socket is still read
SPARE = 1.0  # s between two replacements of one socket: a broken route must not cost one socket a query
SILENT = 4  # queries in a row without an answer, after which a socket is replaced
MOVED = 256  # queries sent to other backends in one turn
IDENTICAL_CAP = 64  # identical queries of all workers in flight to a backend: more help a forger (RFC 5452, section 5)
PENDING_CAP = 32768  # IDs in use on one socket: above it a random free ID is no longer cheap to find

__all__ = ["IDENTICAL_CAP", "LATE_KEPT", "LINGER", "MOVED", "PENDING_CAP", "SILENT", "SOCKETS", "SPARE", "Peer"]

# The host lacks something, or the datagram is too large for any backend: a new socket would not help.
_UNSENT = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE})


class Peer(NativePeer):
    """One backend at one port."""

    dns: "DnsService"

    def __init__(self, dns: "DnsService", target: "Target", port: int) -> None:
        super().__init__(dns, target, port)
        self.poller = dns.poller
        self.replaced = [-SPARE] * SOCKETS
        self.barred = [-REOPEN_PAUSE] * SOCKETS
        self.retired: set[Upstream] = set()

    def broke(self, upstream: Upstream, number: int, now: float) -> bool:
        """Count a socket's error, and replace the socket if that may help; return True if sending may work at once."""
        refused = number == errno.ECONNREFUSED
        self.dns.cells[self.target.cell + (BACKEND_PORT_UNREACHABLE if refused else BACKEND_SEND_FAILED)] += 1
        if number in _UNSENT:
            return False
        self.dns.service.failed(self.target)
        # An ICMP error does not say which query it is about, and what it says is true of all sockets: all queries move.
        self.ask_elsewhere()
        return refused or self.replace(upstream, now)

    def unanswered(self, upstream: Upstream, now: float) -> None:
        """Replace a socket after `SILENT` queries in a row that any server answers got no answer."""
        if upstream.silent >= SILENT:
            self.dns.service.hint(self.target)
            self.replace(upstream, now)

    def open(self, place: int, now: float) -> Upstream | None:
        """Open or replace the socket of a place; if that fails, return the current one, which may be None."""
        current = self.sockets[place]
        if now < self.barred[place]:
            return current
        try:
            sock = connect(self.target, self.port)
        except OSError as error:
            self._cannot_open(place, error, now)
            return current
        try:
            upstream = Upstream(self, sock, now)
        except OSError as error:
            sock.close()
            self._cannot_open(place, error, now)
            return current
        if current is not None:
            self._retire(current, place)
        self.sockets[place] = upstream
        return upstream

    def replace(self, upstream: Upstream, now: float) -> bool:
        """Stop using a broken socket; return False if it was replaced too recently."""
        if upstream not in self.sockets:
            return True
        place = self.sockets.index(upstream)
        if now - self.replaced[place] < SPARE:
            return False
        self.replaced[place] = now
        self._retire(upstream, place)
        return True

    def renew(self, now: float) -> None:
        """Replace every socket: the backend came up again, perhaps by another route."""
        for upstream in self.sockets:
            if upstream is not None:
                self.replace(upstream, now)

    def ask_elsewhere(self) -> None:
        """Send the queries in flight here to other backends, too: this backend is down."""
        for upstream in (*self.sockets, *self.retired):
            if upstream is not None:
                upstream.ask_elsewhere()

    def retire(self) -> None:
        """Stop sending queries: the backend is no longer listed."""
        for place, upstream in enumerate(self.sockets):
            if upstream is not None:
                self._retire(upstream, place)

    def close(self) -> None:
        """Close all sockets; the caller finishes pending queries first."""
        for upstream in (*self.sockets, *self.retired):
            if upstream is not None:
                upstream.close()
        self.sockets[:] = [None] * SOCKETS
        self.retired.clear()

    def _cannot_open(self, place: int, error: OSError, now: float) -> None:
        self.barred[place] = now + REOPEN_PAUSE
        shortage = SHORTAGES.get(error.errno or 0)
        if shortage is not None:
            self.dns.cells[self.dns.base + shortage] += 1
        else:
            self.dns.cells[self.target.cell + BACKEND_SEND_FAILED] += 1

    def _retire(self, upstream: Upstream, place: int) -> None:
        """Send no more queries over a socket, but read it for `LINGER` seconds: answers may be on their way."""
        self.sockets[place] = None
        self.retired.add(upstream)

        def bury(_: float) -> None:
            if upstream in self.retired:
                self.retired.remove(upstream)
                upstream.close()

        self.poller.at(self.poller.now + LINGER, bury)
