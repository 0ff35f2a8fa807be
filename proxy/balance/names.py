"""The names of the schedulers: one canonical name each, and ipvsadm's short names as aliases.

The names are those of `ipvsadm -A -s` (ipvsadm(8)); failover, overflow, random-two and least-latency have the names
that other load balancers use. The configuration accepts any name in `SCHEDULERS` or `ALIASES` and keeps the canonical
one, so that status, metrics and the workers see only canonical names.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ROUND_ROBIN: Final = "round-robin"
LEAST_CONNECTIONS: Final = "least-connections"
SHORTEST_EXPECTED_DELAY: Final = "shortest-expected-delay"
NEVER_QUEUE: Final = "never-queue"
SOURCE_HASH: Final = "source-hash"
DESTINATION_HASH: Final = "destination-hash"
MAGLEV: Final = "maglev"
DESTINATION_AFFINITY: Final = "destination-affinity"
DESTINATION_AFFINITY_REPLICATED: Final = "destination-affinity-replicated"
FAILOVER: Final = "failover"
OVERFLOW: Final = "overflow"
RANDOM_TWO: Final = "random-two"
LEAST_LATENCY: Final = "least-latency"

SCHEDULERS: Final[tuple[str, ...]] = (
    ROUND_ROBIN,
    LEAST_CONNECTIONS,
    SHORTEST_EXPECTED_DELAY,
    NEVER_QUEUE,
    SOURCE_HASH,
    DESTINATION_HASH,
    MAGLEV,
    DESTINATION_AFFINITY,
    DESTINATION_AFFINITY_REPLICATED,
    FAILOVER,
    OVERFLOW,
    RANDOM_TWO,
    LEAST_LATENCY,
)
"""Every canonical name, in the order of the documentation."""

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rr": ROUND_ROBIN,
        "wrr": ROUND_ROBIN,
        "lc": LEAST_CONNECTIONS,
        "wlc": LEAST_CONNECTIONS,
        "sed": SHORTEST_EXPECTED_DELAY,
        "nq": NEVER_QUEUE,
        "sh": SOURCE_HASH,
        "dh": DESTINATION_HASH,
        "mh": MAGLEV,
        "lblc": DESTINATION_AFFINITY,
        "lblcr": DESTINATION_AFFINITY_REPLICATED,
        "fo": FAILOVER,
        "ovf": OVERFLOW,
    }
)
"""ipvsadm's short name -> canonical name. All schedulers use weights here, so `rr` and `wrr` are the same."""


def canonical(name: str) -> str | None:
    """Return the canonical name for a name or alias (case matters); None for an unknown one."""
    if name in SCHEDULERS:
        return name
    return ALIASES.get(name)


UNSHARED = frozenset({FAILOVER, OVERFLOW, SOURCE_HASH, DESTINATION_HASH})
"""Schedulers for which slow start is useless: a growing weight would move no client, or many clients at each step."""
