"""The slots of a service's limited backends: how many are taken on the whole host, and who may have the next one.

Laws:
- A slot is claimed before it is used, as `claims` says: never more of them are taken than there are.
- Who has waited longer goes first, in whichever worker: for each sibling whose queue has an older head one slot is left.
"""

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol, cast

from proxy.relay.claims import claim
from proxy.stats.columns import Siblings
from proxy.stats.layout import BACKEND_ACTIVE, TURN_QUEUE

if TYPE_CHECKING:
    from proxy.relay.service import Service
    from proxy.relay.target import Target

STALE = 1.0  # s beyond the queue's timeout after which a sibling's head is no longer believed


class Waiting(Protocol):
    """Clients that wait for a free slot."""

    def wake(self) -> None:
        """Serve those who wait, in the next round."""


class Capacity:
    """The slots of one service's backends as one worker sees them; `active` is what takes one.

    `full` is the first backend that the last `pick` would have taken and found without a free slot.
    """

    def __init__(self, service: "Service", siblings: Siblings) -> None:
        self.siblings = siblings
        self.full: Target | None = None
        self.queue: Waiting | None = None
        self._service = service
        self._turn = service.cell + TURN_QUEUE

    def pick(self, key: int, tried: Collection["Target"], since: float = math.inf) -> "Target | None":
        """Return a backend, none of `tried`, with a slot that is claimed; None, and `full`, where there is none."""
        selector = self._service.selector
        self.full = None
        picked = cast("Target | None", selector.pick(key, tried))
        ahead = self._ahead(since)
        if picked is None or self._claim(picked, ahead):
            return picked
        self.full = picked
        without = {*tried, picked}
        without.update(target for target in self._service.targets if not self.free(target, ahead))
        if picked not in selector.standbys:
            # Those that stand by are there for backends that cannot be reached. A full one is waited for.
            without.update(cast("tuple[Target, ...]", selector.standbys))
        while (picked := cast("Target | None", selector.pick(key, without))) is not None:
            if self._claim(picked, ahead):
                return picked
            without.add(picked)
        return None

    def claim(self, target: "Target") -> bool:
        """Claim a slot of this backend, behind all who wait; whether there was one."""
        return self._claim(target, self._ahead(math.inf))

    def unclaim(self, target: "Target") -> None:
        """Take back a claim that came to nothing; harmless after `took`, which made it true."""
        self._service.cells[target.cell + BACKEND_ACTIVE] = target.active

    def free(self, target: "Target", ahead: int = 0) -> bool:
        """Whether a backend has a free slot beside those that are left for others."""
        if not target.limit:
            return True
        taken = target.active + self.siblings.sum(target.cell + BACKEND_ACTIVE)
        return taken + ahead < target.limit

    def freed(self) -> None:
        """A slot is free."""
        if self.queue is not None:
            self.queue.wake()

    def _claim(self, target: "Target", ahead: int) -> bool:
        if not target.limit:
            return True
        cell = target.cell + BACKEND_ACTIVE
        return claim(self._service.cells, cell, self.siblings, target.active, target.limit, ahead)

    def _ahead(self, since: float) -> int:
        """Return how many queues have a head that waits since before `since`; a datagram, which waits for nothing, is last."""
        heads = [head for head in self.siblings.each(self._turn) if head]
        if since == math.inf and self._service.cells[self._turn]:
            heads.append(self._service.cells[self._turn])
        if not heads:
            return 0
        oldest = self._service.now() - self._service.plan.limits.queue_timeout - STALE
        return sum(oldest < head / 1e9 < since for head in heads)
