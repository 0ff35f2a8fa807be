"""The routers' rows of the status."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from proxy.config.model import Config
from proxy.moments import rfc3339
from proxy.status.schema import RouterStatus

_FAMILIES: Final = (4, 6)

Standby = Mapping[str, tuple[float | None, str]]
"""By the name of a router in standby: since when (Unix seconds; None: before the start), and why."""


def rows(
    config: Config,
    told: Sequence[Mapping[str, Any]],
    counters: Mapping[str, Mapping[str, int]],
    standby: Standby,
    monotonic: float,
    wall: float,
) -> list[RouterStatus]:
    """Return the rows for the answers of `Runner.status` and `Runner.counters`, with times as RFC 3339 has them."""

    def clock(at: float) -> str:
        return rfc3339(max(0.0, wall - (monotonic - at)))

    nodes = {
        address: node
        for router in config.vrrp
        for node, addresses in (router.members or {}).items()
        for address in addresses
    }
    interfaces = {router.name: router.interface for router in config.vrrp}
    found: list[RouterStatus] = []
    for one in told:
        peer, change = one["peer"], one["last_change"]
        last: Any = change and {**change, "at": clock(change["at"])}
        since, reason = standby.get(one["name"], (None, None)) if one["standby"] else (None, None)
        found.append(
            {
                "name": one["name"],
                "state": one["state"],
                "priority": one["priority"],
                "effective_priority": one["effective_priority"],
                "priority_parts": dict(one["priority_parts"]),
                "addresses": list(one["addresses"]),
                "standby": one["standby"],
                "standby_since": rfc3339(since),
                "standby_reason": reason,
                "since": clock(one["since"]),
                "peer": None
                if peer is None
                else {
                    "node": nodes.get(peer["address"]),
                    "address": peer["address"],
                    "priority": peer["priority"],
                    "last_advert_s": round(monotonic - peer["heard_at"], 3),
                },
                "last_change": last,
                "counters": _counters(one["name"], interfaces.get(one["name"], ""), counters),
            }
        )
    return found


def _counters(name: str, interface: str, counters: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Return the counters of both IP versions of a router, of its interface's sockets, and of the kernel's changes."""
    found: Counter[str] = Counter()
    for family in _FAMILIES:
        found.update(counters.get(f"{name}/{family}", {}))
        found.update({f"socket_{key}": count for key, count in counters.get(f"{interface}/{family}", {}).items()})
    found.update({f"kernel_{key}": count for key, count in counters.get("kernel", {}).items()})
    return dict(sorted(found.items()))


def unheard(config: Config, states: Mapping[str, str], standby: Standby) -> list[RouterStatus]:
    """Return rows for routers whose process does not answer: their last known states."""
    found: list[RouterStatus] = []
    for router in config.vrrp:
        since, reason = standby.get(router.name, (None, None))
        state: Any = states.get(router.name, "init")
        found.append(
            {
                "name": router.name,
                "state": state,
                "priority": router.priority,
                "effective_priority": None,
                "priority_parts": {},
                "addresses": list(router.addresses),
                "standby": router.name in standby,
                "standby_since": rfc3339(since),
                "standby_reason": reason,
                "since": None,
                "peer": None,
                "last_change": None,
                "counters": {},
            }
        )
    return found
