"""Picks a serving backend, or a standby after all serving backends were tried.

Laws:
- A standby is picked only if all serving backends are excluded, whatever the scheduler.
- Standbys have ranks, the best first; the next rank is used when all of the rank before it is excluded.  Within a rank
  the service's scheduler chooses, so that a tier has the same shares now as when it serves.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from proxy.balance import names
from proxy.balance.backend import Backend
from proxy.balance.trivial import Heedless

if TYPE_CHECKING:
    from proxy.balance.selector import Selector

IN_PLACE_OF: Final = {
    names.MAGLEV: names.SOURCE_HASH,
    names.DESTINATION_AFFINITY: names.LEAST_CONNECTIONS,
    names.DESTINATION_AFFINITY_REPLICATED: names.LEAST_CONNECTIONS,
}
"""A scheduler with a table -> the scheduler for ranks of standbys: filling a table for a moment is not worth its time."""


class WithStandbys(Heedless):
    """A selector of the serving backends, followed by ranks of standbys. A first pick costs the same as without them."""

    __slots__ = ("_ranks", "_watching", "needs_changes", "needs_key", "needs_ticks", "serving", "standbys")  # fmt: skip

    def __init__(self, serving: "Selector", ranks: Sequence["Selector"]) -> None:
        super().__init__(serving.backends)
        self.serving = serving
        self.standbys = tuple([backend for rank in ranks for backend in rank.backends])
        self.needs_key = serving.needs_key
        self.needs_ticks = serving.needs_ticks
        self._ranks = tuple(ranks)
        self._watching = tuple([one for one in (serving, *ranks) if one.needs_changes])
        self.needs_changes = bool(self._watching)

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return a serving backend, or the next standby if all serving ones are excluded."""
        picked = self.serving.pick(key, exclude)
        if picked is None:
            for rank in self._ranks:
                picked = rank.pick(key, exclude)
                if picked is not None:
                    break
        return picked

    def changed(self, backend: Backend) -> None:
        """Note a change of a backend's load."""
        for one in self._watching:
            one.changed(backend)

    def refreshed(self) -> None:
        """Note changes of many backends' loads."""
        for one in self._watching:
            one.refreshed()

    def tick(self, now: float) -> None:
        """Let the serving selector drop old entries."""
        self.serving.tick(now)
