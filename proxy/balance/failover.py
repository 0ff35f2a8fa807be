"""failover (ipvsadm: fo): the first usable backend takes everything; lowest tier first, then highest weight, then file order.

The master chooses one for the whole host, and the others stand by (`standby`). Several serve only where a service fails
open.
"""

from collections.abc import Collection

from proxy.balance.backend import Backend
from proxy.balance.trivial import Heedless


class Failover(Heedless):
    """All to the first of `backends`, which are ordered here. O(1)."""

    __slots__ = ("_first",)

    def __init__(self, backends: tuple[Backend, ...]) -> None:
        super().__init__(tuple(sorted(backends, key=turn)))
        self._first = self.backends[0]

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the first that was not tried already."""
        if not exclude:
            return self._first
        for backend in self.backends:
            if backend not in exclude:
                return backend
        return None


def turn(backend: Backend) -> tuple[int, int, int]:
    """Return what backends are ordered by: tier, then weight, then as in the file."""
    return backend.tier, -backend.weight, backend.index
