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

Where = tuple[str, int | None]


class Target(Backend):
    """A backend with its address and the place of its counters."""

    def __init__(self, plan: BackendPlan, index: int, layout: Layout) -> None:
        super().__init__(
            plan.name, index, plan.weight, cast("Verdict", plan.state), cast("Admin", plan.admin), plan.tier
        )
        self.slot = plan.slot
        self.cell = layout.backend(plan.slot)
        self.connections: set[Any] = set()  # TCP connections to this backend
        self.former: dict[Any, Where] = {}  # where open connections lead that began before its address changed
        self.failures = 0  # failures of real traffic in a row
        self.failed_at = -math.inf  # time of the last failure
        self.told = -math.inf  # time of the last report of failures to the master
        self.hinted = -math.inf  # time of the last hint, which brings the next probe forward
        self._take(plan)

    def _take(self, plan: BackendPlan) -> None:
        self.address = plan.address
        self.port = plan.port
        self.send_proxy = plan.send_proxy
        self.limit = plan.max_connections
        self.family = socket.AF_INET6 if ":" in plan.address else socket.AF_INET
        self.sources = Sources(plan.source_addresses, self.family)

    def change(self, old: BackendPlan, new: BackendPlan) -> bool:
        """Use changed values for all that begins from now on; return True if it is reached in another way.

        Open connections go on where they are.
        """
        if (old.address, old.port) != (new.address, new.port):
            for connection in self.connections:
                self.former.setdefault(connection, (old.address, old.port))
            self.estimate = self.observed = self.tried = 0.0  # how fast the other address answers says nothing
            self.failures = 0
        self._take(new)
        return (old.address, old.port, old.source_addresses) != (new.address, new.port, new.source_addresses)

    def where(self, item: Any) -> "Where":
        """Return the address and the port, or None for the listener's, that a connection leads to."""
        return self.former.get(item, (self.address, self.port))

    @property
    def usable(self) -> bool:
        """Return True if the backend may get new traffic."""
        return is_usable(self)
