"""Changes the backends of services at run time: `add`, `remove` and `weight`.

- An act concerns this host alone and ends with the daemon: the operator writes lasting changes into the file.
- A backend that is to be removed gets no new clients.  Its UDP sessions move with their next datagram, its connections
  have until drain-timeout; it is gone when nothing is open there any more.
- An added backend begins without a verdict: its first pass lets it serve.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.backends.admin import Admins
from proxy.backends.effective import Running, written
from proxy.backends.errors import FailedError, RefusedError, refuse_to_strand
from proxy.config.diagnostics import ConfigError
from proxy.config.loader import resolve_backend
from proxy.config.model import Backend, BackendKey, Service
from proxy.config.relations import same_server
from proxy.records.timeline import Tell
from proxy.stats.slots import SlotsFullError


@dataclass(frozen=True, slots=True)
class Edit:
    """The author and the time (Unix seconds) of a change."""

    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Removal(Edit):
    """The removal of a backend: it is leaving or gone.  `backend` is what would come back."""

    backend: Backend


class Membership:
    """The backends of a daemon.

    `relisted(service, slots)` is called with a service whose list has changed and the slots that have a new owner,
    `reweighed(key)` with a backend whose weight has changed.  `stranded(keys)` returns the services that no backend
    could serve without these, `active(key)` how much a backend has open, `leads_back(service)` the backends of a
    changed service that are listeners of this host, with the reasons.
    """

    def __init__(
        self,
        running: Running,
        admins: Admins,
        tell: Tell,
        *,
        relisted: Callable[[str, Collection[int]], None],
        reweighed: Callable[[BackendKey], None],
        stranded: Callable[[Collection[BackendKey]], Collection[str]],
        active: Callable[[BackendKey], int],
        leads_back: Callable[[Service], Mapping[str, str]],
    ) -> None:
        self._running = running
        self._admins = admins
        self._tell = tell
        self._relisted = relisted
        self._reweighed = reweighed
        self._stranded = stranded
        self.active = active
        self._leads_back = leads_back
        self._added: dict[BackendKey, Edit] = {}
        self._removed: dict[BackendKey, Removal] = {}  # gone or leaving
        self._weights: dict[BackendKey, Edit] = {}

    @property
    def edits(self) -> int:
        """The number of changes against the file."""
        return len(self.rows())

    @property
    def added(self) -> Collection[BackendKey]:
        """The backends that are not in the file."""
        return self._added.keys()

    def look(self, now: float) -> None:
        """Remove the leaving backends that have nothing open any more; `now` in monotonic seconds."""
        left = {key: None for key in self._removed if self._admins.has_left(key, now)}
        for name in dict.fromkeys(key[0] for key in left):
            service = self._running.services[name]
            self._list(service, [one for one in service.backends if (name, one.name) not in left])
        for key in left:
            self._weights.pop(key, None)
            self._running.weighed.discard(key)
            added = self._added.pop(key, None) is not None
            if added:
                del self._removed[key]  # it was never in the file, so its absence is no change
            self._admins.gone(key, forever=added)
            self._tell("admin", written(key), "removed: nothing is open any more")

    # -- what operators ask for

    def add(self, service: Service, address: str, weight: int | None, edit: Edit) -> tuple[BackendKey, bool]:
        """Add a backend at an address, with a weight if told; one that was removed comes back.

        Returns whose key it has, and whether anything has changed.  Raises RefusedError where another weight is wanted
        of one that is there, or it is a listener of this host, FailedError where there is no room.
        """
        known = {one.name: one for one in service.backends}
        known |= {key[1]: one.backend for key, one in self._removed.items() if key[0] == service.name}
        backend = known.get(address) or self._resolved(service.name, address)
        twin = next((one for one in known.values() if same_server(one, backend, service.listeners)), None)
        key = (service.name, backend.name if twin is None else twin.name)
        if key in self._removed:
            self._bring_back([key], f"by {edit.by}")
            if weight is not None:
                self._weigh(key, weight, edit)
        elif twin is None:
            if weight is not None:
                backend = backend.model_copy(update={"weight": weight})
            self._refuse_loop(service, backend)
            self._list(service, [*service.backends, backend])
            self._added[key] = edit
            text = f"added with weight {backend.weight}, by {edit.by}"
            self._tell("admin", written(key), text, weight=backend.weight, by=edit.by)
        elif weight in {None, twin.weight}:
            return key, False
        else:
            text = f"{written(key)} exists already with weight {twin.weight}: use `steelyard weight` to change it"
            raise RefusedError(text)
        return key, True

    def _refuse_loop(self, service: Service, backend: Backend) -> None:
        """Raise RefusedError if traffic to this backend would come back to this host."""
        listed = service.model_copy(update={"backends": (*service.backends, backend)})
        why = self._leads_back(listed).get(backend.name)
        if why is not None:
            raise RefusedError(why)

    def is_removed(self, service: str, wanted: object) -> bool:
        """Returns True if a backend of this name or address is gone or leaving."""
        return any(
            key[0] == service and wanted in (one.backend.name, one.backend.address)
            for key, one in self._removed.items()
        )

    def remove(self, service: Service, going: Collection[str], edit: Edit, *, force: bool) -> bool:
        """Remove these backends of a service; False if all are leaving already.

        `force` cuts what they have, and removes even the last that could serve; RefusedError without it.
        """
        staying = {one.name for one in service.backends if not self._admins.leaves((service.name, one.name))} - {*going}
        if not staying:
            raise RefusedError(f"{service.name} would have no backend any more: add another one first")
        keys = [(service.name, name) for name in sorted(going)]
        refuse_to_strand(() if force else self._stranded(keys))
        new = [key for key in keys if force or not self._admins.leaves(key)]
        if new:
            self._retire(new, edit, force=force)
        return bool(new)

    def weigh(self, keys: Collection[BackendKey], weight: int, edit: Edit, *, force: bool = False) -> bool:
        """Give these backends a weight, whatever their probes ask for; False if all have it already.

        RefusedError for 0 where nobody else could serve, without `force`.
        """
        if not weight:
            refuse_to_strand(() if force else self._stranded(keys))
        new = [key for key in keys if self._running.backends[key].weight != weight or key not in self._weights]
        for key in new:
            self._weigh(key, weight, edit)
        return bool(new)

    def rows(self) -> list[dict[str, Any]]:
        """Return what differs from the file, as `overrides` shows it."""
        rows = [self._row(key, "added", one) for key, one in self._added.items()]
        rows += [self._row(key, "removed", one) for key, one in self._removed.items() if key not in self._added]
        rows += [
            self._row(key, f"weight {self._running.backends[key].weight}", one)
            for key, one in self._weights.items()
            if key not in self._removed
        ]
        return rows

    def check_clear(self) -> None:
        """Raise FailedError if too few slots are free for the backends that would come back."""
        back = sum(key not in self._added and not self._admins.leaves(key) for key in self._removed)
        slots = self._running.slots[1]
        if back > (room := slots.capacity - len(slots)):
            raise FailedError(
                f"{back} backends would come back and there is room for {room}: the counters of those that leave, or "
                "have left, are still in use by workers; a restart makes room for more"
            )

    def clear(self, edit: Edit) -> None:
        """Restore the backends and weights of the file; added backends leave.

        Raises FailedError if there are too few slots: see `check_clear`.
        """
        for key in list(self._weights):
            if key not in self._removed:
                self._weigh(key, self._own_weight(key), None)
        leaving = [key for key in self._added if not self._admins.leaves(key)]
        if leaving:
            self._retire(leaving, edit, force=False)
        self._bring_back([key for key in self._removed if key not in self._added], f"overrides cleared by {edit.by}")

    # -- inside

    def _resolved(self, service: str, address: str) -> Backend:
        try:
            return resolve_backend(self._running.file, service, address)
        except ConfigError as error:
            raise RefusedError("; ".join(one.text for one in error.diagnostics)) from None

    def _retire(self, keys: Collection[BackendKey], edit: Edit, *, force: bool) -> None:
        for key in keys:
            left = self.active(key)
            how = "{left} open, cut now" if force else f"{left} open, may finish until drain-timeout"
            how = how if left else "nothing is open"
            self._tell("admin", written(key), f"to be removed, by {edit.by}: {how}", by=edit.by)
            self._removed[key] = Removal(edit.by, edit.at, self._filed(key) or self._running.backends[key])
        self._admins.retire(keys, edit.by, force=force)

    def _bring_back(self, keys: Collection[BackendKey], why: str) -> None:
        """Restore removed backends as they are in the file; those that are still leaving simply stay."""
        still = [key for key in keys if self._admins.leaves(key)]
        if still:
            self._admins.stays(still)
        for key in still:
            self._back(key, why)
            if key in self._weights:
                self._weigh(key, self._own_weight(key), None)
        gone = [key for key in keys if key not in still]
        for name in dict.fromkeys(key[0] for key in gone):
            service = self._running.services[name]
            back = [key for key in gone if key[0] == name]
            self._list(service, [*service.backends, *(self._removed[key].backend for key in back)])
            for key in back:
                self._back(key, why)

    def _back(self, key: BackendKey, why: str) -> None:
        del self._removed[key]
        self._tell("admin", written(key), f"no longer to be removed, {why}")

    def _list(self, service: Service, backends: Collection[Backend]) -> None:
        """Give a service these backends, in the file's order, which decides between equals, and then as they were added."""
        filed = {one.name: at for at, one in enumerate(self._filed_service(service.name).backends)}
        backends = sorted(backends, key=lambda one: filed.get(one.name, len(filed)))
        try:
            slots = self._running.replace(service.model_copy(update={"backends": tuple(backends)}))
        except SlotsFullError as error:
            raise FailedError(str(error)) from None
        self._relisted(service.name, slots)

    def _weigh(self, key: BackendKey, weight: int, edit: Edit | None) -> None:
        """Give a backend this weight; `edit` None: its own again."""
        service = self._running.services[key[0]]
        backends = [
            one.model_copy(update={"weight": weight}) if one.name == key[1] else one for one in service.backends
        ]
        self._running.replace(service.model_copy(update={"backends": tuple(backends)}))
        self._weights.pop(key, None)
        self._running.weighed.discard(key)
        if edit is not None:
            self._weights[key] = edit
            self._running.weighed.add(key)
        by = f"by {edit.by}" if edit is not None else "its own again"
        self._tell("admin", written(key), f"weight {weight}, {by}", weight=weight)
        self._reweighed(key)

    def _filed_service(self, name: str) -> Service:
        return next(one for one in self._running.file.services if one.name == name)

    def _filed(self, key: BackendKey) -> Backend | None:
        """Return a backend as the file has it, None for one that was added."""
        return next((one for one in self._filed_service(key[0]).backends if one.name == key[1]), None)

    def _own_weight(self, key: BackendKey) -> int:
        return (self._filed(key) or self._running.backends[key]).weight

    def _row(self, key: BackendKey, act: str, edit: Edit) -> dict[str, Any]:
        listed = key in self._running.backends
        return {
            "service": key[0],
            "backend": key[1],
            "act": act,
            "admin": self._admins.state(key) if listed else None,
            "by": edit.by,
            "reason": None,
            "at": edit.at,
            "saved": False,
            "active": self.active(key) if listed else 0,
        }
