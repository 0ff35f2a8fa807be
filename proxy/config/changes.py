"""The steps that lead from the configuration in force to another one [pure].

A reload prints these steps (`--dry-run`) and executes the same ones.  Laws:

- Equal configurations have no steps; what no step names is not touched.
- Listeners are the same if transport, address and port are the same, whichever service has them: such a listener keeps
  its sockets.  Services, backends and routers are the same if their names are the same.
- What only a new process can have (`NEEDS_REEXEC`) is a step of its own, and `adapted` leaves it as it was.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from proxy.config.model import BackendKey, Config, Service
from proxy.config.toml_text import value_text

Kind = Literal[
    "node",
    "control",
    "pair",
    "log",
    "web",
    "service",
    "listener",
    "backend",
    "probe",
    "router",
    "sync-group",
    "notify",
    "override",
]
Act = Literal["add", "remove", "change", "move", "end"]

NEEDS_REEXEC: Final = (("node", "workers"), ("node", "user"), ("node", "state-dir"), ("control", "socket"))
"""(table, key) of the settings that only a new process can have."""

_WORDS: Final[Mapping[Act, str]] = {"add": "added", "remove": "removed", "move": "moved", "end": "ended"}
_WRITTEN: Final = {"probes": "probe"}
"""Names of the model that the file writes otherwise."""
_SHOWN: Final = 80  # characters of a value


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that changes: `old` and `new` as in JSON, None where the setting is absent."""

    key: str
    old: Any
    new: Any

    @property
    def text(self) -> str:
        """The change as "weight 1 -> 3"."""
        return f"{self.key} {_shown(self.key, self.old)} -> {_shown(self.key, self.new)}"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a reload: what is added, removed or changed, and how.

    `name` is "dns" for a service, "dns/10.0.0.11" for a backend, "10.0.0.10:53/udp" for a listener; `service` is the
    service of a listener or backend.  `why` says in words what becomes of it.  `reexec` means that a reload cannot do
    this step: only a new process can.
    """

    act: Act
    kind: Kind
    name: str
    service: str = ""
    changes: tuple[Change, ...] = ()
    why: str = ""
    reexec: bool = False

    @property
    def text(self) -> str:
        """The step in words."""
        what = (
            f"[{self.name}]" if self.kind in {"node", "control", "pair", "log", "web"} else f"{self.kind} {self.name}"
        )
        done = "; ".join(change.text for change in self.changes) if self.act == "change" else _WORDS[self.act]
        return f"{what}: {done}" + (f", {self.why}" if self.why else "") + (" (needs reexec)" if self.reexec else "")

    def row(self) -> dict[str, Any]:
        """Return the step as JSON."""
        return {
            "act": self.act,
            "kind": self.kind,
            "name": self.name,
            "changes": [{"key": one.key, "old": one.old, "new": one.new} for one in self.changes],
            "needs_reexec": self.reexec,
            "text": self.text,
        }


def adapted(old: Config, new: Config) -> Config:
    """Return `new` with the settings of `old` that only a new process can change."""
    tables = {table: getattr(new, table) for table, _ in NEEDS_REEXEC}
    for table, key in NEEDS_REEXEC:
        field = key.replace("-", "_")
        tables[table] = tables[table].model_copy(update={field: getattr(getattr(old, table), field)})
    config = new.model_copy(update=tables)
    config._tree = new._tree  # noqa: SLF001 - its own class's; a copy leaves it out
    return config


def reusing(old: Config, new: Config) -> Config:
    """Return `new` with the services and backends of `old` in place of equal ones, so that comparing them is quick."""
    before = _by_name(old.services)
    config = new.model_copy(update={"services": tuple(_reusing(before.get(one.name), one) for one in new.services)})
    config._tree = new._tree  # noqa: SLF001 - its own class's; a copy leaves it out
    return config


def _reusing(old: Service | None, new: Service) -> Service:
    if old is None or old == new:
        return old or new
    before = _by_name(old.backends)
    backends = [before[one.name] if before.get(one.name) == one else one for one in new.backends]
    return new.model_copy(update={"backends": tuple(backends)})


def steps(
    old: Config,
    new: Config,
    *,
    retired: Collection[BackendKey] = (),
    ended: Sequence[tuple[BackendKey, str]] = (),
) -> list[Step]:
    """Return the steps from `old`, the configuration in force, to `new`, both with the changes of operators.

    `retired` are the backends that the new file does not have any more, and that stay in `new` until their connections
    have ended; `ended` are the changes of operators that end with this file, each with its reason.
    """
    return [
        *_tables(old, new),
        *_services(old, new),
        *_listeners(old, new),
        *_backends(old, new, retired),
        *_named("probe", old.probes, new.probes),
        *_named("router", _by_name(old.vrrp), _by_name(new.vrrp)),
        *_named("sync-group", _by_name(old.sync_groups), _by_name(new.sync_groups)),
        *_named("notify", _by_name(old.notify), _by_name(new.notify)),
        *(Step("end", "override", f"{key[0]}/{key[1]}", key[0], why=why) for key, why in ended),
    ]


def listeners(services: Sequence[Service]) -> dict[str, str]:
    """Return the service of each listener, by the listener's text, such as "10.0.0.10:53/udp"."""
    return {listener.text: service.name for service in services for listener in service.listeners}


