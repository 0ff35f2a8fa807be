"""One service in one worker: its backends, the current selector, and the place of its counters."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Literal, cast

from proxy.balance import least_latency, names
from proxy.balance.hashing import hash_key
from proxy.balance.pool import Pool
from proxy.relay.capacity import Capacity
from proxy.relay.clients.access import Access
from proxy.relay.native.memo import Memo
from proxy.relay.native.rates import Rate, Rates
from proxy.relay.native.siblings import Siblings
from proxy.relay.native.traffic import Traffic
from proxy.relay.plan import ServicePlan
from proxy.relay.target import Target
from proxy.stats.layout import (
    SERVICE_REFUSED_LIMIT,
    SERVICE_REFUSED_NO_BACKEND,
    Layout,
)

if TYPE_CHECKING:
    from proxy.balance.backend import Admin, Verdict
    from proxy.relay.observer import EndObserver
    from proxy.relay.sockets.address import Client
    from proxy.relay.sockets.transparent import Stock

Hint = Callable[[int, int], None]
"""Called with (service slot, backend slot) when real traffic failed on a backend."""

Failing = Callable[[int, int, int], None]
"""Called with (service slot, backend slot, failures) when a backend has failed often enough in a row to be ejected."""

Change = tuple[int, int, str, str]
"""(service slot, backend slot, verdict, admin) as the master sends it."""


Moved = Literal["down", "ejected", "up", "standby", "maint"]
"""Why a backend moved: its verdict is down; real traffic fails on it; it has become usable; better backends serve
again; the operator has put it into maintenance."""


class Service(Traffic):
    """The state that all listeners of one service share in this worker."""

    stock: "Stock | None" = None
    """The transparent sockets; None if the service is not transparent."""
    HINT_PAUSE = 0.1  # s between two hints about one backend

    limited = False
    """True if a backend is limited."""

    def __init__(
        self,
        plan: ServicePlan,
        layout: Layout,
        cells: "memoryview[int]",
        rng: Random,
        hint: Hint,
        now: Callable[[], float],
        siblings: Siblings | None = None,
        rates: Rates | None = None,
        failing: Failing | None = None,
        log: "EndObserver | None" = None,
    ) -> None:
        super().__init__(cells, layout.service(plan.slot))
        self.plan = plan
        self.log = log
        self.targets = tuple(Target(backend, index, layout) for index, backend in enumerate(plan.backends))
        self.by_slot = {target.slot: target for target in self.targets}
        self._layout = layout
        self.access = Access(plan.allow, plan.deny)
        self._rng = rng
        self.pool = Pool(self.targets, plan.scheduler, rng)
        self.selector = self.pool.selector()
        # Whether the scheduler needs the durations of connects and answers.
        self.timed = plan.scheduler == names.LEAST_LATENCY
        self._siblings = siblings or Siblings()
        self._limit()
        # The engine sets `persistence` where clients keep their backends.  `keeper` is the same, and stays when that is
        # switched off: connections that hold a template give it back there.
        self._rates = rates
        self._know()
        self._failing = failing
        # `epoch` counts changes of verdicts and admin states: a remembered choice may be wrong after each.
        self._hint = hint
        self.now = now

    def picker(self, route: bytes, client: "Client") -> tuple[int, Callable[[tuple[Target, ...]], Target | None]]:
        """Return the key of a client's template (0: none), and a function that picks its backend, none of those given."""
        key = self.key(route, client) if self.selector.needs_key else 0
        if self.persistence is None:
            return 0, partial(self.pick, key)
        sticky = self.persistence.key(str(client[0]))
        return sticky, partial(self.persistence.pick, sticky, key)

    def rate(self, transport: Literal["tcp", "udp"]) -> Rate | None:
        """Return the limit of each client's rate over a transport; None if there is none."""
        rate = self.plan.limits.rate
        return Rate(self._rates, rate, self.plan.slot, transport) if rate and self._rates is not None else None

    def why_nobody(self) -> int:
        """Return the cell that counts why the last `pick` returned None: no usable backend, or no free slot."""
        crowded = self.capacity is not None and self.capacity.full is not None
        return SERVICE_REFUSED_LIMIT if crowded else SERVICE_REFUSED_NO_BACKEND

    def took_time(self, target: Target, seconds: float) -> None:
        """Give the scheduler the duration of a connect or an answer; call it only if `timed`."""
        least_latency.observe(target, seconds, self.now())

    def failed(self, target: Target) -> None:
        """Count a failure of real traffic on `target`, and bring its next probe forward."""
        self.hint(target)
        self.erred(target)

    def erred(self, target: Target) -> None:
        """Count a failure of real traffic, and report the backend to the master at most once in `HINT_PAUSE`.

        A success sets `failures` to 0.  One-way traffic has no known successes, so failures that are far apart do not
        add up.
        """
        now = self.now()
        limits = self.plan.limits
        if now - target.failed_at > limits.errors_within:
            target.failures = 0
        target.failed_at = now
        target.failures += 1
        if not limits.errors or target.failures < limits.errors or self._failing is None:
            return
        if now - target.told >= self.HINT_PAUSE:
            target.told = now
            self._failing(self.plan.slot, target.slot, target.failures)
            target.failures = 0

    def hint(self, target: Target) -> None:
        """Bring the next probe of `target` forward (at most one hint in `HINT_PAUSE`)."""
        now = self.now()
        if self.timed:
            least_latency.failed(target, now)
        if now - target.hinted >= self.HINT_PAUSE:
            target.hinted = now
            self._hint(self.plan.slot, target.slot)

    def apply(self, changes: Iterable[tuple[int, str, str]]) -> dict[Moved, list[Target]]:
        """Apply verdicts and admin states, (backend slot, verdict, admin); return which backends moved, and how.

        The new selector is complete before it replaces the old one.  A value that is repeated, or taken back in the
        same call, is no change.
        """
        last = {self.by_slot[slot]: (verdict, admin) for slot, verdict, admin in changes if slot in self.by_slot}
        new = {one: now for one, now in last.items() if (one.verdict, one.admin) != now}
        before = {one: (one.usable, one.verdict, one.admin) for one in new}
        self.pool.update(
            (one.name, cast("Verdict", verdict), cast("Admin", admin)) for one, (verdict, admin) in new.items()
        )
        self.selector = self.pool.selector()
        self.epoch += bool(before)
        return {
            "down": [one for one, (_, was, _) in before.items() if one.verdict == "down" and was != "down"],
            "ejected": [
                one
                for one, (_, was, _) in before.items()
                # A draining backend also gets the verdict `ejected`, so that its sessions leave it; it has not failed.
                if one.verdict == "ejected" and was != "ejected" and one.admin == "ready"
            ],
            "up": [one for one, (was_usable, _, _) in before.items() if one.usable and not was_usable],
            "standby": [
                one for one, (_, was, _) in before.items() if one.verdict in {"standby", "relieved"} and was == "up"
            ],
            "maint": [one for one, (_, _, was) in before.items() if one.admin == "maint" and was != "maint"],
        }

    def change(self, plan: ServicePlan) -> tuple[list[Target], list[Target]]:
        """Take over a changed plan; return the backends that are gone, and those that are reached in another way.

        Backends that stay keep their connections, counters, verdicts and admin states.  The relays must be told
        afterwards (`changed`).
        """
        old, before = self.plan, self.by_slot
        known = {backend.slot: backend for backend in old.backends}
        ranked = [(target, target.weight, target.tier) for target in self.targets]
        targets, moved = [], []
        for index, backend in enumerate(plan.backends):
            target = before.get(backend.slot)
            if target is None:
                target = Target(backend, index, self._layout)
            elif target.change(known[backend.slot], backend):
                moved.append(target)
            target.index, target.weight, target.tier = index, backend.weight, backend.tier
            targets.append(target)
        self.plan = plan
        self.targets = tuple(targets)
        self.by_slot = {target.slot: target for target in targets}
        self._limit()
        if (plan.allow, plan.deny) != (old.allow, old.deny):
            self.access = Access(plan.allow, plan.deny)
        self._know()
        if plan.scheduler != old.scheduler:
            self.pool = Pool(self.targets, plan.scheduler, self._rng)
            self.timed = plan.scheduler == names.LEAST_LATENCY
        elif ranked != [(target, target.weight, target.tier) for target in targets]:
            self.pool.replace(targets)
        self.selector = self.pool.selector()
        self.epoch += 1
        return [target for slot, target in before.items() if slot not in self.by_slot], moved

    def _limit(self) -> None:
        """Begin to claim slots if a backend is limited; when none is any more, `TcpService.tidy` ends it."""
        self.limited = any(target.limit for target in self.targets)
        if self.capacity is None and self.limited:
            self.capacity = Capacity(self, self._siblings)

    def _know(self) -> None:
        """Use the plan's rules for clients."""
        hash_on = self.plan.hash_on
        self.know(
            None if self.access.anybody else Memo(self.access.permits),
            None if hash_on in {"source-port", "listener"} else Memo(_key_of_host),
            hash_on == "query-name",
            hash_on == "source-port",
            self.rate("tcp"),
            self.rate("udp"),
        )

    def weigh(self, changes: Iterable[tuple[int, int]]) -> None:
        """Apply weights, (backend slot, weight)."""
        for slot, weight in changes:
            target = self.by_slot.get(slot)
            if target is not None:
                self.pool.set_weight(target.name, weight)
        self.selector = self.pool.selector()

    def tick(self, now: float) -> None:
        """Let the scheduler drop old values; called about once a second."""
        if self.selector.needs_ticks:
            self.selector.tick(now)

    def refresh(self, elsewhere: Sequence[int]) -> None:
        """Set the number of connections that the other workers have open, one a backend in the plan's order."""
        for target, count in zip(self.targets, elsewhere, strict=True):
            target.elsewhere = count
        if self.selector.needs_changes:
            self.selector.refreshed()


def _key_of_host(host: str) -> int:
    return hash_key(host.encode())
