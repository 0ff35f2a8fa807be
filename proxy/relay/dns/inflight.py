"""DNS queries in flight: when each is sent again, and when it is given up.  No I/O.

A query goes through phases, each of which ends a fixed time after the query began: the first at `retry-after`, each
further one twice that later, the last at `give-up`.  So each phase is a table in which queries are ordered by their due
times, and one timer serves it.  An answered query leaves nothing behind: there may be 40,000 queries a second.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from proxy.relay.dns.message import HEADER, OPCODE

if TYPE_CHECKING:
    from proxy.relay.dns.intake import DnsListener
    from proxy.relay.dns.upstream import Upstream
    from proxy.relay.native.poller import Poller
    from proxy.relay.native.timers import Timer
    from proxy.relay.proxy_header.header import Header
    from proxy.relay.sockets.address import Client
    from proxy.relay.target import Target

Key = tuple[int, "Client", bytes]
"""(listener, client, datagram): a client's second query from the same port with the same ID is a retransmission."""

Attempt = tuple["Upstream", int, float]
"""(socket, ID, time of sending)"""

ASKED_AGAIN = 8  # the most times that a query is sent again
GRAIN = 0.005  # s between two looks at one phase
RIPE = 256  # queries handled in one look: thousands may be due at once


class Query:
    """One query of one client."""

    __slots__ = (
        "also", "attempts", "client", "done", "due", "end", "key", "listener", "message", "payload", "phase",
        "question", "slot", "started", "subnet", "told", "tried", "twin", "unanswered",
    )  # fmt: skip

    def __init__(
        self,
        listener: "DnsListener",
        client: "Client",
        message: bytes,
        key: Key,
        end: int,
        now: float,
        told: "Header | None" = None,
    ) -> None:
        self.listener = listener
        self.client = client
        self.message = message
        self.key = key
        self.end = end
        self.question = message[HEADER:end]
        self.payload = self.twin = message[2:]  # queries with the same `twin` may share one answer
        self.subnet = 0  # what `client_subnet.add` put into the query, and must be taken out of the answer
        self.told = told  # the PROXY header
        self.started = now
        self.due = now
        self.phase = 0
        self.attempts: list[Attempt] = []
        self.unanswered = 0  # the number of attempts that were counted as unanswered
        self.tried: tuple[Target, ...] = ()
        self.also: list[Query] | None = None  # identical queries that wait for the same answer
        self.slot = -1
        self.done = False

    @property
    def is_owed(self) -> bool:
        """Return True if every healthy server answers the query: opcode QUERY with a question.

        A server may stay silent on other messages, and is not to blame then.
        """
        return not self.message[2] & OPCODE and self.end > HEADER


class Inflight:
    """All queries in flight.  `on_silent(query, now)` sends a query again, `on_end(query)` must finish it."""

    def __init__(
        self,
        poller: "Poller",
        retry_after: float,
        give_up: float,
        on_silent: Callable[[Query, float], None],
        on_end: Callable[[Query], None],
    ) -> None:
        self._ends = moments(retry_after, give_up)
        self._fresh: dict[Key, Query] = {}
        self._silent: dict[Key, Query] = {}  # all queries in later phases
        self._phases: tuple[dict[Key, Query], ...] = (self._fresh, *({} for _ in self._ends[1:]))
        self._timers: list[Timer | None] = [None] * len(self._phases)
        self._poller = poller
        self._on_silent = on_silent
        self._on_end = on_end

    def __len__(self) -> int:
        return len(self._fresh) + len(self._silent)

    def __contains__(self, key: Key) -> bool:
        # Hashing the key costs more than a test for an empty table.
        return key in self._fresh or (bool(self._silent) and key in self._silent)

    def values(self) -> list[Query]:
        """Return all queries as a copy: the caller may finish them while it iterates."""
        return [*self._fresh.values(), *self._silent.values()]

    def add(self, query: Query) -> None:
        """Add a query to the first phase."""
        query.due = query.started + self._ends[0]
        self._fresh[query.key] = query
        if self._timers[0] is None:
            self._arm(0, query.due)

    def retime(self, retry_after: float, give_up: float) -> None:
        """Use other times, also for the queries in flight: what is due by them already is done at once."""
        ends = moments(retry_after, give_up)
        if ends == self._ends:
            return
        queries = sorted(self.values(), key=attrgetter("started"))
        for timer in self._timers:
            if timer is not None:
                timer.cancel()
        self._ends = ends
        self._fresh.clear()
        self._silent.clear()
        self._phases = (self._fresh, *({} for _ in ends[1:]))
        self._timers = [None] * len(ends)
        for query in queries:
            query.phase = min(query.phase, len(ends) - 1)
            query.due = query.started + ends[query.phase]
            self._phases[query.phase][query.key] = query
            if query.phase:
                self._silent[query.key] = query
        for number, phase in enumerate(self._phases):
            if phase:
                self._arm(number, next(iter(phase.values())).due)

    def remove(self, query: Query) -> None:
        """Remove a query that is over."""
        del self._phases[query.phase][query.key]
        if query.phase:
            del self._silent[query.key]

    def _arm(self, number: int, when: float) -> None:
        self._timers[number] = self._poller.at(when, partial(self._look, number))

    def _look(self, number: int, now: float) -> None:
        """Send again, or give up, the queries of a phase that are due."""
        phase = self._phases[number]
        try:
            for query in list(islice(phase.values(), RIPE)):
                if query.due > now:
                    break
                if now >= query.started + self._ends[-1]:
                    self._on_end(query)
                else:
                    self._advance(query)
                    self._on_silent(query, now)
        finally:
            self._timers[number] = None
            first = next(iter(phase.values()), None)
            if first is not None:
                self._arm(number, max(first.due, now + GRAIN))

    def _advance(self, query: Query) -> None:
        del self._phases[query.phase][query.key]
        query.phase += 1
        query.due = query.started + self._ends[query.phase]
        self._phases[query.phase][query.key] = self._silent[query.key] = query
        if self._timers[query.phase] is None:
            self._arm(query.phase, query.due)


def moments(retry_after: float, give_up: float) -> tuple[float, ...]:
    """Return the times at which a query is sent again and, last, given up, in seconds after it began.

    From the third on, a time is left out if less than `retry-after` would remain for an answer.
    """
    again = [retry_after * (2 * turn + 1) for turn in range(ASKED_AGAIN)]
    return (
        *(when for when in again[:2] if when < give_up),
        *(when for when in again[2:] if when + retry_after <= give_up),
        give_up,
    )
