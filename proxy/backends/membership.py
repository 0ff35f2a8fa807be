"""Changes the backends of services at run time: `add`, `remove` and `weight`.

- An act concerns this host alone and ends with the daemon, unless the operator asks to save it.  It is then saved before
  it is in force.
- A backend that is to be removed gets no new clients.  Its UDP sessions move with their next datagram, its connections
  have until drain-timeout; it is gone when nothing is open there any more.
- An added backend begins without a verdict: its first pass lets it serve.
- Another file ends the acts on what it changes: see `overlay`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from proxy.backends.admin import Admins
from proxy.backends.edits import Addition, Edit, Edits, Weighing
from proxy.backends.effective import Running, written
from proxy.backends.errors import RefusedError, refuse_to_strand
from proxy.backends.lists import Lists
from proxy.backends.overlay import Acts
from proxy.backends.rebase import Rebase, Rebasing, resolved
from proxy.backends.saved import Row, SavedActs
from proxy.config.model import Backend, BackendKey, Config
from proxy.config.relations import same_server
from proxy.moments import rfc3339
from proxy.records.timeline import Tell

PART: Final = "membership"
"""The acts of this module, of those that are saved."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A change that is decided: the edits after it, and what to record and to drain when they are in force."""

    edits: Edits
    put: Callable[[], None]


