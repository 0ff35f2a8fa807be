"""DNS queries in flight: how long each waits for its answer before it is asked again, and for how long at all.  No I/O.

A query goes through phases, each of which ends a fixed time after the query began: the first one at `retry-after`, each
further one twice that later, the last one at `give-up`.  So each phase is a table in the order in which its queries are
due, and one timer serves it.  A query leaves with its answer, and nothing is left of it: there may be 40,000 of them a
second.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from proxy.relay.dns.message import HEADER, OPCODE

if TYPE_CHECKING:
    from proxy.relay.dns.service import DnsListener
    from proxy.relay.dns.upstream import Upstream
    from proxy.relay.loop.poller import Poller
    from proxy.relay.proxy_header.header import Header
    from proxy.relay.sockets.address import Client
    from proxy.relay.target import Target

Key = tuple[int, "Client", bytes]
"""(listener, client, datagram): a client that asks again from the same port with the same ID means the same query."""

Attempt = tuple["Upstream", int, float]
"""(socket, ID, when it was sent)"""

ASKED_AGAIN = 8  # times at most
GRAIN = 0.005  # s between two looks at one phase
RIPE = 256  # queries handled in one look: thousands may fall silent at once


class Query:
    """One query of one client, until it is answered."""

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
        self.payload = self.twin = message[2:]  # `twin`: queries that have it in common may have one answer in common
        self.subnet = 0  # what it gained by its client's network, which its answer is to lose
        self.told = told  # of whom a PROXY header tells
        self.started = now
        self.due = now
        self.phase = 0
        self.attempts: list[Attempt] = []
        self.unanswered = 0  # how many of these were counted as silent
        self.tried: tuple[Target, ...] = ()
        self.also: list[Query] | None = None  # of other clients, who wait for this one's answer
        self.slot = -1
        self.done = False

    @property
    def is_owed(self) -> bool:
        """Return True if every healthy server answers it: a plain query with a question.

        Servers are free to be silent on what else clients may send: the backend is not to blame then.
        """
        return not self.message[2] & OPCODE and self.end > HEADER


class Inflight:
    """The queries that wait.  `on_silent(query, now)` asks again, `on_end(query)` must finish it."""

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
        self._silent: dict[Key, Query] = {}  # all that are in a later phase
        self._phases: tuple[dict[Key, Query], ...] = (self._fresh, *({} for _ in self._ends[1:]))
        self._armed = [False] * len(self._phases)
        self._poller = poller
        self._on_silent = on_silent
        self._on_end = on_end

    def __len__(self) -> int:
        return len(self._fresh) + len(self._silent)

    def __contains__(self, key: Key) -> bool:
        # Hashing the key costs more than to see that a table is empty.
        return key in self._fresh or (bool(self._silent) and key in self._silent)

    def values(self) -> list[Query]:
        """Return all of them, in a copy: who looks at them may finish them."""
        return [*self._fresh.values(), *self._silent.values()]

    def add(self, query: Query) -> None:
        """Begin to wait."""
        query.due = query.started + self._ends[0]
        self._fresh[query.key] = query
        if not self._armed[0]:
            self._arm(0, query.due)

    def remove(self, query: Query) -> None:
        """It is over."""
        del self._phases[query.phase][query.key]
        if query.phase:
            del self._silent[query.key]

    def _arm(self, number: int, when: float) -> None:
        self._armed[number] = True
        self._poller.at(when, partial(self._look, number))

    def _look(self, number: int, now: float) -> None:
        """Ask again, or give up, whatever of a phase is due."""
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
            self._armed[number] = False
            first = next(iter(phase.values()), None)
            if first is not None:
                self._arm(number, max(first.due, now + GRAIN))

    def _advance(self, query: Query) -> None:
        del self._phases[query.phase][query.key]
        query.phase += 1
        query.due = query.started + self._ends[query.phase]
        self._phases[query.phase][query.key] = self._silent[query.key] = query
        if not self._armed[query.phase]:
            self._arm(query.phase, query.due)


def moments(retry_after: float, give_up: float) -> tuple[float, ...]:
    """Return when a query is asked again, in seconds after it began, and at last when it is given up.

    The third time and those after it need as long for an answer as the first one had.
    """
    again = [retry_after * (2 * turn + 1) for turn in range(ASKED_AGAIN)]
    return (
        *(when for when in again[:2] if when < give_up),
        *(when for when in again[2:] if when + retry_after <= give_up),
        give_up,
    )
