"""Counters of processes that may end before the daemon does: their sums never go back [pure].

The health process counts its probes' times, the vrrp process its adverts, herald its refusals; each begins with zeros.  A
counter is a list of numbers that only grow, under a key of words.  A source that is another life, or whose numbers are
smaller than before, has begun anew: what was seen of it is added to the base.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import add, lt
from typing import Any

Key = tuple[str, ...]


class Carried:
    """The sums by key.  A successor of this daemon goes on with `rows()`."""

    def __init__(self) -> None:
        self._base: dict[Key, list[float]] = {}
        self._seen: dict[Key, tuple[object, list[float]]] = {}

    def take(self, key: Key, life: object, values: Sequence[float]) -> list[float]:
        """Take what a life of a source has counted so far; return the sums."""
        before = self._seen.get(key)
        if before is not None and (
            before[0] != life or len(before[1]) != len(values) or any(map(lt, values, before[1]))
        ):
            self._fold(key)
        self._seen[key] = life, list(values)
        return self.sums(key)

    def count(self, key: Key) -> None:
        """Count one event, of a counter that is kept here alone."""
        base = self._base.setdefault(key, [0.0])
        base[0] += 1

    def sums(self, key: Key) -> list[float]:
        """Return the sums of a counter; an empty list if nothing is known of it."""
        base, seen = self._base.get(key), self._seen.get(key)
        if seen is None:
            return list(base or ())
        if base is None or len(base) != len(seen[1]):
            return list(seen[1])
        return list(map(add, base, seen[1]))

    def keep(self, wanted: Callable[[Key], bool]) -> None:
        """Forget counters of what the configuration no longer has."""
        for known in (self._base, self._seen):
            for key in [key for key in known if not wanted(key)]:
                del known[key]

    def rows(self) -> list[list[Any]]:
        """Return all sums for JSON: [[key, values], ...]."""
        return [[list(key), self.sums(key)] for key in dict.fromkeys([*self._base, *self._seen])]

    def restore(self, rows: Iterable[Sequence[Any]]) -> None:
        """Go on from the sums of a predecessor."""
        for key, values in rows:
            name, found = tuple(map(str, key)), [float(value) for value in values]
            base = self._base.get(name)
            self._base[name] = found if base is None or len(base) != len(found) else list(map(add, base, found))

    def _fold(self, key: Key) -> None:
        values = self._seen.pop(key)[1]
        base = self._base.get(key)
        self._base[key] = values if base is None or len(base) != len(values) else list(map(add, base, values))
