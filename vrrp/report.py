"""Reports of routers by name: to all other code, IPv4 and IPv6 of a name are one router."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from vrrp.events import State
from vrrp.instance import Instance
from vrrp.router import Router

_WORST_FIRST: tuple[State, ...] = ("fault", "init", "backup")


@dataclass(frozen=True, slots=True)
class Moved:
    """Both IP versions of a router have moved to another state.  `priority` is the effective one."""

    name: str
    state: State
    previous: State
    reason: str
    priority: int


class Handover(NamedTuple):
    """One router for the next process: its state, and when its addresses were refreshed (monotonic seconds)."""

    state: Literal["active", "backup"]
    refreshed_at: float
    sent: int
    """The highest number of our signed adverts."""
    last: dict[str, Any] | None = None
    """Its last change of state, as in the status."""


def state_of(routers: Iterable[Router]) -> State:
    """Return the state of a name: "active" if all of its routers are, else the worst of their states."""
    states = {router.state for router in routers}
    return next((one for one in _WORST_FIRST if one in states), "active")


def status_of(
    pairs: Sequence[tuple[Router, Instance]], state: State, last_change: dict[str, Any] | None
) -> dict[str, Any]:
    """Return a name as `status` shows it; times are monotonic seconds."""
    router, instance = pairs[0]
    peers = [one.peer for one, _ in pairs if one.peer is not None]
    peer = max(peers, key=lambda one: one.heard_at, default=None)
    return {
        "name": instance.settings.name,
        "state": state,
        "priority": instance.settings.priority,
        "effective_priority": min(one.effective_priority for one, _ in pairs),
        "priority_parts": [list(part) for part in router.priority_parts],
        "addresses": list(instance.settings.addresses),
        "standby": any(one.standby for one, _ in pairs),
        "since": last_change["at"] if last_change else router.since,
        "peer": peer and {"address": str(peer.source), "priority": peer.priority, "heard_at": peer.heard_at},
        "last_change": last_change,
    }