def _tables(old: Config, new: Config) -> Iterator[Step]:
    """Yield the steps for [node], [control], [log], [pair] and [web]: one for what needs a new process, one for the rest."""
    kinds: tuple[Kind, ...] = ("node", "control", "log")
    for kind in kinds:
        rest = []
        for change in _changes(getattr(old, kind), getattr(new, kind)):
            if (kind, change.key) in NEEDS_REEXEC:
                yield Step("change", kind, kind, changes=(change,), reexec=True)
            else:
                rest.append(change)
        if rest:
            yield Step("change", kind, kind, changes=tuple(rest))
    yield from _named("pair", *({"pair": one.pair} if one.pair is not None else {} for one in (old, new)))
    yield from _named("web", *({"web": one.web} if one.web is not None else {} for one in (old, new)))


def _services(old: Config, new: Config) -> Iterator[Step]:
    before, after = _by_name(old.services), _by_name(new.services)
    for name in [name for name in before if name not in after]:
        yield Step("remove", "service", name, name, why="what is open may finish until drain-timeout")
    for name, service in after.items():
        if name not in before:
            yield Step("add", "service", name, name)
        elif changes := _changes(before[name], service, {"name", "listeners", "backends"}):
            yield Step("change", "service", name, name, changes)


def _listeners(old: Config, new: Config) -> Iterator[Step]:
    before, after = listeners(old.services), listeners(new.services)
    for name, service in after.items():
        if name not in before:
            yield Step("add", "listener", name, service)
        elif before[name] != service:
            yield Step("move", "listener", name, service, why=f"from {before[name]} to {service}")
    for name, service in before.items():
        if name not in after:
            yield Step("remove", "listener", name, service, why="what is queued there is served")


def _backends(old: Config, new: Config, retired: Collection[BackendKey]) -> Iterator[Step]:
    before, after = _by_name(old.services), _by_name(new.services)
    for name, service in after.items():
        earlier = _by_name(before[name].backends) if name in before else {}
        if earlier and before[name].backends == service.backends and not retired:
            continue
        later = _by_name(service.backends)
        for backend in [one for one in earlier if one not in later]:
            yield Step("remove", "backend", f"{name}/{backend}", name)
        for backend, value in later.items():
            if (name, backend) in retired:
                why = "its connections may finish until drain-timeout"
                yield Step("remove", "backend", f"{name}/{backend}", name, why=why)
            elif backend not in earlier:
                yield Step("add", "backend", f"{name}/{backend}", name)
            elif changes := _changes(earlier[backend], value, {"name"}):
                yield Step("change", "backend", f"{name}/{backend}", name, changes)


def _named(kind: Kind, before: Mapping[str, BaseModel], after: Mapping[str, BaseModel]) -> Iterator[Step]:
    for name, value in after.items():
        if name not in before:
            yield Step("add", kind, name)
        elif changes := _changes(before[name], value, {"name"}):
            yield Step("change", kind, name, changes=changes)
    for name in before:
        if name not in after:
            yield Step("remove", kind, name)


def _by_name(values: Sequence[Any]) -> dict[str, Any]:
    return {value.name: value for value in values}


def _changes(old: BaseModel, new: BaseModel, aside: Collection[str] = ()) -> tuple[Change, ...]:
    """Return the settings that differ, tables in dotted form, such as "tcp.idle-timeout"."""
    if old is new or old == new:
        return ()
    before, after = (dict(_flat(one.model_dump(mode="json", by_alias=True, exclude=set(aside)))) for one in (old, new))
    keys = list(dict.fromkeys([*before, *after]))
    return tuple(Change(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = _WRITTEN.get(name, name)
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, one in enumerate(value, 1):
                yield from _flat(one, f"{prefix}{key}.{number}." if len(value) > 1 else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "nothing"
    text = value_text(key.rpartition(".")[2], value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
