"""Lays the operators' acts over another file: at the start, at a reload, and in the place of another daemon."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from proxy.backends.admin import Admins
from proxy.backends.admin_acts import LEAVE
from proxy.backends.edits import Edits, parsed
from proxy.backends.effective import Running, written
from proxy.backends.errors import RefusedError
from proxy.backends.lists import Lists
from proxy.backends.overlay import Acts, Ended, laid_over, surviving, wanted
from proxy.backends.saved import Row, SavedActs
from proxy.balance.backend import Admin
from proxy.config.diagnostics import ConfigError
from proxy.config.loader import resolve_backend
from proxy.config.model import Backend, BackendKey, Config, Service
from proxy.records.document import StateError
from proxy.records.timeline import Tell
from proxy.stats.slots import SlotsFullError


@dataclass(frozen=True, slots=True)
class Rebase:
    """What another file makes of the acts.

    - `services` are to be in force with it.
    - `ended` are the acts that it ends, each with the reason in words.
    - `retired` backends are no longer wanted and drain; `returned` ones were to be removed and stay.
    """

    services: tuple[Service, ...]
    ended: list[tuple[BackendKey, str]]
    retired: list[BackendKey]
    returned: list[BackendKey]
    acts: Acts
    """The acts that survive."""
    states: Mapping[BackendKey, Admin]
    """The admin states until then."""
    basis: tuple[Edits, Acts, frozenset[BackendKey]]
    """The changes, the acts and the leaving backends that it was made from."""


class Rebasing:
    """Lays acts over files; `leads_back(config)` returns the backends that are listeners of this host, with the reasons."""

    def __init__(
        self,
        running: Running,
        lists: Lists,
        admins: Admins,
        saved: SavedActs,
        tell: Tell,
        leads_back: Callable[[Config], Mapping[BackendKey, str]],
    ) -> None:
        self._running = running
        self._lists = lists
        self._admins = admins
        self._saved = saved
        self._tell = tell
        self._leads_back = leads_back
        self._file = ""  # the digest of the file that `_made` is for
        self._made: dict[tuple[BackendKey, int | None], Backend | str] = {}

    async def prepare(self, new: Config) -> None:
        """Do beforehand the part of `rebase` that takes long, as it takes about 1 ms for each added backend."""
        services = {service.name for service in new.services}
        for key, one in list(self._lists.edits.added.items()):
            if key[0] in services:
                self._resolved(new, key, one.weight)
                await asyncio.sleep(0)

    def rebase(self, new: Config) -> Rebase:
        """Return what another file makes of the acts, without any effect.

        A backend that neither the file nor an act wants any more stays listed while it drains.
        """
        names = {service.name for service in new.services}
        acts, ended = self._surviving(self._lists.edits, new)
        target = wanted(new, acts)
        listed = {key: one for key, one in self._running.backends.items() if key[0] in names}
        staying = {key: one for key, one in listed.items() if key not in target}
        return Rebase(
            services=laid_over(new, acts, staying),
            ended=[(one.key, one.text) for one in ended],
            retired=[key for key in staying if not self._admins.leaves(key)],
            returned=[key for key in listed if key in target and self._admins.leaves(key)],
            acts=acts,
            states={key: self._admins.state(key) for key in self._running.backends},
            basis=self._basis(),
        )

    def is_current(self, rebase: Rebase) -> bool:
        """Returns True if nothing that a rebase was made from has changed since."""
        return rebase.basis == self._basis()

    def commit(self, rebase: Rebase, left: Callable[[BackendKey], str]) -> None:
        """Follow another file that is in force already with the services of `rebase`.

        `left(key)` says in words what a backend still has open.
        """
        before, after = self._lists.edits, _kept(self._lists.edits, rebase.acts)
        self._lists.edits = after
        self._lists.note_weights()
        for key, text in rebase.ended:
            self._tell("admin", written(key), text)
        for key in rebase.retired:
            self._tell("admin", written(key), f"to be removed, by reload: {left(key)}")
        for key in rebase.returned:
            self._tell("admin", written(key), "no longer to be removed, by reload")
        ended = self._admins.values.keys() - rebase.acts.admins.keys()
        is_saved = self._admins.rebase(rebase.states, ended, retired=rebase.retired, returned=rebase.returned)
        self._lists.reweigh(before.weights.keys() - after.weights.keys())
        if is_saved or before.to_save() != after.to_save():
            self._saved.keep()

    def restore(self) -> list[tuple[BackendKey, str]]:
        """Lay the acts from before the start over the file; return those that have ended, each with the reason in words.

        Raises StateError if one is invalid.  If there is no room for all added backends, the last ones are left out.
        """
        rows, file = self._saved.rows, self._running.file
        try:
            edits = parsed(rows)
            leaving = {(str(row["service"]), str(row["backend"])): row for row in rows if row["act"] == LEAVE}
            listed = {key: Backend.model_validate(row["spec"]) for key, row in leaving.items()}
            self._admins.take_over(leaving)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"{self._saved.path}: invalid override: {error!r}") from error
        acts, ended = self._surviving(edits, file)
        while (services := self._with_leaving(acts, listed)) is None:
            if listed:  # nothing new goes there anyway
                listed = {}
                continue
            key = list(acts.added)[-1]  # without any, there is room for the file
            ended.append(Ended(key, "added", "the counters have no room for it"))
            added = {other: one for other, one in acts.added.items() if other != key}
            acts, more = surviving(replace(acts, added=added, removed=acts.removed - {key}), file)
            ended += more
        self._running.replace_all(file, services)
        self._lists.edits = _kept(edits, acts)
        self._lists.note_weights()
        self._admins.restored(acts.admins.keys(), listed.keys() & self._running.backends.keys() - wanted(file, acts))
        return [(one.key, one.text) for one in ended]

    def state(self) -> list[Row]:
        """Return all acts for a successor, saved or not, and what it must know of leaving backends."""
        leaving = [
            {**row, "spec": self._running.backends[key].model_dump(mode="json", by_alias=True)}
            for key, row in self._admins.leaving_to_hand_over().items()
        ]
        return [*self._admins.acts_to_hand_over(), *self._lists.edits.rows(), *leaving]

    # -- inside

    def _basis(self) -> tuple[Edits, Acts, frozenset[BackendKey]]:
        return self._lists.edits, self._lists.acts(), frozenset(self._admins.leaving)

    def _surviving(self, edits: Edits, new: Config) -> tuple[Acts, list[Ended]]:
        """Return the acts that a file does not end, the added backends as it makes them, and the ends of the others."""
        ended: list[Ended] = []
        services = {service.name for service in new.services}
        added: dict[BackendKey, Backend] = {}
        for key, one in edits.added.items():
            if key[0] not in services:
                ended.append(Ended(key, "added", "the service is no longer in the file"))
                continue
            backend = self._resolved(new, key, one.weight)
            if isinstance(backend, str):
                ended.append(Ended(key, "added", backend))
            else:
                added[key] = backend
        acts = replace(self._lists.acts(edits), added=added)
        if added:
            reasons = self._leads_back(new.model_copy(update={"services": laid_over(new, acts, {})}))
            for key in [key for key in added if key in reasons]:
                del added[key]
                ended.append(Ended(key, "added", reasons[key]))
        acts, more = surviving(replace(acts, removed=acts.removed - {one.key for one in ended}), new)
        return acts, [*ended, *more]

    def _resolved(self, new: Config, key: BackendKey, weight: int | None) -> Backend | str:
        """Return what a file makes of an added backend, or in words why it cannot; kept until the next file."""
        if self._file != new.sha256:
            self._file, self._made = new.sha256, {}
        if (key, weight) not in self._made:
            try:
                self._made[key, weight] = resolved(new, *key, weight)
            except RefusedError as error:
                self._made[key, weight] = str(error)
        return self._made[key, weight]

    def _with_leaving(self, acts: Acts, leaving: Mapping[BackendKey, Backend]) -> Sequence[Service] | None:
        """Return the services of the file with the acts and with these backends still listed; None without room."""
        file = self._running.file
        target = wanted(file, acts)
        services = laid_over(file, acts, {key: one for key, one in leaving.items() if key not in target})
        try:
            self._running.room_for(services)
        except SlotsFullError:
            return None
        return services


def resolved(config: Config, service: str, address: str, weight: int | None) -> Backend:
    """Return what a file makes of one more string in `backends`; raises RefusedError."""
    try:
        backend = resolve_backend(config, service, address)
    except ConfigError as error:
        raise RefusedError("; ".join(one.text for one in error.diagnostics)) from None
    return backend if weight is None else backend.model_copy(update={"weight": weight})


def _kept(edits: Edits, acts: Acts) -> Edits:
    """Return the changes that are left in `acts`."""
    return Edits(
        {key: replace(edits.added[key], backend=backend) for key, backend in acts.added.items() if key in edits.added},
        {key: one for key, one in edits.removed.items() if key in acts.removed},
        {key: one for key, one in edits.weights.items() if key in acts.weights},
    )
