"""Which backends services have, over what the file says: `add`, `remove` and `weight`.

- An act concerns this host alone and ends with the daemon: what is to stay is written into the file.
- A backend that is removed gets nothing new.  Its UDP sessions move with their next datagram, its connections have until
  drain-timeout; it is gone when nothing is open there any more.
- One that is added begins without a verdict: its first pass lets it serve.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.admin import Admins, flag
from proxy.config.diagnostics import ConfigError
from proxy.config.loader import resolve_backend
from proxy.config.model import MOST_WEIGHT, Backend, Service
from proxy.control.naming import find_backends, find_service
from proxy.control.server import Request
from proxy.control.wire import BAD_REQUEST, ControlError
from proxy.events import Tell
from proxy.running import Running, written
from proxy.stats.slots import SlotsFullError
from proxy.stats.snapshot import BackendKey

_WEIGHT: Final = f"weight is a whole number from 0 to {MOST_WEIGHT}"


@dataclass(frozen=True, slots=True)
class Edit:
    """Who has changed something, and when (Unix seconds); `backend` is what was removed."""

    by: str
    at: float
    backend: Backend | None = None


class Membership:
    """The backends of a daemon.

    `relisted(service, slots)` hears whose list is another, and which slots have a new owner; `reweighed(key)` who weighs
    something else; `usable(service)` names who could serve, `active(key)` is how much a backend has open.
    """

    def __init__(
        self,
        running: Running,
        admins: Admins,
        tell: Tell,
        *,
        relisted: Callable[[str, Collection[int]], None],
        reweighed: Callable[[BackendKey], None],
        usable: Callable[[str], Collection[str]],
        active: Callable[[BackendKey], int],
    ) -> None:
        self._running = running
        self._admins = admins
        self._tell = tell
        self._relisted = relisted
        self._reweighed = reweighed
        self._usable = usable
        self._active = active
        self._added: dict[BackendKey, Edit] = {}
        self._removed: dict[BackendKey, Edit] = {}  # gone, or leaving
        self._weights: dict[BackendKey, Edit] = {}

    @property
    def edits(self) -> int:
        """How much differs from the file."""
        return len(self._added) + len(self._removed) + len(self._weights)

    @property
    def added(self) -> Collection[BackendKey]:
        """Backends that are not in the file."""
        return self._added.keys()

    def look(self, now: float) -> None:
        """Take those out that are to leave and have nothing open any more; `now` in monotonic seconds."""
        for key in [key for key in self._removed if self._admins.has_left(key, now)]:
            service = self._running.services[key[0]]
            self._list(service, [one for one in service.backends if one.name != key[1]])
            self._admins.stays(key)
            self._weights.pop(key, None)
            self._running.weighed.discard(key)
            if self._added.pop(key, None) is not None:
                del self._removed[key]  # what was never in the file, and is gone, differs from nothing
            self._tell("admin", written(key), "removed: nothing is open there any more")

    # -- commands

    def add(self, request: Request) -> Mapping[str, Any]:
        """Answer `add`: a backend at `address` for a `service`, with `weight` if told; one that was removed comes back."""
        service = find_service(self._running.services, request.arguments.get("service"))
        address, weight = request.arguments.get("address"), _weight(request)
        keys = [key for key, edit in self._removed.items() if key[0] == service.name and _is(edit.backend, address)]
        there = [one for one in service.backends if _is(one, address)]
        edit = _edit(request)
        if keys:
            for key in keys:
                self._bring_back(key, f"by {edit.by}")
                if weight is not None:
                    self._weigh(key, weight, edit)
        elif not there:
            keys = [self._add(service, address, weight, edit)]
        elif weight in {None, there[0].weight}:
            return self._answer([(service.name, one.name) for one in there], changed=False)
        else:
            name, known = written((service.name, there[0].name)), there[0].weight
            raise ControlError(f"{name} is there already with weight {known}: steelyard weight changes it", BAD_REQUEST)
        return self._answer(keys, changed=True)

    def remove(self, request: Request) -> Mapping[str, Any]:
        """Answer `remove`: a `backend` of a `service`.  `force` cuts what it has, and takes the last that could serve."""
        service = find_service(self._running.services, request.arguments.get("service"))
        wanted, force = request.arguments.get("backend"), flag(request, "force")
        if not any(_is(one, wanted) for one in service.backends) and any(
            key[0] == service.name and _is(edit.backend, wanted) for key, edit in self._removed.items()
        ):
            return self._answer([], changed=False)
        going = {one.name for one in find_backends(service, wanted)}
        staying = {one.name for one in service.backends if not self._admins.leaves((service.name, one.name))} - going
        usable = set(self._usable(service.name))
        if not staying:
            raise ControlError(f"{service.name} would have no backend any more: add another one first", BAD_REQUEST)
        if usable & going and not usable & staying and not force:
            raise ControlError(
                f"nobody else of {service.name} can serve now: --force removes it all the same", BAD_REQUEST
            )
        edit = _edit(request)
        keys = [(service.name, name) for name in sorted(going)]
        new = [key for key in keys if force or not self._admins.leaves(key)]
        for key in new:
            self._retire(key, edit, force=force)
        return self._answer(keys, changed=bool(new))

    def weight(self, request: Request) -> Mapping[str, Any]:
        """Answer `weight`: a `backend` of a `service` has this `weight` from now on, whatever its probe asks for."""
        service = find_service(self._running.services, request.arguments.get("service"))
        weight = _weight(request)
        if weight is None:
            raise ControlError(_WEIGHT, BAD_REQUEST)
        keys = [(service.name, one.name) for one in find_backends(service, request.arguments.get("backend"))]
        new = [key for key in keys if self._running.backends[key].weight != weight or key not in self._weights]
        for key in new:
            self._weigh(key, weight, _edit(request))
        return self._answer(keys, changed=bool(new))

    def rows(self) -> list[dict[str, Any]]:
        """Return what differs from the file, as `overrides` shows it."""
        acts = [("added", self._added), ("removed", self._removed)]
        rows = [self._row(key, act, edit) for act, edits in acts for key, edit in edits.items()]
        rows += [
            self._row(key, f"weight {self._running.backends[key].weight}", one) for key, one in self._weights.items()
        ]
        return rows

    def clear(self, request: Request) -> None:
        """Have the backends again that the file has, with its weights; those that were added leave."""
        edit = _edit(request)
        for key in list(self._weights):
            filed = key not in self._added
            self._weigh(key, self._filed(key).weight if filed else self._running.backends[key].weight, None)
        for key in [key for key in self._removed if key not in self._added]:
            self._bring_back(key, f"overrides cleared by {edit.by}")
        for key in [key for key in self._added if not self._admins.leaves(key)]:
            self._retire(key, edit, force=False)

    # -- inside

    def _add(self, service: Service, address: object, weight: int | None, edit: Edit) -> BackendKey:
        if not isinstance(address, str):
            raise ControlError("address is a text", BAD_REQUEST)
        try:
            backend = resolve_backend(self._running.file, service.name, address)
        except ConfigError as error:
            raise ControlError("; ".join(one.text for one in error.diagnostics), BAD_REQUEST) from None
        if weight is not None:
            backend = backend.model_copy(update={"weight": weight})
        key = (service.name, backend.name)
        self._list(service, [*service.backends, backend])
        self._added[key] = edit
        self._tell(
            "admin",
            written(key),
            f"added with weight {backend.weight}, by {edit.by}",
            weight=backend.weight,
            by=edit.by,
        )
        return key

    def _retire(self, key: BackendKey, edit: Edit, *, force: bool) -> None:
        left = self._active(key)
        how = "what it has is cut" if force else f"{left} open, which may finish until drain-timeout"
        self._tell("admin", written(key), f"to be removed, by {edit.by}: {how}", by=edit.by)
        filed = None if key in self._added else self._filed(key)
        self._removed[key] = Edit(edit.by, edit.at, filed or self._running.backends[key])
        self._admins.retire(key, edit.by, force=force)

    def _bring_back(self, key: BackendKey, why: str) -> None:
        edit = self._removed[key]
        if self._admins.leaves(key):
            self._admins.stays(key)
        elif edit.backend is not None:
            service = self._running.services[key[0]]
            self._list(service, [*service.backends, edit.backend])
        del self._removed[key]
        self._tell("admin", written(key), f"not removed any more, {why}")

    def _list(self, service: Service, backends: Collection[Backend]) -> None:
        """Give a service these backends."""
        try:
            slots = self._running.replace(service.model_copy(update={"backends": tuple(backends)}))
        except SlotsFullError as error:
            raise ControlError(str(error)) from None
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
        by = f"by {edit.by}" if edit is not None else "its own again: overrides cleared"
        self._tell("admin", written(key), f"weight {weight}, {by}", weight=weight)
        self._reweighed(key)

    def _filed(self, key: BackendKey) -> Backend:
        """Return a backend as the file has it."""
        service = next(one for one in self._running.file.services if one.name == key[0])
        return next(one for one in service.backends if one.name == key[1])

    def _row(self, key: BackendKey, act: str, edit: Edit) -> dict[str, Any]:
        listed = key in self._running.backends
        return {
            "service": key[0],
            "backend": key[1],
            "act": act,
            "admin": self._admins.state(key) if listed else "drain",
            "by": edit.by,
            "reason": None,
            "at": edit.at,
            "saved": False,
            "active": self._active(key) if listed else 0,
        }

    def _answer(self, keys: Collection[BackendKey], *, changed: bool) -> dict[str, Any]:
        rows = [
            {
                "service": key[0],
                "backend": key[1],
                "weight": self._running.backends[key].weight,
                "admin": self._admins.state(key),
                "leaving": self._admins.leaves(key),
                "active": self._active(key),
            }
            for key in keys
        ]
        return {"backends": rows, "changed": changed}


def _edit(request: Request) -> Edit:
    return Edit(f"uid {request.uid}", time.time())


def _is(backend: Backend | None, wanted: object) -> bool:
    return backend is not None and wanted in (backend.name, backend.address)


def _weight(request: Request) -> int | None:
    value = request.arguments.get("weight")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_WEIGHT:
        raise ControlError(_WEIGHT, BAD_REQUEST)
    return value
