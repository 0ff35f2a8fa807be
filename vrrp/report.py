"""What a runner says of its routers, by name: IPv4 and IPv6 of a name are one to everybody else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from vrrp.events import State
from vrrp.instance import Instance
from vrrp.router import Router

_WORST_FIRST: tuple[State, ...] = ("fault", "init", "backup")


@dataclass(frozen=True, slots=True)
class Moved:
    """A router by name has moved: both IP versions of it.  `priority` is the effective one."""

    name: str
    state: State
    previous: State
    reason: str
    priority: int


class Handover(NamedTuple):
    """What the next process is to know of one router: its state, and when its addresses were refreshed (monotonic)."""

    state: Literal["active", "backup"]
    refreshed_at: float
    sent: int
    """The highest number of our signed adverts."""


def state_of(routers: Iterable[Router]) -> State:
    """Return the state of a name: active when all of its routers are, else the worst of theirs."""
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
