"""How many connections, sessions and queries are open now, summed over all workers."""

from collections.abc import Collection

from proxy.backends.effective import Running
from proxy.config.model import BackendKey
from proxy.stats.columns import Columns
from proxy.stats.layout import BACKEND_ACTIVE, SERVICE_INFLIGHT, SERVICE_SESSIONS


class Counts:
    """Reads the workers' counters by the names of the configuration in force."""

    def __init__(self, running: Running, columns: Columns) -> None:
        self._running = running
        self._columns = columns

    def active(self, key: BackendKey) -> int:
        """Return how many connections, sessions and queries a backend has."""
        return self._columns.sum(self._columns.layout.backend(self._running.slots[1][key]) + BACKEND_ACTIVE)

    def inflight(self, service: str) -> int:
        """Return how many queries of a service have no answer yet."""
        return self._columns.sum(self._cell(service) + SERVICE_INFLIGHT)

    def opened_through(self, routers: Collection[str]) -> int:
        """Return how many connections and sessions the services have open that listen on addresses of these routers."""
        return sum(
            self._columns.sum(self._cell(service.name) + SERVICE_SESSIONS)
            for service in self._running.config.services
            if any(listener.vrrp in routers for listener in service.listeners)
        )

    def _cell(self, service: str) -> int:
        return self._columns.layout.service(self._running.slots[0][service])
