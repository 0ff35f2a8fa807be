"""Changes the backends of services at run time: `add`, `remove` and `weight`.

- An act concerns this host alone and ends with the daemon, unless the operator asks to save it.  It is then saved before
  it is in force.
- A backend that is to be removed gets no new clients.  Its UDP sessions move with their next datagram, its connections
  have until drain-timeout; it is gone when nothing is open there any more.
- An added backend begins without a verdict: its first pass lets it serve.
- What is in force is always the file with the acts laid over it: see `overlay`, also for how another file ends acts.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from proxy.backends.admin import LEAVE, Admins
from proxy.backends.edits import Addition, Edit, Edits, Weighing, parsed
from proxy.backends.effective import Running, written
from proxy.backends.errors import FailedError, RefusedError, refuse_to_strand
from proxy.backends.overlay import Acts, Changed, Ended, laid_over, service_laid_over, surviving, wanted
from proxy.backends.saved import Row, SavedActs
from proxy.config.diagnostics import ConfigError
from proxy.config.loader import resolve_backend
from proxy.config.model import Backend, BackendKey, Config, Service
from proxy.config.relations import same_server
from proxy.records.document import StateError
from proxy.records.timeline import Tell
from proxy.stats.slots import SlotsFullError

PART: Final = "membership"
"""The acts of this module, of those that are saved."""


@dataclass(frozen=True, slots=True)
class Rebase:
    """What another file makes of the acts: see `Membership.rebase`.

    - `services` are to be in force with it.
    - `ended` are the acts that it ends, each with the reason in words.
    - `retired` backends are no longer wanted and drain; `returned` ones were to be removed and stay.
    """

    services: tuple[Service, ...]
    ended: list[tuple[BackendKey, str]]
    retired: list[BackendKey]
    returned: list[BackendKey]
    acts: Acts
    ends: list[Ended]
    before: tuple[Edits, Acts, frozenset[BackendKey]]


@dataclass(frozen=True, slots=True)
class _Step:
    """A change that is decided: the edits after it, and what to do when they are in force."""

    edits: Edits
    put: Callable[[], None]


class Membership:
    """The backends of a daemon.

    `saved` has the acts from before the start.  They are laid over the file at once; `ended` has those that the file has
    ended meanwhile.  `relisted(service, slots)` is called with a service whose list has changed and the slots that have a
    new owner, `reweighed(key)` with a backend whose weight has changed.  `stranded(keys)` returns the services that no
    backend could serve without these, `active(key)` how much a backend has open, `leads_back(config)` the backends of a
    configuration that are listeners of this host, with the reasons.  Raises StateError if a saved act is invalid.
    """

    def __init__(
        self,
        running: Running,
        admins: Admins,
        saved: SavedActs,
        tell: Tell,
        *,
        relisted: Callable[[str, Collection[int]], None],
        reweighed: Callable[[BackendKey], None],
        stranded: Callable[[Collection[BackendKey]], Collection[str]],
        active: Callable[[BackendKey], int],
        leads_back: Callable[[Config], Mapping[BackendKey, str]],
    ) -> None:
        self._running = running
        self._admins = admins
        self._saved = saved
        self._tell = tell
        self._relisted = relisted
        self._reweighed = reweighed
        self._stranded = stranded
        self.active = active
        self._leads_back = leads_back
        self._edits = Edits()
        self.ended: list[tuple[BackendKey, str]] = []
        """The acts from before the start that are not in force, each with the reason in words."""
        self._restore()
        saved.add_part(PART, self._to_save)

    @property
    def edits(self) -> int:
        """The number of changes against the file."""
        return len(self.rows())

    @property
    def added(self) -> Collection[BackendKey]:
        """The backends that are not in the file."""
        return self._edits.added.keys()

    @property
    def acts(self) -> Acts:
        """All that operators have changed, the admin states included."""
        return self._acts(self._edits)

    def look(self, now: float) -> None:
        """Remove the leaving backends that have nothing open any more; `now` in monotonic seconds."""
        left = [key for key in self._admins.leaving if self._admins.has_left(key, now)]
        if not left:
            return
        edits = self._edits.copy()
        for key in left:
            edits.weights.pop(key, None)
            is_filed = self._filed(key) is not None
            if not is_filed:  # it was added, or the file no longer has it: its absence is no change
                edits.added.pop(key, None)
                edits.removed.pop(key, None)
            self._admins.gone(key, forever=not is_filed)
        self._edits = edits
        self._force(key[0] for key in left)
        for key in left:
            self._tell("admin", written(key), "removed: nothing is open any more")

    # -- what operators ask for

    async def add(self, service: str, address: str, weight: int | None, edit: Edit) -> tuple[BackendKey, bool]:
        """Add a backend at an address, with a weight if given; one that was removed comes back.

        Returns its key, and whether anything has changed.  Raises RefusedError if one that is there is to have another
        weight, or if it is a listener of this host; FailedError if there is no room or if it cannot be saved.
        """
        key = self._addition(service, address, weight, edit)[0]
        return key, await self._do(lambda: self._addition(service, address, weight, edit)[1])

    def removed(self, service: str, name: object) -> list[str]:
        """Return the backends of this name or address that are removed: leaving or gone."""
        keys = [key for key in self._edits.removed if key[0] == service]
        return [key[1] for key in keys if name in (key[1], self._own(key).address)]

    async def remove(self, service: str, going: Collection[str], edit: Edit, *, force: bool) -> bool:
        """Remove these backends of a service; returns False if all are leaving already.

        `force` cuts their connections, and removes even the last that could serve.  Raises RefusedError without it, and
        for the last backend of all; FailedError if it cannot be saved.
        """
        return await self._do(lambda: self._removal(service, going, edit, force=force))

    async def weigh(self, keys: Collection[BackendKey], weight: int, edit: Edit, *, force: bool = False) -> bool:
        """Give these backends a weight, whatever their probes ask for; returns False if all have it already.

        Raises RefusedError for 0 if no other could serve, without `force`; FailedError if it cannot be saved.
        """
        return await self._do(lambda: self._weighing(keys, weight, edit, force=force))

    async def clear(self, edit: Edit) -> None:
        """End all acts, admin states included: the file's backends and weights are back, added backends leave.

        Raises FailedError, and changes nothing, if there are too few slots or if it cannot be saved.
        """

        def put() -> None:
            step = self._clearing(edit)
            self._admins.clear(edit.by)
            self._put(step)

        self._clearing(edit)
        await self._saved.clear(put)

    def rows(self) -> list[dict[str, Any]]:
        """Return what differs from the file, as `overrides` shows it."""
        edits = self._edits
        rows = [self._row(key, "added", one) for key, one in edits.added.items()]
        rows += [self._row(key, "removed", one) for key, one in edits.removed.items() if key not in edits.added]
        rows += [
            self._row(key, f"weight {one.weight}", one)
            for key, one in edits.weights.items()
            if key not in edits.removed
        ]
        return rows

    # -- another file

    def rebase(self, new: Config) -> Rebase:
        """Return what another file makes of the acts, without any effect.

        A backend that neither the file nor an act wants any more stays listed while it drains.
        """
        names = {service.name for service in new.services}
        acts, ended = self._surviving(self._edits, new)
        wanted_now = wanted(new, acts)
        listed = {key: one for key, one in self._running.backends.items() if key[0] in names}
        staying = {key: one for key, one in listed.items() if key not in wanted_now}
        return Rebase(
            services=laid_over(new, acts, staying),
            ended=[(one.key, one.text) for one in ended],
            retired=[key for key in staying if not self._admins.leaves(key)],
            returned=[key for key in listed if key in wanted_now and self._admins.leaves(key)],
            acts=acts,
            ends=ended,
            before=self._basis(),
        )

    def is_current(self, rebase: Rebase) -> bool:
        """Returns True if nothing has changed since `rebase` that it depends on: else `rebase` must be called again."""
        return rebase.before == self._basis()

    def _basis(self) -> tuple[Edits, Acts, frozenset[BackendKey]]:
        return self._edits, self.acts, frozenset(self._admins.leaving)

    def commit(self, rebase: Rebase) -> None:
        """Follow another file, which `Running.replace_all` has put into force with `rebase.services`; cannot fail."""
        before, self._edits = self._edits, _kept(self._edits, rebase.acts)
        unweighed = before.weights.keys() - self._edits.weights.keys() & self._running.backends.keys()
        self._note_weights()
        for one in rebase.ends:
            self._tell("admin", written(one.key), one.text)
        for key in rebase.retired:
            self._tell("admin", written(key), f"no longer wanted by the file: {self._left(key, force=False)}")
        for key in rebase.returned:
            self._tell("admin", written(key), "no longer to be removed: the file wants it")
        ended = self._admins.values.keys() - rebase.acts.admins.keys()
        is_saved = self._admins.rebase(ended, retired=rebase.retired, returned=rebase.returned)
        for key in unweighed:
            self._reweighed(key)
        if is_saved or before.to_save() != self._edits.to_save():
            self._saved.keep()

    def state(self) -> list[Row]:
        """Return all acts for a successor, saved or not, those on leaving backends included."""
        leaving = [
            {**row, "spec": self._running.backends[key].model_dump(mode="json", by_alias=True)}
            for key, row in self._admins.leaving_to_hand_over().items()
        ]
        return [*self._admins.acts_to_hand_over(), *self._edits.rows(), *leaving]

    def keep(self) -> None:
        """Save, in the background, that acts from before the start have ended."""
        if self.ended:
            self._saved.keep()

    def _surviving(self, edits: Edits, new: Config) -> tuple[Acts, list[Ended]]:
        """Return the acts that a file does not end, with the added backends as it makes them, and the ends of the others."""
        ended: list[Ended] = []
        services = {service.name for service in new.services}
        added: dict[BackendKey, Backend] = {}
        for key, one in edits.added.items():
            try:
                if key[0] not in services:
                    raise RefusedError("the service is no longer in the file")  # noqa: TRY301 - told as the others
                added[key] = self._resolved(new, key[0], key[1], one.weight)
            except RefusedError as error:
                ended.append(Ended(key, "added", str(error)))
        acts = replace(self._acts(edits), added=added)
        config = new.model_copy(update={"services": laid_over(new, acts, {})})
        for key, why in self._leads_back(config).items() if added else ():
            if added.pop(key, None) is not None:
                ended.append(Ended(key, "added", why))
        acts, more = surviving(replace(acts, removed=acts.removed - {one.key for one in ended}), new)
        return acts, [*ended, *more]

    def _restore(self) -> None:
        """Lay the acts from before the start over the file."""
        rows, file = self._saved.rows, self._running.file
        try:
            edits = parsed(row for row in rows if row["act"] in {"add", "remove", "weight"})
            leaving = {(str(row["service"]), str(row["backend"])): row for row in rows if row["act"] == LEAVE}
            spec = {key: Backend.model_validate(row["spec"]) for key, row in leaving.items()}
            self._admins.take_over(leaving)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"{self._saved.path}: invalid override: {error!r}") from error
        while True:
            acts, ended = self._surviving(edits, file)
            self.ended += [(one.key, one.text) for one in ended]
            staying = {key: one for key, one in spec.items() if key not in wanted(file, acts)}
            services = laid_over(file, acts, staying)
            edits = _kept(edits, acts)
            try:
                self._running.replace_all(file, services)
                break
            except SlotsFullError:
                key, _ = edits.added.popitem()  # the last one: without any there is room for the file
                self.ended.append((key, Ended(key, "added", "the counters have no room for it").text))
        self._edits = edits
        self._note_weights()
        self._admins.restored(self._admins.values.keys() - acts.admins.keys(), staying.keys())

    # -- what is decided

    def _addition(self, name: str, address: str, weight: int | None, edit: Edit) -> tuple[BackendKey, _Step | None]:
        """Return the key of the backend to add, and the change, None if there is none."""
        service = self._service(name)
        known = {one.name: one for one in service.backends if self._is_known((name, one.name))}
        known |= {key[1]: self._own(key) for key in self._edits.removed if key[0] == name}
        backend = known.get(address) or self._resolved(self._running.file, name, address, weight)
        twin = next((one for one in known.values() if same_server(one, backend, service.listeners)), None)
        key = (name, backend.name if twin is None else twin.name)
        if key in self._edits.removed:
            return key, self._coming_back(key, weight, edit)
        if twin is None:
            return key, self._new(key, backend, Addition(edit.by, edit.at, edit.saved, weight=weight, backend=backend))
        if weight not in {None, twin.weight}:
            text = f"{written(key)} exists already with weight {twin.weight}: use `steelyard weight` to change it"
            raise RefusedError(text)
        edits = self._edits.copy()
        if edit.saved and key in edits.added and not edits.added[key].saved:
            edits.added[key] = replace(edits.added[key], saved=True)
            return key, _Step(edits, lambda: self._tell_saved([key], "added", edit))
        return key, None

    def _coming_back(self, key: BackendKey, weight: int | None, edit: Edit) -> _Step:
        edits = self._edits.copy()
        del edits.removed[key]
        lost = edits.weights.pop(key, None)
        if weight is not None:
            filed = self._own(key).weight
            edits.weights[key] = Weighing(edit.by, edit.at, edit.saved, weight=weight, filed=filed)

        def put() -> None:
            if self._admins.leaves(key):
                self._admins.stays([key])
            self._tell("admin", written(key), f"no longer to be removed, by {edit.by}")
            if weight is not None:
                self._tell_weight(key, weight, f"by {edit.by}")
            elif lost is not None:
                self._tell_weight(key, self._own(key).weight, "its own again")

        return self._with_room(_Step(edits, put), key[0])

    def _new(self, key: BackendKey, backend: Backend, addition: Addition) -> _Step:
        edits = self._edits.copy()
        edits.added[key] = addition
        services = self._services(edits, [key[0]])
        why = self._leads_back(self._running.config.model_copy(update={"services": tuple(services)})).get(key)
        if why is not None:
            raise RefusedError(why)

        def put() -> None:
            if self._admins.leaves(key):  # of an earlier file
                self._admins.stays([key])
            text = f"added with weight {backend.weight}, by {addition.by}"
            self._tell("admin", written(key), text, weight=backend.weight, by=addition.by)

        return self._with_room(_Step(edits, put), key[0])

    def _removal(self, name: str, going: Collection[str], edit: Edit, *, force: bool) -> _Step | None:
        service = self._service(name)
        staying = {one.name for one in service.backends if not self._admins.leaves((name, one.name))} - {*going}
        if not staying:
            raise RefusedError(f"{name} would have no backend any more: add another one first")
        keys = [(name, one) for one in sorted(going) if (name, one) in self._running.backends]
        refuse_to_strand(() if force else self._stranded(keys))
        new = [key for key in keys if force or not self._admins.leaves(key)]
        known = self._edits.removed
        to_save = [
            key for key in ((name, one) for one in going) if edit.saved and key in known and not known[key].saved
        ]
        if not new and not to_save:
            return None
        edits = self._edits.copy()
        edits.removed |= {key: replace(known[key], saved=True) for key in to_save}
        edits.removed |= {key: edit for key in new if key not in known and self._is_known(key)}

        def put() -> None:
            self._tell_saved([key for key in to_save if key not in new], "removed", edit)
            for key in new:
                self._tell(
                    "admin", written(key), f"to be removed, by {edit.by}: {self._left(key, force=force)}", by=edit.by
                )
            if new:
                self._admins.retire(new, edit.by, force=force)

        return _Step(edits, put)

    def _weighing(self, keys: Collection[BackendKey], weight: int, edit: Edit, *, force: bool) -> _Step | None:
        keys = [key for key in keys if key in self._running.backends]
        if not weight:
            refuse_to_strand(() if force else self._stranded(keys))
        known = self._edits.weights
        new = [key for key in keys if key not in known or known[key].weight != weight]
        to_save = [key for key in keys if edit.saved and key not in new and not known[key].saved]
        if not new and not to_save:
            return None
        edits = self._edits.copy()
        edits.weights |= {key: replace(known[key], saved=True) for key in to_save}
        edits.weights |= {
            key: Weighing(edit.by, edit.at, edit.saved, weight=weight, filed=self._own(key).weight) for key in new
        }

        def put() -> None:
            self._tell_saved(to_save, f"weight {weight}", edit)
            for key in new:
                self._tell_weight(key, weight, f"by {edit.by}")

        return _Step(edits, put)

    def _clearing(self, edit: Edit) -> _Step:
        before = self._edits
        leaving = [key for key in before.added if not self._admins.leaves(key)]
        added = dict(before.added)
        edits = Edits(added, {key: before.removed.get(key, edit) for key in added})
        back = [key for key in before.removed if key not in added]
        unweighed = [key for key in before.weights if key not in before.removed]

        def put() -> None:
            for key in unweighed:
                self._tell_weight(key, self._own(key).weight, "its own again")
            for key in leaving:
                self._tell(
                    "admin", written(key), f"to be removed, by {edit.by}: {self._left(key, force=False)}", by=edit.by
                )
            if leaving:
                self._admins.retire(leaving, edit.by, force=False)
            still = [key for key in back if self._admins.leaves(key)]
            if still:
                self._admins.stays(still)
            for key in back:
                self._tell("admin", written(key), f"no longer to be removed, overrides cleared by {edit.by}")

        return self._with_room(_Step(edits, put), *{key[0] for key in [*back, *leaving]})

    def _to_save(self) -> list[Row]:
        return self._edits.to_save()

    # -- how it is put into force

    async def _do(self, decide: Callable[[], _Step | None]) -> bool:
        """Save a change and put it into force; returns False if there is none.

        It is decided anew each time something may have happened meanwhile.
        """

        def news() -> dict[str, list[Row]]:
            step = decide()
            return {PART: (self._edits if step is None else step.edits).to_save()}

        def put() -> None:
            step = decide()
            if step is not None:
                self._put(step)

        if decide() is None:
            return False
        await self._saved.commit(news, put)
        return True

    def _put(self, step: _Step) -> None:
        before, self._edits = self._edits, step.edits
        step.put()
        self._force(key[0] for key in _differing(before, step.edits))
        for key in _differing(Edits(weights=before.weights), Edits(weights=step.edits.weights)):
            if key in self._running.backends:
                self._reweighed(key)

    def _force(self, names: Iterable[str]) -> None:
        """Put the lists and the weights of these services into force."""
        self._note_weights()
        acts = self.acts
        for name in dict.fromkeys(names):
            before, after = self._running.services[name], self._listed(name, acts, self._admins.leaves)
            if after.backends == before.backends:
                continue
            slots = self._running.replace(after)
            if [one.name for one in before.backends] != [one.name for one in after.backends]:
                self._relisted(name, slots)

    def _listed(self, name: str, acts: Acts, stays: Callable[[BackendKey], bool]) -> Service:
        """Return a service with the acts, and with the backends in force that stay for a while."""
        keys = [(name, one.name) for one in self._running.services[name].backends]
        staying = {key: self._running.backends[key] for key in keys if stays(key)}
        return service_laid_over(self._filed_service(name), acts, staying)

    def _with_room(self, step: _Step, *names: str) -> _Step:
        """Return the change; raises FailedError if there are too few slots for it."""
        try:
            self._running.room_for(self._services(step.edits, names))
        except SlotsFullError as error:
            raise FailedError(str(error)) from None
        return step

    def _services(self, edits: Edits, names: Collection[str]) -> list[Service]:
        """Return the services in force as they will be: these with other changes, and what they have now still listed."""
        acts = self._acts(edits)
        going = self._running.backends.keys() - wanted(self._running.file, acts)
        return [
            self._listed(one.name, acts, going.__contains__) if one.name in names else one
            for one in self._running.config.services
        ]

    def _note_weights(self) -> None:
        self._running.weighed.clear()
        self._running.weighed.update(self._edits.weights)

    # -- what there is

    def _acts(self, edits: Edits) -> Acts:
        return Acts(
            self._admins.values,
            {key: Changed(one.weight, one.filed) for key, one in edits.weights.items()},
            {key: one.backend for key, one in edits.added.items() if one.backend is not None},
            frozenset(edits.removed),
        )

    @staticmethod
    def _resolved(config: Config, service: str, address: str, weight: int | None) -> Backend:
        """Return what a file makes of one more entry in `backends`; raises RefusedError."""
        try:
            backend = resolve_backend(config, service, address)
        except ConfigError as error:
            raise RefusedError("; ".join(one.text for one in error.diagnostics)) from None
        return backend if weight is None else backend.model_copy(update={"weight": weight})

    def _service(self, name: str) -> Service:
        """Return a service in force; RefusedError if another file has taken it away meanwhile."""
        if name not in self._running.services:
            raise RefusedError(f"{name} is no longer in the file")
        return self._running.services[name]

    def _filed_service(self, name: str) -> Service:
        return next(one for one in self._running.file.services if one.name == name)

    def _filed(self, key: BackendKey) -> Backend | None:
        """Return a backend as the file has it, None for one that it does not have."""
        return next((one for one in self._filed_service(key[0]).backends if one.name == key[1]), None)

    def _is_known(self, key: BackendKey) -> bool:
        """Returns True if the file has a backend or it was added: others are leaving since an earlier file."""
        return key in self._edits.added or self._filed(key) is not None

    def _own(self, key: BackendKey) -> Backend:
        """Return a backend without the weight that an operator has set."""
        added = self._edits.added.get(key)
        backend = self._filed(key) or (None if added is None else added.backend)
        return backend or self._running.backends[key]

    # -- what is told

    def _left(self, key: BackendKey, *, force: bool) -> str:
        left = self.active(key)
        if not left:
            return "nothing is open"
        return f"{left} open, cut now" if force else f"{left} open, may finish until drain-timeout"

    def _tell_weight(self, key: BackendKey, weight: int, why: str) -> None:
        self._tell("admin", written(key), f"weight {weight}, {why}", weight=weight)

    def _tell_saved(self, keys: Collection[BackendKey], what: str, edit: Edit) -> None:
        for key in keys:
            self._tell("admin", written(key), f"{what}: it is saved and survives a restart, by {edit.by}", by=edit.by)

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
            "saved": edit.saved,
            "active": self.active(key) if listed else 0,
        }


def _kept(edits: Edits, acts: Acts) -> Edits:
    """Return the changes that are left in `acts`."""
    return Edits(
        {key: replace(edits.added[key], backend=backend) for key, backend in acts.added.items()},
        {key: one for key, one in edits.removed.items() if key in acts.removed},
        {key: one for key, one in edits.weights.items() if key in acts.weights},
    )


def _differing(one: Edits, other: Edits) -> list[BackendKey]:
    """Return the backends with different changes."""
    pairs: list[tuple[Mapping[BackendKey, Edit], Mapping[BackendKey, Edit]]] = [
        (one.added, other.added), (one.removed, other.removed), (one.weights, other.weights),
    ]  # fmt: skip
    return list(dict.fromkeys(key for a, b in pairs for key in {**a, **b} if a.get(key) is not b.get(key)))
