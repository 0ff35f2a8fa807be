"""failover (ipvsadm: fo): the first usable backend takes everything; highest weight first, then file order.

Who is first is chosen for the whole host (`choice`): the others stand by, and are tried where it cannot be reached.
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


def turn(backend: Backend) -> tuple[bool, int, int]:
    """Return what backends are ordered by: who serves first, then by weight, then as in the file."""
    return backend.verdict != "up", -backend.weight, backend.index
