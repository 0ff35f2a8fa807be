"""The slots of a service's limited backends: how many are taken on the whole host, and which client gets the next one.

Laws:
- A worker claims a slot before it uses it (`native.siblings`): no more slots are taken than the backend has.
- The client that has waited longest goes first, whichever worker it is in: a worker leaves one slot free for each
  sibling whose queue has an older head.

A pick that finds a slot at once takes place in C (`native.traffic.Slots`). What is left is here.
"""

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from proxy.relay.native.traffic import Slots
from proxy.stats.layout import TURN_QUEUE

if TYPE_CHECKING:
    from proxy.relay.native.siblings import Siblings
    from proxy.relay.service import Service
    from proxy.relay.target import Target

STALE = 1.0  # s beyond the queue's timeout: an older head is left over from a worker that died


class Capacity(Slots):
    """The slots of one service's backends as one worker sees them; each `active` connection or query takes one."""

    def __init__(self, service: "Service", siblings: "Siblings") -> None:
        super().__init__(service, siblings)
        self._service = service
        self._turn = service.cell + TURN_QUEUE

    def instead(self, full: "Target", key: int, tried: Collection["Target"], ahead: int) -> "Target | None":
        """Claim a slot of another backend, because the scheduler's choice is full; None if there is no free slot."""
        selector = self._service.selector
        without = {*tried, full}
        without.update(target for target in self._service.targets if not self.free(target, ahead))
        if full not in selector.standbys:
            # Standbys replace backends that cannot be reached. For a full backend clients wait.
            without.update(cast("tuple[Target, ...]", selector.standbys))
        while (picked := cast("Target | None", selector.pick(key, without))) is not None:
            if self.claim_behind(picked, ahead):
                return picked
            without.add(picked)
        return None

    def heads_before(self, since: float) -> int:
        """Return how many queues have a head that has waited since before `since`; datagrams, which cannot wait, are last."""
        heads = [head for head in self.siblings.each(self._turn) if head]
        if since == math.inf and self._service.cells[self._turn]:
            heads.append(self._service.cells[self._turn])
        oldest = self._service.now() - self._service.plan.limits.queue_timeout - STALE
        return sum(oldest < head / 1e9 < since for head in heads)