class Membership:
    """The backends of a daemon.

    `saved` has the acts from before the start, which are laid over the file at once.  `relisted(service, slots)` is called
    with a service whose list has changed and the slots that have a new owner, `reweighed(key)` with a backend whose weight
    has changed.  `stranded(keys)` returns the services that no backend could serve without these, `active(key)` how much a
    backend has open, `leads_back(config)` the backends of a configuration that are listeners of this host, with the
    reasons.  Raises StateError if a saved act is invalid.
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
        self._stranded = stranded
        self.active = active
        self._leads_back = leads_back
        self._lists = Lists(running, admins, relisted, reweighed)
        self._rebasing = Rebasing(running, self._lists, admins, saved, tell, leads_back)
        self.ended = self._rebasing.restore()
        """The acts from before the start that the file has ended, each with the reason in words."""
        saved.add_part(PART, self._to_save)

    @property
    def edits(self) -> int:
        """The number of changes against the file."""
        return len(self.rows())

    @property
    def added(self) -> Collection[BackendKey]:
        """The backends that are not in the file."""
        return self._lists.edits.added.keys()

    @property
    def acts(self) -> Acts:
        """All that operators have changed, the admin states included."""
        return self._lists.acts()

    def look(self, now: float) -> None:
        """Remove the leaving backends that have nothing open any more; `now` in monotonic seconds."""
        left = [key for key in self._admins.leaving if self._admins.has_left(key, now)]
        if not left:
            return
        edits = self._lists.edits.copy()
        for key in left:
            edits.weights.pop(key, None)
            is_filed = self._lists.is_filed(key)
            if not is_filed:  # it was added, or an earlier file had it: its absence is no change
                edits.added.pop(key, None)
                edits.removed.pop(key, None)
            self._admins.gone(key, forever=not is_filed)
        self._lists.edits = edits
        self._lists.force(key[0] for key in left)
        for key in left:
            self._tell("admin", written(key), "removed: nothing is open any more")

    # -- what operators ask for

    async def add(self, service: str, address: str, weight: int | None, edit: Edit) -> tuple[BackendKey, bool]:
        """Add a backend at an address, with a weight if given; one that was removed comes back.

        Returns its key, and whether anything has changed.  Raises RefusedError if one that is there is to have another
        weight, or if it is a listener of this host; FailedError if there is no room or if it cannot be saved.
        """
        key = (service, address)

        def decide() -> _Step | None:
            nonlocal key
            key, step = self._addition(service, address, weight, edit)
            return step

        changed = await self._do(decide)
        return key, changed

    def removed(self, service: str, name: object) -> list[str]:
        """Return the backends of this name or address that are removed: leaving or gone."""
        keys = [key for key in self._lists.edits.removed if key[0] == service]
        return [key[1] for key in keys if name in (key[1], self._lists.own(key).address)]

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
            self._lists.put(step.edits, step.put)

        self._clearing(edit)
        await self._saved.clear(put)

    def rows(self) -> list[dict[str, Any]]:
        """Return what differs from the file, as `overrides` shows it."""
        edits = self._lists.edits
        rows = [self._row(key, "added", one) for key, one in edits.added.items()]
        rows += [self._row(key, "removed", one) for key, one in edits.removed.items() if key not in edits.added]
        rows += [
            self._row(key, f"weight {one.weight}", one)
            for key, one in edits.weights.items()
            if key not in edits.removed
        ]
        return rows

    # -- another file

    async def prepare(self, new: Config) -> None:
        """Do beforehand the part of `rebase` that takes long; without it `rebase` does so."""
        await self._rebasing.prepare(new)

    def rebase(self, new: Config) -> Rebase:
        """Return what another file makes of the acts, without any effect."""
        return self._rebasing.rebase(new)

    def is_current(self, rebase: Rebase) -> bool:
        """Returns True if no operator has acted, and no backend has left, since `rebase`: else it must be made anew."""
        return self._rebasing.is_current(rebase)

    def commit(self, rebase: Rebase) -> None:
        """Follow another file; cannot fail.

        Call it while `rebase` is current, after `Running.replace_all` has put the file into force with its services.
        """
        self._rebasing.commit(rebase, lambda key: self._left(key, force=False))

    def state(self) -> list[Row]:
        """Return all acts for a successor, admin states and leaving backends included, as `SavedActs` takes them."""
        return self._rebasing.state()

    def keep(self) -> None:
        """Save, in the background, that acts from before the start have ended."""
        if self.ended:
            self._saved.keep()

    # -- what is decided

    async def _do(self, decide: Callable[[], _Step | None]) -> bool:
        """Save a change and put it into force; returns False if there is none.

        While it is being saved, others may act: it is decided anew before it is put into force.
        """
        step, changed = decide(), True
        if step is None:
            return False
        if step.edits.to_save() == self._to_save():
            self._lists.put(step.edits, step.put)
            return True

        def news() -> dict[str, list[Row]]:
            step = decide()
            return {PART: self._to_save() if step is None else step.edits.to_save()}

        def put() -> None:
            nonlocal changed
            step = decide()
            if step is None:
                changed = False
            else:
                self._lists.put(step.edits, step.put)

        await self._saved.commit(news, put)
        return changed

    def _to_save(self) -> list[Row]:
        return self._lists.edits.to_save()

    def _addition(self, name: str, address: str, weight: int | None, edit: Edit) -> tuple[BackendKey, _Step | None]:
        """Return the key of the backend to add, and the change, None if there is none."""
        service, lists = self._lists.service(name), self._lists
        known = {one.name: one for one in service.backends if lists.is_known((name, one.name))}
        known |= {key[1]: lists.own(key) for key in lists.edits.removed if key[0] == name}
        backend = known.get(address) or resolved(self._running.file, name, address, weight)
        twin = next((one for one in known.values() if same_server(one, backend, service.listeners)), None)
        key = (name, backend.name if twin is None else twin.name)
        edits = lists.edits.copy()
        if key in edits.removed:
            return key, self._return(key, weight, edit)
        if twin is None:
            return key, self._new(key, backend, Addition(edit.by, edit.at, edit.saved, weight=weight, backend=backend))
        if weight not in {None, twin.weight}:
            text = f"{written(key)} exists already with weight {twin.weight}: use `steelyard weight` to change it"
            raise RefusedError(text)
        if not edit.saved or key not in edits.added or edits.added[key].saved:
            return key, None
        edits.added[key] = replace(edits.added[key], saved=True)
        return key, _Step(edits, lambda: self._tell_saved([key], "added", edit))

    def _return(self, key: BackendKey, weight: int | None, edit: Edit) -> _Step:
        """Return the change that brings a removed backend back."""
        edits = self._lists.edits.copy()
        del edits.removed[key]
        lost = edits.weights.pop(key, None)
        filed = self._lists.own(key).weight
        if weight is not None:
            edits.weights[key] = Weighing(edit.by, edit.at, edit.saved, weight=weight, filed=filed)
        self._lists.check_room(edits, [key[0]])

        def put() -> None:
            if self._admins.leaves(key):
                self._admins.stays([key])
            self._tell("admin", written(key), f"no longer to be removed, by {edit.by}")
            if weight is not None:
                self._tell_weight(key, weight, f"by {edit.by}")
            elif lost is not None:
                self._tell_weight(key, filed, "its own again")

        return _Step(edits, put)

    def _new(self, key: BackendKey, backend: Backend, addition: Addition) -> _Step:
        edits = self._lists.edits.copy()
        edits.added[key] = addition
        services = self._lists.services(edits, [key[0]])
        why = self._leads_back(self._running.config.model_copy(update={"services": services})).get(key)
        if why is not None:
            raise RefusedError(why)
        self._lists.check_room(edits, [key[0]])

        def put() -> None:
            if self._admins.leaves(key):  # an earlier file had it
                self._admins.stays([key])
            text = f"added with weight {backend.weight}, by {addition.by}"
            self._tell("admin", written(key), text, weight=backend.weight, by=addition.by)

        return _Step(edits, put)

    def _removal(self, name: str, going: Collection[str], edit: Edit, *, force: bool) -> _Step | None:
        service, edits = self._lists.service(name), self._lists.edits.copy()
        wanted = sorted((name, one) for one in going)
        if not any(
            (name, one.name) not in wanted and not self._admins.leaves((name, one.name)) for one in service.backends
        ):
            raise RefusedError(f"{name} would have no backend any more: add another one first")
        keys = [key for key in wanted if key in self._running.backends]
        refuse_to_strand(() if force else self._stranded(keys))
        new = [key for key in keys if force or not self._admins.leaves(key)]
        to_save = [key for key in wanted if edit.saved and key in edits.removed and not edits.removed[key].saved]
        if not new and not to_save:
            return None
        edits.removed |= {key: replace(edits.removed[key], saved=True) for key in to_save}
        edits.removed |= {key: edit for key in new if key not in edits.removed and self._lists.is_known(key)}

        def put() -> None:
            self._tell_saved([key for key in to_save if key not in new], "removed", edit)
            self._retire(new, edit, force=force)

        return _Step(edits, put)

    def _weighing(self, keys: Collection[BackendKey], weight: int, edit: Edit, *, force: bool) -> _Step | None:
        keys, edits = [key for key in keys if key in self._running.backends], self._lists.edits.copy()
        if not weight:
            refuse_to_strand(() if force else self._stranded(keys))
        known = edits.weights
        new = [key for key in keys if key not in known or known[key].weight != weight]
        to_save = [key for key in keys if edit.saved and key not in new and not known[key].saved]
        if not new and not to_save:
            return None
        for key in to_save:
            known[key] = replace(known[key], saved=True)
        for key in new:
            filed = self._lists.own(key).weight
            known[key] = Weighing(edit.by, edit.at, edit.saved, weight=weight, filed=filed)

        def put() -> None:
            self._tell_saved(to_save, f"weight {weight}", edit)
            for key in new:
                self._tell_weight(key, weight, f"by {edit.by}")

        return _Step(edits, put)

    def _clearing(self, edit: Edit) -> _Step:
        before = self._lists.edits
        leaving = [key for key in before.added if not self._admins.leaves(key)]
        back = [key for key in before.removed if key not in before.added]
        edits = Edits(dict(before.added), {key: before.removed.get(key, edit) for key in before.added})
        self._lists.check_room(edits, {key[0] for key in [*back, *leaving]})

        def put() -> None:
            for key in before.weights.keys() - before.removed.keys():
                self._tell_weight(key, self._lists.own(key).weight, "its own again")
            self._retire(leaving, edit, force=False)
            still = [key for key in back if self._admins.leaves(key)]
            if still:
                self._admins.stays(still)
            for key in back:
                self._tell("admin", written(key), f"no longer to be removed, overrides cleared by {edit.by}")

        return _Step(edits, put)

    def _retire(self, keys: Collection[BackendKey], edit: Edit, *, force: bool) -> None:
        for key in keys:
            text = f"to be removed, by {edit.by}: {self._left(key, force=force)}"
            self._tell("admin", written(key), text, by=edit.by)
        if keys:
            self._admins.retire(keys, edit.by, force=force)

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
            self._tell("admin", written(key), f"{what} is saved and survives a restart, by {edit.by}", by=edit.by)

    def _row(self, key: BackendKey, act: str, edit: Edit) -> dict[str, Any]:
        listed = key in self._running.backends
        return {
            "service": key[0],
            "backend": key[1],
            "act": act,
            "admin": self._admins.state(key) if listed else None,
            "by": edit.by,
            "reason": None,
            "at": rfc3339(edit.at),
            "saved": edit.saved,
            "active": self.active(key) if listed else 0,
        }
