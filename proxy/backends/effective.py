"""What is in force on this host: the file's configuration with what operators have changed of it, and where each part counts.

Everybody in the master reads it here, anew each time: `services` and `backends` are never kept by anybody else.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from proxy.balance.names import UNSHARED
from proxy.config.model import Backend, BackendKey, Config, Service
from proxy.stats.slots import Slots

STEPS: Final = 10
"""Units of a worker's weight that one of the file's has where a slow start grows it."""


class Running:
    """The configuration in force, `services` by name, `backends` by (service, backend), and the slots of both."""

    def __init__(self, config: Config, services: Slots[str], backends: Slots[BackendKey]) -> None:
        """Give each part its slot; SlotsFullError where there are too few."""
        self.file = config
        """What the file says."""
        self.slots = services, backends
        self.config = config
        self.services: Mapping[str, Service] = {}
        self.backends: Mapping[BackendKey, Backend] = {}
        self.scales: Mapping[str, int] = {}
        """By service: how many units of its workers' weights are one of the file's."""
        services.assign(service.name for service in config.services)
        backends.assign(_keys(config.services))
        self.weighed: set[BackendKey] = set()
        """Whose weight an operator has given, which holds over what the probe asks for."""
        self._look_up()

    def replace(self, service: Service) -> list[int]:
        """Put a service of the same name in place of one; the slots of backends that changed hands.

        SlotsFullError, with nothing changed, where there is no slot for a new backend.
        """
        services = tuple(service if one.name == service.name else one for one in self.config.services)
        taken = self.slots[1].assign(_keys(services))
        self.config = self.config.model_copy(update={"services": services})
        self._look_up()
        return taken

    def key_at(self, service: int, backend: int) -> BackendKey | None:
        """Return whose backend slot this is, if that is a backend of the service; None where nobody has it any more."""
        key = self.slots[1].key_at(backend)
        return key if key is not None and self.slots[0].key_at(service) == key[0] else None

    def _look_up(self) -> None:
        self.services = {service.name: service for service in self.config.services}
        self.scales = {service.name: scale(service) for service in self.config.services}
        self.backends = {(one.name, backend.name): backend for one in self.config.services for backend in one.backends}


def written(key: BackendKey) -> str:
    """Return a backend as events, and health, call it: "dns/10.0.0.11"."""
    return f"{key[0]}/{key[1]}"


def _keys(services: Iterable[Service]) -> list[BackendKey]:
    return [(service.name, backend.name) for service in services for backend in service.backends]


def scale(service: Service) -> int:
    """Return how many units of a worker's weight are one of the file's."""
    ramps = service.scheduler not in UNSHARED and any(backend.slow_start for backend in service.backends)
    return STEPS if ramps else 1
