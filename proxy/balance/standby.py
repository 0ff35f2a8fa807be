"""Picks among the backends that serve, and among those that stand by once every one that serves was tried in vain.

Laws:
- A backend that stands by is picked only if all that serve are excluded: whatever the scheduler, its turn is after theirs.
- Those that stand by have ranks, best first, and the next rank has its turn when the one before it is excluded whole.
  Within a rank the service's scheduler chooses, so that a tier takes over in the shares that it will have when it serves.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from proxy.balance import names
from proxy.balance.backend import Backend

if TYPE_CHECKING:
    from proxy.balance.selector import Selector

IN_PLACE_OF: Final = {
    names.MAGLEV: names.SOURCE_HASH,
    names.DESTINATION_AFFINITY: names.LEAST_CONNECTIONS,
    names.DESTINATION_AFFINITY_REPLICATED: names.LEAST_CONNECTIONS,
}
"""Schedulers of a rank that stands by where the service's has a table: filling one for a moment is not worth its time."""


class WithStandbys:
    """A selector of those that serve, with ranks of others behind it. A first pick costs what the selector's own costs."""

    __slots__ = ("_pick", "_ranks", "_watching", "backends", "needs_changes", "needs_key", "needs_ticks", "serving", "standbys")  # fmt: skip

    def __init__(self, serving: "Selector", ranks: Sequence["Selector"]) -> None:
        self.serving = serving
        self.backends = serving.backends
        self.standbys = tuple(backend for rank in ranks for backend in rank.backends)
        self.needs_key = serving.needs_key
        self.needs_ticks = serving.needs_ticks
        self._pick = serving.pick
        self._ranks = tuple(ranks)
        self._watching = tuple(one for one in (serving, *ranks) if one.needs_changes)
        self.needs_changes = bool(self._watching)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return a backend that serves, or the next one that stands by if all that serve are excluded."""
        picked = self._pick(key, exclude)
        if picked is None:
            for rank in self._ranks:
                picked = rank.pick(key, exclude)
                if picked is not None:
                    break
        return picked

    def changed(self, backend: Backend) -> None:
        """Take note that the load of a backend changed."""
        for one in self._watching:
            one.changed(backend)

    def refreshed(self) -> None:
        """Take note that the loads of many changed."""
        for one in self._watching:
            one.refreshed()

    def tick(self, now: float) -> None:
        """Let those that serve forget what is too old."""
        self.serving.tick(now)
