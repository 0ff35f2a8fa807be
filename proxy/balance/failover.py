"""failover (ipvsadm: fo): the first usable backend by tier (lowest), weight (highest) and file order takes everything.

The master chooses one for the whole host, and the others are standbys (`standby`). Several serve only if a service
fails open.
"""

from collections.abc import Collection

from proxy.balance.backend import Backend
from proxy.balance.trivial import Heedless


class Failover(Heedless):
    """Picks the first of `backends`, which it sorts. O(1)."""

    __slots__ = ("_first",)

    def __init__(self, backends: tuple[Backend, ...]) -> None:
        super().__init__(tuple(sorted(backends, key=turn)))
        self._first = self.backends[0]

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the first backend that was not tried already."""
        if not exclude:
            return self._first
        for backend in self.backends:
            if backend not in exclude:
                return backend
        return None


def turn(backend: Backend) -> tuple[int, int, int]:
    """Return the sort key of backends: tier, then weight, then file order."""
    return backend.tier, -backend.weight, backend.index
