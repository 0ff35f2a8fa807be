"""The pool: every backend of a service with its state, and the selector for the present state.

The pool is the slow path. It changes when a verdict, an admin state or a weight arrives, and then the data path gets a
new immutable selector in one assignment:

    if pool.set_verdict("ns1", "down"):
        service.selector = pool.selector()
"""

from collections.abc import Iterable, Sequence
from random import Random

from proxy.balance.backend import Admin, Backend, Verdict
from proxy.balance.names import FAILOVER
from proxy.balance.selector import Selector, build_ranked

__all__ = ["Admin", "Backend", "Pool", "Verdict"]


class Pool:
    """All backends of one service, in file order; names and indices are unique, indices dense from 0.

    Raises ValueError for a duplicate name, a wrong index, or an unknown scheduler. The setters raise KeyError for a
    backend that is not in the pool, and return True if the next `selector()` will be a new one.
    """

    __slots__ = ("_by_name", "_rng", "_selector", "_stale", "backends", "scheduler")

    def __init__(self, backends: Sequence[Backend], scheduler: str, rng: Random) -> None:
        self.scheduler = scheduler
        self._rng = rng
        self._stale = False
        self._take(backends)
        self._selector = build_ranked(scheduler, self.ranks(), rng, configured=self.configured())

    def _take(self, backends: Sequence[Backend]) -> None:
        by_name = {backend.name: backend for backend in backends}
        if len(by_name) != len(backends):
            raise ValueError("two backends of a pool have the same name")
        if any(backend.index != place for place, backend in enumerate(backends)):
            raise ValueError("the indices of a pool's backends must count from 0 in order")
        self.backends, self._by_name = tuple(backends), by_name

    def replace(self, backends: Sequence[Backend]) -> None:
        """Replace the backends, some of which may stay; raises ValueError like the constructor."""
        self._take(backends)
        self._stale = True

    def __getitem__(self, name: str) -> Backend:
        return self._by_name[name]

    def set_verdict(self, name: str, verdict: Verdict) -> bool:
        """Set a backend's verdict."""
        return self.update([(name, verdict, self._by_name[name].admin)])

    def set_admin(self, name: str, admin: Admin) -> bool:
        """Set a backend's admin state."""
        return self.update([(name, self._by_name[name].verdict, admin)])

    def update(self, changes: Iterable[tuple[str, Verdict, Admin]]) -> bool:
        """Set the verdicts and admin states of many backends, and rank them only once."""
        before = self.ranks()
        for name, verdict, admin in changes:
            backend = self._by_name[name]
            backend.verdict, backend.admin = verdict, admin
        return self._note(self.ranks() != before)

    def set_weight(self, name: str, weight: int) -> bool:
        """Set a backend's weight; with weight 0 it gets no new traffic. Raises ValueError below 0."""
        if weight < 0:
            raise ValueError(f"backend {name}: weight {weight} is below 0")
        backend = self._by_name[name]
        before = backend.weight
        backend.weight = weight
        return self._note(weight != before)

    def usable(self) -> tuple[Backend, ...]:
        """Return the backends that get new traffic, in file order."""
        ranks = self.ranks()
        return ranks[0] if ranks else ()

    def ranks(self) -> tuple[tuple[Backend, ...], ...]:
        """Return the usable backends by rank, each rank in file order: first those that serve, then the standbys.

        The master chooses the backends that serve. The others are ranked in the order in which it would choose them
        next: those that are up before those in reserve, lower tiers before higher ones. In a failover service each
        standby is its own rank, by weight and then file order. Between two verdicts there may be no chosen backend, for
        example after an operator has set the last weight to 0: then the best rank serves.
        """
        single = self.scheduler == FAILOVER
        ranks: dict[tuple[int, ...], list[Backend]] = {}
        for backend in self.backends:
            if is_usable(backend):
                ranks.setdefault(_rank(backend, single), []).append(backend)
        return tuple(tuple(ranks[rank]) for rank in sorted(ranks))

    def configured(self) -> tuple[Backend, ...]:
        """Return all backends of weight above 0, whatever their state: the stable base of the hashing schedulers."""
        return tuple(backend for backend in self.backends if backend.weight > 0)

    def selector(self) -> Selector:
        """Return the selector for the present state; the same object until a change affects its picks."""
        if self._stale:
            self._selector = build_ranked(
                self.scheduler, self.ranks(), self._rng, configured=self.configured(), previous=self._selector
            )
            self._stale = False
        return self._selector

    def _note(self, changed: bool) -> bool:
        self._stale = self._stale or changed
        return self._stale


def is_usable(backend: Backend) -> bool:
    """Return True if a backend may get traffic: not down, unknown or ejected; admin state ready; weight above 0."""
    return backend.verdict not in {"down", "unknown", "ejected"} and backend.admin == "ready" and backend.weight > 0


def _rank(backend: Backend, single: bool) -> tuple[int, ...]:
    """Return the sort key of a usable backend's rank; `single` makes each standby its own rank."""
    if backend.verdict == "up":
        return (0,)
    own = 1 if backend.verdict == "standby" else 2
    return (own, backend.tier, -backend.weight, backend.index) if single else (own, backend.tier)
