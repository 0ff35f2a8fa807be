"""The routers' rows of the status."""

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.config.model import Config


def rows(config: Config, told: Sequence[Mapping[str, Any]], monotonic: float, wall: float) -> list[dict[str, Any]]:
    """Return the rows for the answer of `Runner.status`, with Unix times."""

    def clock(at: float) -> float:
        return round(wall - (monotonic - at), 3)

    nodes = {
        address: node
        for router in config.vrrp
        for node, addresses in (router.members or {}).items()
        for address in addresses
    }
    found = []
    for one in told:
        peer, change = one["peer"], one["last_change"]
        found.append(
            {
                **one,
                "priority_parts": dict(one["priority_parts"]),
                "since": clock(one["since"]),
                "peer": peer
                and {
                    "node": nodes.get(peer["address"]),
                    "address": peer["address"],
                    "priority": peer["priority"],
                    "last_advert_s": round(monotonic - peer["heard_at"], 3),
                },
                "last_change": change and {**change, "at": clock(change["at"])},
            }
        )
    return found


def unheard(config: Config, states: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return rows for routers whose process does not answer: their last known states."""
    return [
        {
            "name": router.name,
            "state": states.get(router.name, "init"),
            "priority": router.priority,
            "effective_priority": None,
            "priority_parts": {},
            "addresses": list(router.addresses),
            "standby": False,
            "since": None,
            "peer": None,
            "last_change": None,
        }
        for router in config.vrrp
    ]
