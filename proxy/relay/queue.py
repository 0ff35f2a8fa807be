"""Clients that wait for a free slot of a backend, first come first served over all workers.

Each worker has a queue of its own; the bound is on all of them together, and `TURN_QUEUE` tells the siblings how long the
first one here has waited, so that a slot goes to the oldest, wherever it becomes free.  Backends that the scheduler would
have chosen count who waits as `queued`, each client once.
"""

from itertools import islice
from typing import TYPE_CHECKING

from proxy.relay.half import State
from proxy.relay.slots import Slots
from proxy.stats.layout import BACKEND_QUEUED, SERVICE_QUEUED, SERVICE_REFUSED_LIMIT, TURN_QUEUE

if TYPE_CHECKING:
    from collections.abc import Collection

    from proxy.relay.connection import Connection
    from proxy.relay.service import Target
    from proxy.relay.tcp import TcpService

LOOK = 0.005  # s between two looks for slots that became free otherwise, while anybody waits
AT_ONCE = 32  # who waits that is looked at in one turn


class Queue:
    """The queue of one service in one worker."""

    def __init__(self, tcp: "TcpService", slots: Slots) -> None:
        self.slots = slots
        self._tcp = tcp
        self._size = tcp.service.plan.limits.queue_size
        self._timeout = tcp.service.plan.limits.queue_timeout
        self._waiting: dict[Connection, float] = {}  # since when, the first one first
        self._cell = tcp.base + SERVICE_QUEUED
        self._looking = False
        slots.queue = self

    def __len__(self) -> int:
        return len(self._waiting)

    def pick(self, conn: "Connection", key: int, avoid: "Collection[Target]") -> "Target | None":
        """Return a backend with a claimed slot for a connection; None if it has to wait, or there is nobody at all."""
        since = self._waiting.get(conn)
        if since is not None:
            return self.slots.pick(key, avoid, since)
        if self._waiting and not avoid:
            self.slots.full = next(reversed(self._waiting)).queued  # behind those who came before
            return None
        return self.slots.pick(key, avoid, self._tcp.poller.now)

    def join(self, conn: "Connection", full: "Target") -> None:
        """Let a connection wait, or keep its place, because this backend is full; reset it if the queue is, too."""
        if conn in self._waiting:
            return
        tcp = self._tcp
        cells = tcp.cells
        place = len(self._waiting) + 1
        cells[self._cell] = place  # claimed first, as a slot is
        if place + self.slots.siblings.sum(self._cell) > self._size:
            cells[self._cell] = place - 1
            conn.ends(SERVICE_REFUSED_LIMIT)
            conn.close(reset=True)
            return
        now = tcp.poller.now
        self._waiting[conn] = now
        cells[full.cell + BACKEND_QUEUED] += 1
        conn.queued = full
        conn.state = State.QUEUED
        conn.deadline = now + self._timeout
        conn.expect(min(conn.deadline, conn.leaves))
        self._tell_head()
        if not self._looking:
            self._looking = True
            tcp.poller.at(now + LOOK, self._look)

    def leave(self, conn: "Connection") -> None:
        """Give up a place; harmless for who has none."""
        if self._waiting.pop(conn, None) is None or conn.queued is None:
            return
        cells = self._tcp.cells
        cells[conn.queued.cell + BACKEND_QUEUED] -= 1
        cells[self._cell] = len(self._waiting)
        conn.queued = None
        self._tell_head()

    def wake(self) -> None:
        """Serve who waits, in the next round."""
        if self._waiting:
            self._tcp.poller.again(self._serve)

    def _look(self, now: float) -> None:
        self._looking = bool(self._waiting)
        if self._looking:
            self._tcp.poller.at(now + LOOK, self._look)
            self._serve(0)

    def _serve(self, mask: int) -> None:  # noqa: ARG002 - the poller's
        """Connect those who come next, as long as there is room for them."""
        served = 0
        for conn in list(islice(self._waiting, AT_ONCE)):
            conn.connect()
            served += conn.state is not State.QUEUED
            if conn.state is State.QUEUED and not conn.tried:
                return  # nothing is free; one that was refused by what is free lets others pass
        if served == AT_ONCE:
            self.wake()

    def _tell_head(self) -> None:
        """Publish since when the first one waits that could take any slot."""
        head = next((since for conn, since in self._waiting.items() if not conn.tried), 0.0)
        self._tcp.cells[self._tcp.base + TURN_QUEUE] = int(head * 1e9)
