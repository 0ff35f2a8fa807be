"""The limit on the TCP connections of one service, over all workers.

Above the limit no client is accepted; it waits in the kernel's queue (`backlog`), as with HAProxy's `maxconn`.  A
worker with waiting clients publishes since when they have waited, and leaves one place free for each sibling whose
clients have waited longer.  So no worker's clients wait for ever beside a busy sibling.
"""

import select
import socket
from typing import TYPE_CHECKING

from proxy.relay.native.siblings import Siblings, claim
from proxy.stats.layout import SERVICE_CONNECTIONS, TURN_ACCEPT

if TYPE_CHECKING:
    from proxy.relay.native.tcp_listener import TcpListener
    from proxy.relay.tcp.service import TcpService

LOOK = 0.005  # s between two looks for places that other workers freed, while clients wait here


class Gate:
    """The gate of one service in one worker; it reads the siblings' counts."""

    def __init__(self, tcp: "TcpService", most: int, siblings: Siblings) -> None:
        self._tcp = tcp
        self.most = most
        self._siblings = siblings
        self._cell = tcp.base + SERVICE_CONNECTIONS
        self._turn = tcp.base + TURN_ACCEPT
        self._looking = False

    def enter(self, listener: "TcpListener") -> bool:
        """Claim a place for the next connection; if there is none, return False and look again later."""
        cells, siblings = self._tcp.cells, self._siblings
        since = cells[self._turn] or int(self._tcp.poller.now * 1e9)
        ahead = sum(0 < other < since for other in siblings.each(self._turn))
        if claim(cells, self._cell, siblings, len(self._tcp.connections), self.most, ahead):
            cells[self._turn] = 0
            return True
        waits = any(_waits(one.sock) for one in {listener, *self._tcp.stalled})
        cells[self._turn] = since if waits else 0
        if not self._looking:
            self._looking = True
            self._tcp.poller.at(self._tcp.poller.now + LOOK, self._look)
        return False

    def settle(self) -> None:
        """Give back a claimed place if no connection was accepted for it."""
        self._tcp.cells[self._cell] = len(self._tcp.connections)

    def open(self) -> None:
        """Stop limiting: no client waits here any more."""
        self.settle()
        self._tcp.cells[self._turn] = 0

    def _look(self, now: float) -> None:  # noqa: ARG002 - the poller passes it
        self._looking = False
        if self._tcp.stalled:
            self._tcp.accept_again()
        else:
            self._tcp.cells[self._turn] = 0


def _waits(sock: socket.socket) -> bool:
    """Return True if a client waits to be accepted."""
    look = select.poll()
    look.register(sock, select.POLLIN)
    return bool(look.poll(0))
