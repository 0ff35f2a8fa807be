"""A backend as the data path sees it: who it is, its weight, and how busy it is."""

from typing import Any, Literal

Verdict = Literal["up", "down", "reserve", "standby", "relieved", "ejected", "unknown"]
"""What a worker acts on.

- "up" serves.
- "standby": its probes pass, and better backends serve.
- "reserve": its probes put it in reserve.
- "relieved": its probes put it in reserve, and it served until better backends returned.
- "ejected": it is left out for a while because real traffic fails on it. It keeps its connections. UDP sessions leave it
  with their next datagram.

The second, third and fourth keep what they have, and get something new only if no backend that serves can be reached.
"""
Admin = Literal["ready", "drain", "maint"]


class Backend:
    """One backend of one service, the same object for the life of a worker's configuration.

    `index` is its place in the file, dense from 0 within the service. `weight` is the weight in effect, an integer
    >= 0. `tier` orders the backends that stand by. `active` counts this worker's connections, sessions or pending
    queries on it, `elsewhere` those of all other workers; the relay writes both. `attached` is the relay's own record
    (addresses, sockets, counter cells).
    `verdict`, `admin` and `weight` are changed through the `Pool` only, which knows what follows from a change.
    `estimate` (s; 0: none yet), `observed` and `tried` (monotonic s) are `least_latency`'s, and outlive its selectors.
    """

    __slots__ = (
        "active", "admin", "attached", "elsewhere", "estimate", "index", "name", "observed", "tier", "tried", "verdict", "weight",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        index: int,
        weight: int = 1,
        verdict: Verdict = "unknown",
        admin: Admin = "ready",
        tier: int = 0,
    ) -> None:
        if weight < 0:
            raise ValueError(f"backend {name}: weight {weight} is below 0")
        self.name = name
        self.index = index
        self.weight = weight
        self.verdict: Verdict = verdict
        self.admin: Admin = admin
        self.tier = tier
        self.active = 0
        self.elsewhere = 0
        self.attached: Any = None
        self.estimate = self.observed = self.tried = 0.0

    def __repr__(self) -> str:
        return f"<Backend {self.name} weight {self.weight} {self.verdict} {self.admin} active {self.active}>"
