"""Which states have changed since programs were last told, and whom each change is for [pure].

Laws:
- What was never told of counts as well: a backend as up, a service as serving.  So a start tells only of what fails.
- A state is told once, also across restarts: what was told last is kept.
- An unknown state is no change: a backend that comes back from maintenance as it was is not told.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from proxy.config.model import Notify
from proxy.config.notify_choice import STATES, is_named
from proxy.words import printable

REASON: Final = 300
"""Characters of a reason that are passed on."""
_WELL: Final = {"service": "serving", "backend": "up"}


@dataclass(frozen=True, slots=True)
class Known:
    """A state of a service or a backend; the name of a backend is SERVICE/BACKEND.

    `number` is the weight of a backend, and the number of usable backends of a service.
    """

    kind: Literal["service", "backend"]
    name: str
    state: str
    number: float
    reason: str

    @property
    def move(self) -> list[str]:
        """The words that a program gets: BACKEND, dns/10.0.0.11, DOWN, 1, and the reason."""
        return [
            self.kind.upper(), self.name, self.state.upper(), f"{self.number:g}", printable(self.reason)[:REASON],
        ]  # fmt: skip


class Told:
    """The states that programs were told last."""

    def __init__(self, states: Any = None) -> None:
        """Begin with what `tree` returned; anything else counts as nothing."""
        self._states: dict[str, str] = {}
        if isinstance(states, Mapping):
            self._states = {
                str(name): state
                for name, state in states.items()
                if state in (*STATES["service"], *STATES["backend"]) and state not in _WELL.values()
            }

    def news(self, rows: Iterable[Known]) -> list[Known]:
        """Return the states that are others than those told, and note them as told."""
        found = [one for one in rows if self._states.get(one.name, _WELL[one.kind]) != one.state]
        for one in found:
            if one.state == _WELL[one.kind]:
                del self._states[one.name]
            else:
                self._states[one.name] = one.state
        return found

    def keep(self, names: Collection[str]) -> None:
        """Forget services and backends that are gone."""
        self._states = {name: state for name, state in self._states.items() if name in names}

    @property
    def tree(self) -> dict[str, str]:
        """What is to be kept: by name the states of all that is not well."""
        return dict(sorted(self._states.items()))


def chosen(notifies: Sequence[Notify], rows: Sequence[Known]) -> dict[str, list[list[str]]]:
    """Return by name of a notification the words of each change that it is for."""
    found: dict[str, list[list[str]]] = {}
    for one in notifies:
        wanted = [row.move for row in rows if (not one.to or row.state in one.to) and is_named(one.on, row.name)]
        if wanted:
            found[one.name] = wanted
    return found
