"""The slots of a service's limited backends: how many are taken on the whole host, and which client gets the next one.

Laws:
- A worker claims a slot before it uses it (`claims`): no more slots are taken than the backend has.
- The client that has waited longest goes first, whichever worker it is in: a worker leaves one slot free for each
  sibling whose queue has an older head.
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

STALE = 1.0  # s beyond the queue's timeout: an older head is left over from a worker that died


class Waiting(Protocol):
    """Clients that wait for a free slot."""

    def wake(self) -> None:
        """Serve the waiting clients in the next round."""


class Capacity:
    """The slots of one service's backends as one worker sees them; each `active` connection or query takes one.

    `full` is the first backend that the last `pick` would have returned but for a lack of free slots.
    """

    def __init__(self, service: "Service", siblings: Siblings) -> None:
        self.siblings = siblings
        self.full: Target | None = None
        self.queue: Waiting | None = None
        self._service = service
        self._turn = service.cell + TURN_QUEUE

    def pick(self, key: int, tried: Collection["Target"], since: float = math.inf) -> "Target | None":
        """Claim a slot and return its backend, none of `tried`; return None and set `full` if there is no free slot."""
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
            # Standbys replace backends that cannot be reached. For a full backend clients wait.
            without.update(cast("tuple[Target, ...]", selector.standbys))
        while (picked := cast("Target | None", selector.pick(key, without))) is not None:
            if self._claim(picked, ahead):
                return picked
            without.add(picked)
        return None

    def claim(self, target: "Target") -> bool:
        """Claim a slot of this backend, behind all waiting clients; return False if none is free."""
        return self._claim(target, self._ahead(math.inf))

    def unclaim(self, target: "Target") -> None:
        """Give back a claimed slot that was not used; harmless after `took`."""
        self._service.cells[target.cell + BACKEND_ACTIVE] = target.active

    def free(self, target: "Target", ahead: int = 0) -> bool:
        """Return True if the backend has a free slot after `ahead` slots are left for other workers' clients."""
        if not target.limit:
            return True
        taken = target.active + self.siblings.sum(target.cell + BACKEND_ACTIVE)
        return taken + ahead < target.limit

    def freed(self) -> None:
        """Wake the queue: a slot has become free."""
        if self.queue is not None:
            self.queue.wake()

    def _claim(self, target: "Target", ahead: int) -> bool:
        if not target.limit:
            return True
        cell = target.cell + BACKEND_ACTIVE
        return claim(self._service.cells, cell, self.siblings, target.active, target.limit, ahead)

    def _ahead(self, since: float) -> int:
        """Return how many queues have a head that has waited since before `since`; datagrams, which cannot wait, are last."""
        heads = [head for head in self.siblings.each(self._turn) if head]
        if since == math.inf and self._service.cells[self._turn]:
            heads.append(self._service.cells[self._turn])
        if not heads:
            return 0
        oldest = self._service.now() - self._service.plan.limits.queue_timeout - STALE
        return sum(oldest < head / 1e9 < since for head in heads)
