"""source-hash (ipvsadm: sh): a client keeps its backend, which its hash chooses in proportion to the weights.

As in ip_vs_sh.c each backend owns as many buckets as its weight, and, as with its flag sh-fallback, a client whose
backend is not usable goes to the bucket of a second hash. Unlike there, the number of buckets is the sum of the
weights, not 256, so shares are exact. The buckets are laid out over all configured backends in the order of their
names: a verdict moves only the clients of its backend, and both hosts agree, whatever the order in their files.
"""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Final

from proxy.balance.backend import Backend
from proxy.balance.hashing import rehash
from proxy.balance.trivial import Heedless

HOPS: Final = 8
"""The most buckets that a client tries before it is hashed over the usable backends only."""


class SourceHash(Heedless):
    """Hash by weight over all configured backends, and hash again if the backend is not usable. O(log n)."""

    __slots__ = ("_ends", "_owners", "_total", "_usable_ends")

    needs_key = True

    def __init__(self, usable: Sequence[Backend], configured: Sequence[Backend]) -> None:
        members = frozenset(usable)
        layout = by_name(members.union(configured))
        super().__init__(by_name(members))
        self._ends = tuple(accumulate(backend.weight for backend in layout))
        self._total = self._ends[-1]
        self._owners = tuple(backend if backend in members else None for backend in layout)
        self._usable_ends = tuple(accumulate(backend.weight for backend in self.backends))

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return the key's backend, or its next one: always the same for the same key, `exclude` and members."""
        backend = self._owners[bisect_right(self._ends, key % self._total)]
        if backend is not None and backend not in exclude:
            return backend
        return self._next(key, exclude)

    def _next(self, key: int, exclude: Collection[Backend]) -> Backend | None:
        for _ in range(HOPS):
            key = rehash(key)
            backend = self._owners[bisect_right(self._ends, key % self._total)]
            if backend is not None and backend not in exclude:
                return backend
        key = rehash(key)
        last = self._usable_ends[-1]
        return first_left(self.backends, bisect_right(self._usable_ends, key % last), exclude)


def by_name(backends: Collection[Backend]) -> tuple[Backend, ...]:
    """Return backends in the order of their names: the same on every host."""
    return tuple(sorted(backends, key=lambda backend: backend.name))


def first_left(backends: Sequence[Backend], start: int, exclude: Collection[Backend]) -> Backend | None:
    """Return the first backend from `start` on, in a circle, that is not in `exclude`; None if there is none."""
    count = len(backends)
    for place in range(start, start + count):
        backend = backends[place % count]
        if backend not in exclude:
            return backend
    return None
