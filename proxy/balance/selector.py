"""What the data path asks for a backend, and which class answers for each scheduler.

A selector never changes its members: what changes them builds a new one, which is swapped in by one assignment. It
keeps the weights it was built with. What it reads of a backend while picking are `active` and `elsewhere`, live.

The relay's part of the contract:

    key = hash_key(client) if selector.needs_key else 0
    backend = selector.pick(key, tried)
    backend.active += 1
    if selector.needs_changes:
        selector.changed(backend)

and the same two lines after `active -= 1`, with the selector in force at that time, whichever picked it. After it has
rewritten `elsewhere` of many backends (every 20 ms) it calls `refreshed()` if `needs_changes`. Only schedulers that look
for the least loaded of more backends than they would scan ask for that; for all others it costs one attribute. Once a
second it calls `tick(now)` if `needs_ticks`: only those with a table that expires ask for it. For least-latency, and for
no other, it tells `least_latency.observe` and `failed` what connects and answers took.
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
    """Picks a backend for each query or connection of a service. One thread only."""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Those that serve: usable, weight above 0."""

    @property
    def standbys(self) -> tuple[Backend, ...]:
        """Those that are picked when all that serve are excluded, the best rank first."""

    @property
    def needs_key(self) -> bool:
        """Whether `pick` reads its key; if not, the relay saves computing it."""

    @property
    def needs_changes(self) -> bool:
        """Whether the relay must call `changed` and `refreshed`."""

    @property
    def needs_ticks(self) -> bool:
        """Whether the relay must call `tick`."""

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return a backend that is not in `exclude`, or None when nobody is left.

        `exclude` is what was already tried for this query or connection. A backend that stands by is returned only if
        all that serve are excluded. A pick with an empty `exclude` costs O(1) or O(log n), as each scheduler says;
        `exclude` adds a factor of its own length.
        """

    def changed(self, backend: Backend) -> None:
        """Take note that `active` or `elsewhere` of a backend changed; one that is no member is ignored."""

    def refreshed(self) -> None:
        """Take note that `elsewhere` of any number of members changed: O(n), the same order as writing them."""

    def tick(self, now: float) -> None:
        """Forget what is too old; `now` is monotonic seconds."""


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
"""What builds the schedulers that know the usable backends only; the others are built over the configured ones, or have a memory."""

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
    """Build the selector of a scheduler, by its canonical name, over the usable backends.

    `configured` are all backends of weight above 0, usable or not, and defaults to the usable ones: the hashing
    schedulers lay out their tables over these, so that a verdict moves nobody but the clients of the backend it is
    about. `previous` is the selector that is being replaced, whose tables are taken over where they still hold.
    `rng` chooses where rotations start, so that the workers do not move in step. Backends of weight 0 are left out.
    Raises ValueError for a name that is none.
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
    """Build the selector of a scheduler over the first rank, which serves; the others stand by, in this order.

    No rank is empty. The rest is as for `build`.
    """
    if isinstance(previous, WithStandbys):
        previous = previous.serving
    serving = build(scheduler, ranks[0] if ranks else (), rng, configured=configured, previous=previous)
    if len(ranks) < 2:  # noqa: PLR2004 - one rank, behind which nobody stands by
        return serving
    instead = IN_PLACE_OF.get(scheduler, scheduler)
    return WithStandbys(serving, [Only(*rank) if len(rank) == 1 else build(instead, rank, rng) for rank in ranks[1:]])
