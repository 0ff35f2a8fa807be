"""A backend of a service as a worker sees it."""

import math
import socket
from typing import Any, cast

from proxy.balance.backend import Admin, Backend, Verdict
from proxy.balance.pool import is_usable
from proxy.relay.plan import BackendPlan
from proxy.relay.sockets.sources import Sources
from proxy.stats.layout import Layout

ATTEMPTS = 16
"""The largest number of backends tried for one connection, session or query: a hundred closed ports must not cost a
hundred tries."""


class Target(Backend):
    """A backend with its address and the place of its counters."""

    __slots__ = (
        "address",
        "cell",
        "connections",
        "failed_at",
        "failures",
        "family",
        "hinted",
        "limit",
        "port",
        "send_proxy",
        "slot",
        "sources",
        "told",
    )

    def __init__(self, plan: BackendPlan, index: int, layout: Layout) -> None:
        super().__init__(
            plan.name, index, plan.weight, cast("Verdict", plan.state), cast("Admin", plan.admin), plan.tier
        )
        self.slot = plan.slot
        self.cell = layout.backend(plan.slot)
        self.address = plan.address
        self.port = plan.port
        self.send_proxy = plan.send_proxy
        self.limit = plan.max_connections
        self.family = socket.AF_INET6 if ":" in plan.address else socket.AF_INET
        self.sources = Sources(plan.source_addresses, self.family)
        self.connections: set[Any] = set()  # TCP connections to this backend
        self.failures = 0  # failures of real traffic in a row
        self.failed_at = -math.inf  # time of the last failure
        self.told = -math.inf  # time of the last report of failures to the master
        self.hinted = -math.inf  # time of the last hint, which brings the next probe forward

    @property
    def usable(self) -> bool:
        """Return True if the backend may get new traffic."""
        return is_usable(self)
