"""A backend as the schedulers see it: its name, weight, state and load."""

from typing import Literal

Verdict = Literal["up", "down", "reserve", "standby", "relieved", "ejected", "unknown"]
"""A backend's state as the master reports it to workers.

- "up": it serves.
- "standby": its probes pass, but better backends serve.
- "reserve": its probes put it in reserve.
- "relieved": its probes put it in reserve, and it served until better backends returned.
- "ejected": it is left out for a while because real traffic fails on it. It keeps its connections. UDP sessions leave
  it with their next datagram.

Backends in "standby", "reserve" and "relieved" keep their connections, and get new ones only if no serving backend can
be reached.
"""
Admin = Literal["ready", "drain", "maint"]


class Backend:
    """One backend of one service, the same object for the life of a worker's configuration.

    `index` is its place in the file, dense from 0 within the service. `weight` is the current weight, an integer >= 0.
    `tier` orders the standbys. `active` counts this worker's connections, sessions or pending queries on it,
    `elsewhere` those of all other workers; the relay writes both. Only the `Pool` changes `verdict`, `admin` and
    `weight`, because a change may need a new selector. `estimate` (s; 0: none yet), `observed` and `tried` (monotonic s)
    belong to `least_latency`, and outlive its selectors.
    """

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
        self.estimate = self.observed = self.tried = 0.0

    def __repr__(self) -> str:
        return f"<Backend {self.name} weight {self.weight} {self.verdict} {self.admin} active {self.active}>"
