"""Which routers, services and backends a [notify.NAME] is for, and which of their states [pure]."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

from proxy.config.model import Notify

Kind = Literal["router", "service", "backend"]

STATES: Final[Mapping[Kind, tuple[str, ...]]] = {
    "router": ("active", "backup", "fault", "stop"),
    "service": ("serving", "refusing"),
    "backend": ("up", "down", "reserve"),
}
"""The states of each kind, as `to` names them."""


def is_named(on: Sequence[str], name: str) -> bool:
    """Return True if the globs name a router, a sync group, a service or a backend (SERVICE/BACKEND).

    Without globs everything is named.  The name of a service names its backends too.
    """
    service = name.partition("/")[0]
    return not on or any(fnmatchcase(name, glob) or fnmatchcase(service, glob) for glob in on)


def is_wanted(to: Sequence[str], kind: Kind) -> bool:
    """Return True if `to` asks for a state of this kind; an empty one asks for all."""
    return not to or not set(STATES[kind]).isdisjoint(to)


def is_told(one: Notify, kind: Kind, names: Collection[str]) -> bool:
    """Return True if a notification is for one of these routers, services or backends."""
    return is_wanted(one.to, kind) and any(is_named(one.on, name) for name in names)
