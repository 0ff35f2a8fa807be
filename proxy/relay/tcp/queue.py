"""Clients that wait for a free slot of a backend: first come, first served, over all workers.

Each worker has its own queue; the limit applies to all of them together.  `TURN_QUEUE` publishes since when the queue's
head has waited, so that a slot goes to the oldest client wherever it becomes free.  A waiting client counts as `queued`
once, at the backend that the scheduler would have chosen.

Clients that have tried the same backends form one line: if the first of a line cannot be served, none of it can, and
the other lines go on.
"""

from heapq import merge, nsmallest
from operator import itemgetter
from typing import TYPE_CHECKING

from proxy.relay.capacity import Capacity
from proxy.relay.native.siblings import claim
from proxy.relay.native.tcp_pair import State
from proxy.stats.layout import BACKEND_QUEUED, SERVICE_QUEUED, SERVICE_REFUSED_LIMIT, TURN_QUEUE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from proxy.relay.native.tcp_connection import Connection
    from proxy.relay.target import Target
    from proxy.relay.tcp.service import TcpService

    Tried = tuple[Target, ...]

LOOK = 0.005  # s between two looks for slots that other workers freed, while clients wait
AT_ONCE = 32  # clients served in one turn; also lines looked at beside the line of clients that have tried no backend


class Queue:
    """The queue of one service in one worker."""

    def __init__(self, tcp: "TcpService", capacity: Capacity) -> None:
        self.capacity = capacity
        self._tcp = tcp
        self._take()
        self._waiting: dict[Connection, tuple[float, Tried]] = {}  # (since when, line), in order of arrival
        self._lines: dict[Tried, dict[Connection, float]] = {}  # no line is empty
        self._cell = tcp.base + SERVICE_QUEUED
        self._looking = False
        capacity.queue = self

    def __len__(self) -> int:
        return len(self._waiting)

    def _take(self) -> None:
        limits = self._tcp.service.plan.limits
        self._size, self._timeout = limits.queue_size, limits.queue_timeout

    def changed(self) -> None:
        """Use the changed size and timeout, also for the clients that wait; a full queue stays as long as it is."""
        before = self._timeout
        self._take()
        if self._timeout != before:
            for conn in self._waiting:
                conn.deadline = self.until(conn)
                conn.expect(min(conn.deadline, conn.leaves))

    def pick(self, conn: "Connection", key: int, avoid: "Collection[Target]") -> "Target | None":
        """Claim a slot for a connection and return its backend; None if it must wait, or no backend is usable."""
        place = self._waiting.get(conn)
        if place is not None:
            return self.capacity.pick(key, avoid, place[0])
        if self._waiting and not avoid:
            line = self._lines.get(())
            if line:
                self.capacity.full = next(reversed(line)).queued  # it waits behind the last of the line
                return None
            self._serve(0)  # clients that came earlier get free slots first
        return self.capacity.pick(key, avoid, self._tcp.poller.now)

    def until(self, conn: "Connection") -> float:
        """Return until when a connection may wait (monotonic s); -inf if it is not in the queue."""
        place = self._waiting.get(conn)
        return float("-inf") if place is None else place[0] + self._timeout

    def join(self, conn: "Connection", full: "Target") -> None:
        """Queue a connection, or keep its place, because backend `full` has no slot; reset it if the queue is full."""
        tcp = self._tcp
        cells = tcp.cells
        if conn not in self._waiting:
            if not claim(cells, self._cell, self.capacity.siblings, len(self._waiting), self._size):
                conn.ends(SERVICE_REFUSED_LIMIT)
                conn.close(reset=True)
                return
            cells[full.cell + BACKEND_QUEUED] += 1
            conn.queued = full
            self._line_up(conn, tcp.poller.now)
        elif self._waiting[conn][1] != conn.tried:
            self._line_up(conn, self._step_out(conn))
        conn.state = State.QUEUED
        conn.deadline = self.until(conn)
        conn.expect(min(conn.deadline, conn.leaves))
        if not self._looking:
            self._looking = True
            tcp.poller.at(tcp.poller.now + LOOK, self._look)

    def leave(self, conn: "Connection") -> None:
        """Take a connection out of the queue; harmless if it is not in it."""
        if conn not in self._waiting:
            return
        self._step_out(conn)
        cells = self._tcp.cells
        if conn.queued is not None:
            cells[conn.queued.cell + BACKEND_QUEUED] -= 1
            conn.queued = None
        cells[self._cell] = len(self._waiting)
        self._tell_head()

    def relisted(self, gone: "Iterable[Target]") -> None:
        """Count clients that waited for a backend that is gone at another one."""
        left, targets, cells = set(gone), self._tcp.service.targets, self._tcp.cells
        instead = next((target for target in targets if target.limit), next(iter(targets), None))
        for conn in self._waiting:
            if conn.queued in left:
                cells[conn.queued.cell + BACKEND_QUEUED] -= 1
                if instead is not None:
                    cells[instead.cell + BACKEND_QUEUED] += 1
                conn.queued = instead
        self.wake()

    def wake(self) -> None:
        """Serve waiting clients in the next round."""
        if self._waiting:
            self._tcp.poller.again(self._serve)

    def _line_up(self, conn: "Connection", since: float) -> None:
        self._waiting[conn] = since, conn.tried
        self._lines.setdefault(conn.tried, {})[conn] = since
        self._tell_head()

    def _step_out(self, conn: "Connection") -> float:
        """Take a connection out of its line; return since when it has waited."""
        since, tried = self._waiting.pop(conn)
        line = self._lines[tried]
        del line[conn]
        if not line:
            del self._lines[tried]
        return since

    def _look(self, now: float) -> None:
        self._looking = bool(self._waiting)
        if self._looking:
            self._tcp.poller.at(now + LOOK, self._look)
            self._serve(0)

    def _serve(self, mask: int) -> None:  # noqa: ARG002 - the poller passes it
        """Connect waiting clients in their order while slots are free."""
        blocked: set[Tried] = set()
        served = 0
        for _, conn, tried in merge(*(self._in_line(tried, blocked) for tried in self._oldest()), key=itemgetter(0)):
            conn.connect()
            match conn.state:
                case State.WAITING:
                    return  # the host lacks something, which the others would lack as well
                case State.QUEUED if conn.tried == tried:
                    blocked.add(tried)
                case _:
                    served += 1
            if served == AT_ONCE:
                self.wake()
                return

    def _oldest(self) -> "list[Tried]":
        """Return the lines to look at in one turn: those whose heads have waited longest."""
        others = [tried for tried in self._lines if tried]
        if len(others) > AT_ONCE:
            others = nsmallest(AT_ONCE, others, key=lambda tried: next(iter(self._lines[tried].values())))
        return [(), *others] if () in self._lines else others

    def _in_line(self, tried: "Tried", blocked: "set[Tried]") -> "Iterator[tuple[float, Connection, Tried]]":
        """Yield (since when, connection, backends tried) until the line is blocked.

        Connections that wait because the host lacks something have their own timers.
        """
        for conn, since in list(self._lines[tried].items()):
            if tried in blocked:
                return
            if conn.state is State.QUEUED:
                yield since, conn, tried

    def _tell_head(self) -> None:
        """Publish since when the first client has waited that could take any slot."""
        line = self._lines.get(())
        head = next(iter(line.values())) if line else 0.0
        self._tcp.cells[self._tcp.base + TURN_QUEUE] = int(head * 1e9)
