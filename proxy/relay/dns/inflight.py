"""DNS queries in flight: how long each waits for its answer before it is asked again, and for how long at all.  No I/O.

A query goes through phases: `retry-after` in the first, twice that in the second, then what is left until `give-up`.
All queries of a phase wait equally long, so each phase is a table in the order in which its queries are due, and one
timer serves it.  A query leaves with its answer, and nothing is left of it: there may be 40,000 of them a second.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from proxy.relay.dns.message import HEADER

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

GRAIN = 0.005  # s between two looks at one phase
RIPE = 256  # queries handled in one look: thousands may fall silent at once


class Query:
    """One query of one client, until it is answered."""

    __slots__ = (
        "also", "attempts", "client", "done", "due", "end", "key", "listener", "message", "payload", "phase",
        "question", "slot", "started", "subnet", "told", "tried", "twin",
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
        self.tried: tuple[Target, ...] = ()
        self.also: list[Query] | None = None  # of other clients, who wait for this one's answer
        self.slot = -1
        self.done = False


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
        self._fresh: dict[Key, Query] = {}
        self._phases: tuple[dict[Key, Query], ...] = (self._fresh, {}, {})
        self._waits = (retry_after, 2 * retry_after, give_up)
        self._armed = [False] * len(self._phases)
        self._poller = poller
        self._give_up = give_up
        self._on_silent = on_silent
        self._on_end = on_end

    def __len__(self) -> int:
        fresh, again, last = self._phases
        return len(fresh) + len(again) + len(last)

    def __contains__(self, key: Key) -> bool:
        # Hashing the key costs more than to see that a table is empty.
        fresh, again, last = self._phases
        return key in fresh or (bool(again) and key in again) or (bool(last) and key in last)

    def values(self) -> list[Query]:
        """Return all of them, in a copy: who looks at them may finish them."""
        return [query for phase in self._phases for query in phase.values()]

    def add(self, query: Query) -> None:
        """Begin to wait."""
        query.due = query.started + self._waits[0]
        self._fresh[query.key] = query
        if not self._armed[0]:
            self._arm(0, query.due)

    def remove(self, query: Query) -> None:
        """It is over."""
        del self._phases[query.phase][query.key]

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
                if now >= query.started + self._give_up:
                    self._on_end(query)
                else:
                    self._advance(query, now)
                    self._on_silent(query, now)
        finally:
            self._armed[number] = False
            first = next(iter(phase.values()), None)
            if first is not None:
                self._arm(number, max(first.due, now + GRAIN))

    def _advance(self, query: Query, now: float) -> None:
        del self._phases[query.phase][query.key]
        query.phase += 1
        query.due = min(now + self._waits[query.phase], query.started + self._give_up)
        self._phases[query.phase][query.key] = query
        if not self._armed[query.phase]:
            self._arm(query.phase, query.due)
