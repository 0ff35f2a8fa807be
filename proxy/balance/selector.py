"""The interface by which the data path picks a backend, and the class for each scheduler.

A selector never changes its members: a change builds a new selector, which one assignment puts in place. A selector
keeps the weights it was built with. While picking it reads the backends' live `active` and `elsewhere`.

The relay's part of the contract:

    key = hash_key(client) if selector.needs_key else 0
    backend = selector.pick(key, tried)
    backend.active += 1
    if selector.needs_changes:
        selector.changed(backend)

and the same two lines after `active -= 1`, with the selector that is current then. After the relay has rewritten
`elsewhere` of many backends (every 20 ms), it calls `refreshed()` if `needs_changes`. Only schedulers that keep loads
in a heap need that; for all others it costs one attribute. Once a second the relay calls `tick(now)` if `needs_ticks`,
which only schedulers with expiring tables need. Only for least-latency it calls `least_latency.observe` and `failed`
with the results of connects and answers.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from random import Random
from typing import Final, Protocol

from proxy.balance import expected_delay, least_connections, names, overflow
from proxy.balance.affinity import Affinity, Replicated
from proxy.balance.backend import Backend
from proxy.balance.failover import Failover
from proxy.balance.least_latency import LeastLatency
from proxy.balance.maglev import Maglev
from proxy.balance.random_two import RandomTwo
from proxy.balance.round_robin import RoundRobin
from proxy.balance.source_hash import SourceHash
from proxy.balance.standby import IN_PLACE_OF, WithStandbys
from proxy.balance.trivial import Nobody, Only


class Selector(Protocol):
    """Picks a backend for each query or connection of a service. Not thread-safe."""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends that serve: usable, weight above 0."""

    @property
    def standbys(self) -> tuple[Backend, ...]:
        """The backends that are picked if all serving ones are excluded, the best rank first."""

    @property
    def needs_key(self) -> bool:
        """True if `pick` reads its key; if not, the relay need not compute it."""

    @property
    def needs_changes(self) -> bool:
        """True if the relay must call `changed` and `refreshed`."""

    @property
    def needs_ticks(self) -> bool:
        """True if the relay must call `tick`."""

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return a backend that is not in `exclude`; None if none is left.

        `exclude` has the backends that were tried for this query or connection. A standby is returned only if all
        serving backends are excluded. A pick with an empty `exclude` costs O(1) or O(log n), as each scheduler says;
        `exclude` adds a factor of its length.
        """

    def changed(self, backend: Backend) -> None:
        """Note a change of a backend's `active` or `elsewhere`; a backend that is not a member is ignored."""

    def refreshed(self) -> None:
        """Note changes of any number of members' `elsewhere`: O(n), the same order as writing them."""

    def tick(self, now: float) -> None:
        """Drop old entries; `now` is in monotonic seconds."""


_BUILDERS: Final[Mapping[str, Callable[[tuple[Backend, ...], Random], Selector]]] = {
    names.ROUND_ROBIN: RoundRobin,
    names.LEAST_CONNECTIONS: least_connections.build,
    names.SHORTEST_EXPECTED_DELAY: partial(expected_delay.build, idle_first=False),
    names.NEVER_QUEUE: partial(expected_delay.build, idle_first=True),
    names.RANDOM_TWO: RandomTwo,
    names.FAILOVER: lambda backends, _: Failover(backends),
    names.OVERFLOW: overflow.build,
    names.LEAST_LATENCY: LeastLatency,
}
"""Builders of schedulers that need only the usable backends; the others need the configured ones, or have a memory."""

_AFFINITIES: Final[Mapping[str, type[Affinity]]] = {
    names.DESTINATION_AFFINITY: Affinity,
    names.DESTINATION_AFFINITY_REPLICATED: Replicated,
}


def build(
    scheduler: str,
    backends: Sequence[Backend],
    rng: Random,
    *,
    configured: Sequence[Backend] = (),
    previous: Selector | None = None,
) -> Selector:
    """Build the selector of a scheduler, given by its canonical name, over the usable backends.

    `configured` has all backends of weight above 0, usable or not; by default it is the usable ones. The hashing
    schedulers lay out their tables over these, so that a verdict moves only the clients of its own backend. `previous`
    is the selector to replace, whose valid tables are reused. `rng` chooses where rotations start, so that workers do
    not move in step. Backends of weight 0 are left out. Raises ValueError for an unknown name.
    """
    if scheduler not in names.SCHEDULERS:
        raise ValueError(f"there is no scheduler {scheduler!r}")
    usable = tuple(backend for backend in backends if backend.weight > 0)
    if scheduler in _AFFINITIES:
        return _AFFINITIES[scheduler](usable, rng, previous)
    if not usable:
        return Nobody()
    if scheduler == names.MAGLEV:
        return Maglev(usable, configured or usable, previous if isinstance(previous, Maglev) else None)
    if scheduler in {names.SOURCE_HASH, names.DESTINATION_HASH}:  # they differ in what is hashed: `hash-on`
        return SourceHash(usable, configured or usable)
    if len(usable) == 1:
        return Only(usable[0])
    return _BUILDERS[scheduler](usable, rng)


def build_ranked(
    scheduler: str,
    ranks: Sequence[Sequence[Backend]],
    rng: Random,
    *,
    configured: Sequence[Backend] = (),
    previous: Selector | None = None,
) -> Selector:
    """Build the selector of a scheduler over the first rank, which serves; the others are standbys, in this order.

    No rank is empty. The other arguments are those of `build`.
    """
    if isinstance(previous, WithStandbys):
        previous = previous.serving
    serving = build(scheduler, ranks[0] if ranks else (), rng, configured=configured, previous=previous)
    if len(ranks) < 2:  # noqa: PLR2004 - one rank means no standbys
        return serving
    instead = IN_PLACE_OF.get(scheduler, scheduler)
    return WithStandbys(serving, [Only(*rank) if len(rank) == 1 else build(instead, rank, rng) for rank in ranks[1:]])
