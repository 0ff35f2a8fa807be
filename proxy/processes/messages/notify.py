"""The messages between the master and the process that tells programs of services and backends."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Notifies:
    """To notify, first of all and at each change: the notifications, as `vrrp.settings.NotifySettings` as trees."""

    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Changes:
    """To notify: by name of a notification the changes that it is for, each as a list of words."""

    moves: dict[str, list[list[str]]]


@dataclass(frozen=True, slots=True)
class Finish:
    """To notify: pass on what waits within so many seconds, and end; a second one shortens the time."""

    patience: float


@dataclass(frozen=True, slots=True)
class Counted:
    """From notify, when they have changed: by name of a notification its counters, with "waiting"."""

    counters: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """From notify: a notification by name could not pass something on; `at` is Unix time."""

    name: str
    text: str
    at: float


Message = Notifies | Changes | Finish | Counted | Trouble
