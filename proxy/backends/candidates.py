"""The candidates of each service: its backends with the verdict, the weight and the admin state that decide who serves."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.backends.choice import Candidate
from proxy.backends.effective import Running
from proxy.balance.backend import Admin
from proxy.config.model import BackendKey, Service
from proxy.processes.messages.vrrp import Fit

if TYPE_CHECKING:
    from proxy.status.rows import Verdict
    from proxy.status.schema import State


class Candidates:
    """What is known of the backends: the caller keeps `verdicts` and `looping` up to date.

    `admin(backend)` returns what the operator wants of a backend.
    """

    def __init__(self, running: Running, admin: Callable[[BackendKey], Admin]) -> None:
        self._running = running
        self._admin = admin
        self.verdicts: dict[BackendKey, Verdict] = {}
        self.looping: Mapping[BackendKey, str] = {}
        """The backends that lead back to a listener of this host, and in words how."""
        self.ejected: Callable[[BackendKey], str | None] = lambda _: None
        """Returns why a backend is ejected, None if it is not."""
        self.held: Callable[[BackendKey], bool] = lambda _: False
        """Returns True if a backend that is down by this host's verdict goes on serving, as the other host sees it up."""
        self.late = False
        """Whether the time is over in which services wait for first verdicts."""

    def of(self, name: str) -> list[Candidate]:
        """Return the candidates of a service; an ejected one counts as down."""
        found = []
        for one in self._running.services[name].backends:
            key = (name, one.name)
            state = self._state(key)
            if state in {"up", "reserve"} and self.ejected(key) is not None:
                state = "down"
            found.append(Candidate(one.name, one.tier, self.weight(key), state, self._wanted(key)))
        return found

    def without(self, going: Collection[BackendKey], name: str) -> list[Candidate]:
        """Return the candidates of a service as if those in `going` got nothing new; ejected ones may come back."""
        return [
            replace(
                one, verdict=self._state((name, one.name)), admin="drain" if (name, one.name) in going else one.admin
            )
            for one in self.of(name)
        ]

    def as_filed(self, service: Service) -> list[Candidate]:
        """Return the candidates of a service of the file, without the operators' changes."""
        found = []
        for one in service.backends:
            known = self.verdicts.get((service.name, one.name))
            weight = one.weight if known is None or known.weight is None else known.weight
            state = self._state((service.name, one.name))
            found.append(Candidate(one.name, one.tier, weight, state, one.admin))
        return found

    def usable(self, service: str) -> list[str]:
        """Return the backends of a service that could serve if none were ejected."""
        return [
            one.name
            for one in self._running.services[service].backends
            if self._state((service, one.name)) in {"up", "reserve"}
            and self._wanted((service, one.name)) == "ready"
            and self.weight((service, one.name))
        ]

    def is_able(self, name: str) -> Fit:
        """Return whether a service has a backend that can serve; None if no verdict is known yet."""
        wanted = [one for one in self.of(name) if one.wanted and not self.is_held((name, one.name))]
        unjudged = {one.name for one in wanted if self.is_unjudged((name, one.name))}
        if any(one.verdict in {"up", "reserve"} for one in wanted if one.name not in unjudged):
            return True
        if unjudged:
            return "unjudged"
        return None if any(one.verdict == "unknown" for one in wanted) else False

    def is_held(self, key: BackendKey) -> bool:
        """Returns True if only the other host sees a backend up: this host must not hold the address for that."""
        known = self.verdicts.get(key)
        return known is not None and known.state == "down" and self.held(key)

    def is_unjudged(self, key: BackendKey) -> bool:
        """Returns True if a fault of this host, such as a refused login, keeps a backend from a verdict."""
        known = self.verdicts.get(key)
        return known is not None and known.unjudged

    def weight(self, key: BackendKey) -> int:
        """Return a backend's weight: the operator's, else the one that its probe asks for, else the file's."""
        known = self.verdicts.get(key)
        asked = None if known is None or key in self._running.weighed else known.weight
        return self._running.backends[key].weight if asked is None else int(asked)

    def _wanted(self, key: BackendKey) -> Admin:
        """Return the admin state of a backend; one that leads back to this host never serves."""
        return "maint" if key in self.looping else self._admin(key)

    def _state(self, key: BackendKey) -> "State":
        """Return the verdict of the probes; an unjudged backend counts as up once the first verdicts are late."""
        known = self.verdicts.get(key)
        if known is None:
            return "unknown"
        if known.state == "down" and self.held(key):
            return "up"
        return "up" if known.unjudged and self.late else known.state
