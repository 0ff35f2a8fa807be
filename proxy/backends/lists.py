"""The lists of backends in force: always the file with the operators' acts laid over it."""

from collections.abc import Callable, Collection, Iterable, Mapping

from proxy.backends.admin import Admins
from proxy.backends.edits import Edit, Edits
from proxy.backends.effective import Running
from proxy.backends.errors import FailedError, RefusedError
from proxy.backends.overlay import Acts, Changed, service_laid_over
from proxy.config.model import Backend, BackendKey, Config, Service
from proxy.stats.slots import SlotsFullError


class Lists:
    """Puts changed lists and weights into force.

    `relisted(service, slots)` is called with a service whose list has changed and the slots that have a new owner,
    `reweighed(key)` with a backend whose weight an operator has changed.
    """

    def __init__(
        self,
        running: Running,
        admins: Admins,
        relisted: Callable[[str, Collection[int]], None],
        reweighed: Callable[[BackendKey], None],
    ) -> None:
        self._running = running
        self._admins = admins
        self._relisted = relisted
        self._reweighed = reweighed
        self._file: Config | None = None  # of the two tables
        self._services: Mapping[str, Service] = {}
        self._backends: Mapping[BackendKey, Backend] = {}
        self.edits = Edits()
        """The changes in force; replaced, never changed."""

    # -- putting changes into force

    def put(self, edits: Edits, then: Callable[[], None]) -> None:
        """Put changes into force, for which there is room; `then()` records and drains before the lists change."""
        before, self.edits = self.edits, edits
        then()
        self.force(key[0] for key in _differing(before, edits))
        self.reweigh(_differing(Edits(weights=before.weights), Edits(weights=edits.weights)))

    def force(self, names: Iterable[str]) -> None:
        """Bring these services into line with the file and the acts."""
        self.note_weights()
        acts = self.acts()
        for name in dict.fromkeys(names):
            before, after = self._running.services[name], self._listed(name, acts, self._admins.leaves)
            if after.backends == before.backends:
                continue
            slots = self._running.replace(after)
            if [one.name for one in before.backends] != [one.name for one in after.backends]:
                self._relisted(name, slots)

    def note_weights(self) -> None:
        """Note for which backends a probe's weight does not count."""
        self._running.weighed.clear()
        self._running.weighed.update(self.edits.weights)

    def reweigh(self, keys: Iterable[BackendKey]) -> None:
        """Pass on that the weights of these backends have changed."""
        for key in keys:
            if key in self._running.backends:
                self._reweighed(key)

    def check_room(self, edits: Edits, names: Collection[str]) -> None:
        """Raise FailedError if there are too few slots for other changes of these services."""
        try:
            self._running.room_for(self.services(edits, names))
        except SlotsFullError as error:
            raise FailedError(str(error)) from None

    def services(self, edits: Edits, names: Collection[str]) -> tuple[Service, ...]:
        """Return the services in force with other changes of these: what is not wanted then stays listed for a while."""
        acts = self.acts(edits)
        self._look_up()

        def is_going(key: BackendKey) -> bool:
            return key in acts.removed or not (key in self._backends or key in acts.added)

        return tuple(
            self._listed(one.name, acts, is_going) if one.name in names else one
            for one in self._running.config.services
        )

    def _listed(self, name: str, acts: Acts, stays: Callable[[BackendKey], bool]) -> Service:
        keys = [(name, one.name) for one in self._running.services[name].backends]
        staying = {key: self._running.backends[key] for key in keys if stays(key)}
        self._look_up()
        return service_laid_over(self._services[name], acts, staying)

    # -- what there is

    def acts(self, edits: Edits | None = None) -> Acts:
        """Return all that operators have changed, the admin states included; `edits` in place of those in force."""
        edits = self.edits if edits is None else edits
        return Acts(
            self._admins.values,
            {key: Changed(one.weight, one.filed) for key, one in edits.weights.items()},
            {key: one.backend for key, one in edits.added.items() if one.backend is not None},
            frozenset(edits.removed),
        )

    def service(self, name: str) -> Service:
        """Return a service in force; raises RefusedError if another file has taken it away meanwhile."""
        if name not in self._running.services:
            raise RefusedError(f"{name} is no longer in the file")
        return self._running.services[name]

    def is_filed(self, key: BackendKey) -> bool:
        """Returns True if the file has a backend."""
        self._look_up()
        return key in self._backends

    def is_known(self, key: BackendKey) -> bool:
        """Returns True if the file has a backend or it was added; an earlier file had the others, which are leaving."""
        return key in self.edits.added or self.is_filed(key)

    def own(self, key: BackendKey) -> Backend:
        """Return a backend without the weight that an operator has set."""
        self._look_up()
        added = self.edits.added.get(key)
        backend = self._backends.get(key) or (None if added is None else added.backend)
        return backend or self._running.backends[key]

    def _look_up(self) -> None:
        if self._file is not self._running.file:
            self._file = self._running.file
            self._services = {one.name: one for one in self._file.services}
            self._backends = {
                (one.name, backend.name): backend for one in self._file.services for backend in one.backends
            }


def _differing(one: Edits, other: Edits) -> list[BackendKey]:
    """Return the backends with different changes."""
    pairs: list[tuple[Mapping[BackendKey, Edit], Mapping[BackendKey, Edit]]] = [
        (one.added, other.added), (one.removed, other.removed), (one.weights, other.weights),
    ]  # fmt: skip
    return list(dict.fromkeys(key for a, b in pairs for key in {**a, **b} if a.get(key) is not b.get(key)))
