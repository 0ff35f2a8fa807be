"""The configuration in force: the file's with the operators' changes, and the slot of each part's counters.

All parts of the master read it here each time; none keeps a copy of `services` or `backends`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from proxy.balance.names import UNSHARED
from proxy.config.model import Backend, BackendKey, Config, Service
from proxy.stats.slots import Slots, SlotsFullError

STEPS: Final = 10
"""Units of a worker's weight for one unit of the file's, in a service with a slow start or `weight-from`."""


class Running:
    """The configuration in force, `services` by name, `backends` by (service, backend), and the slots of both."""

    def __init__(self, config: Config, services: Slots[str], backends: Slots[BackendKey]) -> None:
        """Give each service and backend a slot; raises SlotsFullError if there are too few."""
        self.file = config
        """The configuration of the file."""
        self.slots = services, backends
        self.config = config
        self.services: Mapping[str, Service] = {}
        self.backends: Mapping[BackendKey, Backend] = {}
        self.scales: Mapping[str, int] = {}
        """By service: units of a worker's weight for one unit of the file's."""
        services.assign(service.name for service in config.services)
        backends.assign(_keys(config.services))
        self.weighed: set[BackendKey] = set()
        """The backends whose weight an operator has set: it overrides the one that a probe asks for."""
        self._look_up()

    def replace(self, service: Service) -> list[int]:
        """Replace the service of the same name; return the slots that now belong to other backends.

        Raises SlotsFullError, and changes nothing, if there is no slot for a new backend.
        """
        services = tuple(service if one.name == service.name else one for one in self.config.services)
        taken = self.slots[1].assign(_keys(services))
        self.config = self.config.model_copy(update={"services": services})
        self._look_up()
        return taken

    def room_for(self, services: Sequence[Service]) -> None:
        """Raise SlotsFullError if `replace_all` would; change nothing."""
        try:
            self.slots[0].check(service.name for service in services)
        except SlotsFullError as error:
            raise SlotsFullError(f"services: {error}") from None
        try:
            self.slots[1].check(_keys(services))
        except SlotsFullError as error:
            raise SlotsFullError(f"backends: {error}") from None

    def replace_all(self, file: Config, services: Sequence[Service]) -> tuple[list[int], list[int]]:
        """Put another file into force, with `services` in place of its own.

        Returns the slots of services and those of backends that have new owners.  Raises SlotsFullError, and changes
        nothing, if there are too few slots.
        """
        self.room_for(services)
        taken = (
            self.slots[0].assign(service.name for service in services),
            self.slots[1].assign(_keys(services)),
        )
        self.file = file
        self.config = file.model_copy(update={"services": tuple(services)})
        self._look_up()
        self.weighed &= self.backends.keys()
        return taken

    def key_at(self, service: int, backend: int) -> BackendKey | None:
        """Return the backend with this slot, if it belongs to the service; None if no backend has the slot any more."""
        key = self.slots[1].key_at(backend)
        return key if key is not None and self.slots[0].key_at(service) == key[0] else None

    def _look_up(self) -> None:
        self.services = {service.name: service for service in self.config.services}
        self.scales = {service.name: scale(service) for service in self.config.services}
        self.backends = {(one.name, backend.name): backend for one in self.config.services for backend in one.backends}


def written(key: BackendKey) -> str:
    """Return a backend's name in events and in health: "dns/10.0.0.11"."""
    return f"{key[0]}/{key[1]}"


def _keys(services: Iterable[Service]) -> list[BackendKey]:
    return [(service.name, backend.name) for service in services for backend in service.backends]


def scale(service: Service) -> int:
    """Return how many units of a worker's weight make one unit of the file's."""
    parts = service.weight_from != "off" or any(backend.slow_start for backend in service.backends)
    return STEPS if parts and service.scheduler not in UNSHARED else 1
