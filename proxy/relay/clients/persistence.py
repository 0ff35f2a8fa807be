"""Persistence: a client's network keeps its backend until some time after its last connection, session or query.

As with ipvsadm's persistence templates, the scheduler chooses a backend for the first one, and the following ones go
there too. All workers of a host share the templates, in memory of the master that they map, so that templates outlive
workers. If a template's backend does not serve (down, draining, in maintenance, of weight 0, gone, or a standby) or was
tried just now, the template moves to the scheduler's next choice.

If two workers choose for one client at the same moment, a lock on the bucket makes them agree. It is an open file
description lock (fcntl(2)), which the kernel releases when a worker dies. A worker does not wait for it: after some
tries it goes on without the lock.
"""

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from proxy.relay.clients.keys import ClientKeys
from proxy.relay.clients.store import Store
from proxy.relay.clients.templates import LONGEST
from proxy.relay.native.memo import Memo
from proxy.relay.plan import PersistencePlan, ServicePlan
from proxy.stats.layout import SERVICE_PERSISTED, SERVICE_PERSISTENCE_EVICTED, SERVICE_PERSISTENCE_UNLOCKED

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.balance.selector import Selector
    from proxy.relay.native.poller import Poller
    from proxy.relay.native.timers import Timer
    from proxy.relay.target import Target

    Pick = Callable[[int, tuple[Target, ...]], Target | None]


RENEWALS: Final = 3  # times in `timeout` that the template of a client with open connections is renewed
RENEWED_AT_ONCE: Final = 256
RENEWAL_PAUSE: Final = 0.005  # s between two lots of that size


class Chooser(Protocol):
    """The part of a service that persistence needs; it is a `Traffic`."""

    plan: "ServicePlan"
    selector: "Selector"
    by_slot: "dict[int, Target]"

    def count(self, cell: int) -> None:
        """Count one more in a cell of the service."""

    def pick(self, key: int, tried: "tuple[Target, ...]") -> "Target | None":
        """Claim a slot of the scheduler's choice and return that backend; None if no backend is left."""

    def claim(self, target: "Target") -> bool:
        """Claim a slot of this backend; return False if none is free."""

    def unclaim(self, target: "Target") -> None:
        """Give back a claimed slot that was not used."""


class Persistence:
    """The templates of one service in one worker."""

    def __init__(self, plan: PersistencePlan, service: "Chooser", store: Store, poller: "Poller") -> None:
        self._service = service
        self._store = store
        self._templates = store.templates
        self._poller = poller
        self._take(plan)
        self._selector = service.selector
        self._members = frozenset(service.selector.backends)
        self._held: dict[int, int] = {}  # how many connections and sessions of a key are open here
        self._renewing: list[int] = []
        self._timer: Timer | None = None

    def _take(self, plan: PersistencePlan) -> None:
        self._timeout = min(plan.timeout, LONGEST)
        keys = ClientKeys(self._store.secret, plan.ipv4_prefix, plan.ipv6_prefix)
        self.key: Callable[[str], int] = partial(keys.of, self._service.plan.slot)
        """Return the key of a client's network in this service; its secret keeps attackers from aiming at one bucket."""
        self.keys = Memo(self.key)  # for C

    def change(self, plan: PersistencePlan) -> None:
        """Use another timeout or other prefixes from now on; the templates of open connections get the new timeout."""
        self._take(plan)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._poller.at(self._poller.now, self._renew_all)

    def pick(
        self, sticky: int, key: int, tried: "tuple[Target, ...]", otherwise: "Pick | None" = None
    ) -> "Target | None":
        """Return the backend of the client whose network has the key `sticky`.

        `key` and `tried` are for the scheduler, which `otherwise` (by default `Service.pick`) asks if the client has no
        template, or if its backend has no free slot; then the template stays.
        """
        service = self._service
        now = self._poller.now
        kept = self._kept(sticky, tried, now)
        if kept is not None:
            if not service.claim(kept):
                return service.pick(key, tried) if otherwise is None else otherwise(key, tried)
            service.count(SERVICE_PERSISTED)
            return kept
        target = service.pick(key, tried) if otherwise is None else otherwise(key, tried)
        if target is None:
            return None
        with self._store.locked(self._templates.bucket(sticky)) as held:
            if not held:
                service.count(SERVICE_PERSISTENCE_UNLOCKED)
            kept = self._kept(sticky, tried, now)  # another worker may have chosen just now
            if kept is not None:
                if kept is target or not service.claim(kept):
                    return target
                service.unclaim(target)
                return kept
            if self._templates.put(sticky, target.slot, now, now + self._timeout):
                service.count(SERVICE_PERSISTENCE_EVICTED)
        return target

    def peek(self, sticky: int) -> "Target | None":
        """Return the backend of a valid template without renewing it."""
        return self._found(sticky, (), self._poller.now)

    def hold(self, sticky: int) -> None:
        """Keep a client's template valid while its connection or session is open."""
        self._held[sticky] = self._held.get(sticky, 0) + 1
        if self._timer is None:
            self._timer = self._poller.at(self._poller.now + self._timeout / RENEWALS, self._renew_all)

    def release(self, sticky: int, when: float) -> None:
        """Note the end of a connection or session whose client was last active at `when`."""
        left = self._held[sticky] - 1
        if left:
            self._held[sticky] = left
        else:
            del self._held[sticky]
        self._renew(sticky, when)

    def _kept(self, sticky: int, tried: "tuple[Target, ...]", now: float) -> "Target | None":
        """Return the backend of a valid template, and renew the template."""
        found = self._found(sticky, tried, now)
        if found is None:
            return None
        self._templates.renew(sticky, found.slot, now + self._timeout)
        return found

    def _found(self, sticky: int, tried: "tuple[Target, ...]", now: float) -> "Target | None":
        """Return the backend of a valid template."""
        slot = self._templates.find(sticky, now)
        if slot is None:
            return None
        service = self._service
        if service.selector is not self._selector:
            self._selector = service.selector
            self._members = frozenset(service.selector.backends)
        target = service.by_slot.get(slot)
        if target is None or target not in self._members or target in tried:
            return None
        return target

    def _renew(self, sticky: int, when: float) -> None:
        slot = self._templates.find(sticky, self._poller.now)
        if slot is not None:
            self._templates.renew(sticky, slot, when + self._timeout)

    def _renew_all(self, now: float) -> None:
        """Renew the templates of all clients with open connections or sessions, a lot at a time."""
        if not self._renewing:
            self._renewing = list(self._held)
        lot, self._renewing = self._renewing[-RENEWED_AT_ONCE:], self._renewing[:-RENEWED_AT_ONCE]
        for sticky in lot:
            if sticky in self._held:
                self._renew(sticky, now)
        self._timer = None
        if self._held:
            pause = RENEWAL_PAUSE if self._renewing else self._timeout / RENEWALS
            self._timer = self._poller.at(now + pause, self._renew_all)
