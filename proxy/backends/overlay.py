"""Lays what operators have changed at run time over the configuration of a file [pure].

The laws, for any files and acts:

- An act ends with the value that it replaced: when the file has another value there than it had at the time of the act,
  or has no such service or backend any more.  An act whose value the file did not change survives.
- What was added ends when the file lists the same server: it is the file's from then on.
- The order of the file is kept, since it decides between equals.  Behind it come the backends that the file no longer
  has and that still have something open, and then the added ones in the order in which they were added.
- No service is left without a backend by acts: its removals end rather than that.
- What survived survives the same file once more.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from proxy.balance.backend import Admin
from proxy.config.model import Backend, BackendKey, Config, Service
from proxy.config.relations import same_server

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Changed(Generic[Value]):
    """A value that an operator has set, and the one that the file had at that time."""

    value: Value
    filed: Value


@dataclass(frozen=True, slots=True)
class Acts:
    """All that operators have changed: admin states, weights, and which backends there are.

    `added` has the backends as the file that they are laid over makes them, with its defaults and probes; it has their
    services, too.  `removed` may contain added ones, which are leaving.
    """

    admins: Mapping[BackendKey, Changed[Admin]] = field(default_factory=dict)
    weights: Mapping[BackendKey, Changed[int]] = field(default_factory=dict)
    added: Mapping[BackendKey, Backend] = field(default_factory=dict)
    removed: frozenset[BackendKey] = frozenset()


@dataclass(frozen=True, slots=True)
class Ended:
    """An act that the file ends: which one, as `overrides` shows it, on which backend, and why."""

    key: BackendKey
    act: str
    why: str

    @property
    def text(self) -> str:
        """The end of the act in words."""
        return f'"{self.act}" has ended: {self.why}'


def surviving(acts: Acts, new: Config) -> tuple[Acts, list[Ended]]:
    """Return the acts that this file does not end, and the ends of the others."""
    ended: list[Ended] = []
    filed = {(service.name, one.name): one for service in new.services for one in service.backends}
    added = _added(acts, new, filed, ended)
    removed = _removed(acts, new, filed, added, ended)
    weights: dict[BackendKey, Changed[int]] = {}
    admins: dict[BackendKey, Changed[Admin]] = {}
    for key, weight in acts.weights.items():
        own = filed.get(key) or added.get(key)
        if own is not None and own.weight == weight.filed:
            weights[key] = weight
        else:
            why = _GONE if own is None else f"the file's weight is {own.weight} now, no longer {weight.filed}"
            ended.append(Ended(key, f"weight {weight.value}", why))
    for key, admin in acts.admins.items():
        own = filed.get(key) or added.get(key)
        if own is not None and own.admin == admin.filed:
            admins[key] = admin
        else:
            why = _GONE if own is None else f'the file says "{own.admin}" now, no longer "{admin.filed}"'
            ended.append(Ended(key, admin.value, why))
    return Acts(admins, weights, added, frozenset(removed)), ended


def laid_over(file: Config, acts: Acts, staying: Mapping[BackendKey, Backend]) -> tuple[Service, ...]:
    """Return the services of the file with the acts.

    `staying` are backends that nothing new goes to and that still have something open, as they are in force: they stay
    listed, whatever the file and the acts say.
    """
    return tuple(service_laid_over(service, acts, staying) for service in file.services)


def wanted(file: Config, acts: Acts) -> set[BackendKey]:
    """Return the backends that the file and the acts want, without those that are only staying."""
    filed = {(service.name, one.name) for service in file.services for one in service.backends}
    return (filed | acts.added.keys()) - acts.removed


_GONE = "the backend is no longer in the file"


def _added(
    acts: Acts, new: Config, filed: Mapping[BackendKey, Backend], ended: list[Ended]
) -> dict[BackendKey, Backend]:
    """Return the added backends that the file does not have now."""
    services = {key[0] for key in acts.added}
    known: dict[tuple[str, str], list[Backend]] = {}  # by service and address: a service may have thousands
    listeners = {service.name: service.listeners for service in new.services}
    for service in new.services:
        for one in service.backends if service.name in services else ():
            known.setdefault((service.name, one.address), []).append(one)
    added: dict[BackendKey, Backend] = {}
    for key, backend in acts.added.items():
        same = known.setdefault((key[0], backend.address), [])
        twin = filed.get(key) or next((one for one in same if same_server(one, backend, listeners[key[0]])), None)
        if twin is None:
            added[key] = backend
            same.append(backend)
        else:
            as_what = "" if twin.name == backend.name else f", as {twin.name}"
            ended.append(Ended(key, "added", f"the service has it from the file now{as_what}"))
    return added


def _removed(
    acts: Acts,
    new: Config,
    filed: Mapping[BackendKey, Backend],
    added: Mapping[BackendKey, Backend],
    ended: list[Ended],
) -> set[BackendKey]:
    """Return the removed backends that the file still has, and the added ones that are leaving."""
    removed = {key for key in acts.removed if key in (added if key in acts.added else filed)}
    # Of an added backend that is leaving, the end of the addition has been noted: one event is enough.
    ended += [Ended(key, "removed", _GONE) for key in sorted(acts.removed - removed - acts.added.keys())]
    for service in new.services:
        keys = [(service.name, one.name) for one in service.backends]
        others = any(key[0] == service.name and key not in removed for key in added)
        if not others and removed.issuperset(keys):
            removed.difference_update(keys)
            why = "the service would have no backend any more"
            ended += [Ended(key, "removed", why) for key in keys]
    return removed


def service_laid_over(service: Service, acts: Acts, staying: Mapping[BackendKey, Backend]) -> Service:
    """Return one service of the file with the acts; `staying` as for `laid_over`."""
    keys = [(service.name, one.name) for one in service.backends]
    listed: list[Backend | None] = [
        _backend(key, one, acts, staying) for key, one in zip(keys, service.backends, strict=True)
    ]
    known: Collection[BackendKey] = {*keys, *acts.added}
    listed += [one for key, one in staying.items() if key[0] == service.name and key not in known]
    listed += [_backend(key, one, acts, staying) for key, one in acts.added.items() if key[0] == service.name]
    backends = tuple(one for one in listed if one is not None)
    return service if backends == service.backends else service.model_copy(update={"backends": backends})


def _backend(key: BackendKey, own: Backend, acts: Acts, staying: Mapping[BackendKey, Backend]) -> Backend | None:
    """Return a backend as it is to be in force, None if it is not listed."""
    if key in staying:
        return staying[key]
    if key in acts.removed:
        return None
    weight = acts.weights.get(key)
    return own if weight is None else own.model_copy(update={"weight": weight.value})
