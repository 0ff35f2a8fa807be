"""least-connections above the scan limit: a heap of loads that is corrected as late as possible.

Laws:

1. Every backend has one entry in the ranking: its load, or its work, and its turn.
2. The amount of an entry is never above the backend's. So an increase that nobody reports does no harm: the entry is
   corrected when it comes to the top.
3. Of equal loads the backend with the earliest turn is first. After a pick its next turn is later by its price, SCALE /
   weight, as in `least_connections.Line`. Prices are rounded down: shares of idle backends are off by less than 1 in
   10**7, and by about one turn over a sum of the weights. Equal turns are ordered by index.
4. A picked entry stays at the top until its `changed`, or the next call of anything else: the new turn and the new load
   move it once.
"""

from collections.abc import Collection
from random import Random
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.ranking import Ranking
from proxy.balance.trivial import Heedless

SCALE: Final = 1 << 40
"""The price of a turn at weight 1; at the greatest weight it is 2**24, so rounding costs less than 1 in 10**7."""

LATEST: Final = 1 << 60
"""The time at which all turns are made earlier by as much, so that they fit into C integers."""


class Heap(Heedless):
    """Least-connections for any number of backends. A pick and a change are O(log n).

    With `waiting` 1 the new connection counts as well, which makes it shortest-expected-delay, and with `idle_first`
    never-queue.
    """

    __slots__ = ("_idle_first", "_members", "_now", "_picked", "_prices", "_size", "_waiting", "ranking")

    needs_changes = True

    def __init__(
        self, backends: tuple[Backend, ...], rng: Random, *, waiting: int = 0, idle_first: bool = False
    ) -> None:
        super().__init__(backends)
        self._waiting = waiting
        self._idle_first = idle_first
        self._size = size = max(backend.index for backend in backends) + 1
        members = [backends[0]] * size  # in places without an entry as well, which are never first
        weights = [0] * size
        self._prices = [0] * size
        for backend in backends:
            members[backend.index] = backend
            weights[backend.index] = backend.weight
            self._prices[backend.index] = SCALE // backend.weight
        self._members = tuple(members)
        self._now = 0
        self._picked = -1
        self.ranking = Ranking(weights, [rng.randrange(price) if price else 0 for price in self._prices])
        self.refreshed()

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the least loaded backend; of equals, the one whose turn it is."""
        if self._picked >= 0:
            self._place_picked()
        if exclude:
            return self._retry(exclude)
        place = self._settle()
        turn = self.ranking.turn(place)
        if turn > self._now:
            self._now = turn
            if turn > LATEST:
                self.ranking.rewind(turn)
                self._now = 0
        self._picked = place
        return self._members[place]

    def changed(self, backend: Backend) -> None:
        """Note another load."""
        place = backend.index
        if place >= self._size or self._members[place] is not backend:
            return
        if self._picked >= 0:
            self._place_picked()
            if self.ranking.amount(place) == self._amount(backend):
                return
        self.ranking.put(place, self._amount(backend), self.ranking.turn(place))

    def refreshed(self) -> None:
        """Compute all loads again. O(n)."""
        if self._picked >= 0:
            self._place_picked()
        for backend in self.backends:
            self.ranking.write(backend.index, self._amount(backend))
        self.ranking.rank()

    def _amount(self, backend: Backend) -> int:
        load = backend.active + backend.elsewhere
        return load + self._waiting if load or not self._idle_first else 0

    def _settle(self) -> int:
        """Correct the top of the ranking and return its place."""
        while True:
            place = self.ranking.first()
            backend = self._members[place]
            amount = self._amount(backend)
            if amount <= self.ranking.amount(place):
                return place
            self.ranking.put(place, amount, self.ranking.turn(place))

    def _place_picked(self) -> None:
        """Put the entry that was picked last into its place: its next turn is later, and its load may be higher."""
        place = self._picked
        self._picked = -1
        price = self._prices[place]
        self.ranking.put(place, self._amount(self._members[place]), self._now + price)

    def _retry(self, exclude: Collection[Backend]) -> Backend | None:
        """Return the least loaded of the other backends, of equals the one whose turn is next; no turn is used up.

        If retries used up turns while many backends fail, they would use up those of the healthy ones, and every new
        query would go to a failing one.
        """
        while True:
            place = self.ranking.first_but(self._members, exclude)
            if place < 0:
                return None
            backend = self._members[place]
            amount = self._amount(backend)
            if amount <= self.ranking.amount(place):
                return backend
            self.ranking.put(place, amount, self.ranking.turn(place))
