"""Finds the earliest of many deadlines; the cost of finding and changing one hardly grows with their number."""

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T", bound=Hashable)
_SPARE = 64  # outdated entries that may stay before the heap is rebuilt


class Deadlines(Generic[_T]):
    """Deadlines by owner.  An outdated entry stays in the heap until it reaches the top, or until there are many."""

    __slots__ = ("_at", "_heap", "_number")

    def __init__(self) -> None:
        """Begin without any."""
        self._at: dict[_T, float] = {}
        self._heap: list[tuple[float, int, _T]] = []
        self._number = itertools.count()

    def set(self, whose: _T, at: float | None) -> None:
        """Set or change the deadline of `whose`; None removes it."""
        if at is None:
            self._at.pop(whose, None)
        elif self._at.get(whose) != at:
            self._at[whose] = at
            heapq.heappush(self._heap, (at, next(self._number), whose))
            if len(self._heap) > 2 * len(self._at) + _SPARE:
                self._heap = [(when, next(self._number), one) for one, when in self._at.items()]
                heapq.heapify(self._heap)

    @property
    def first(self) -> float | None:
        """The earliest deadline; None if there is none."""
        while self._heap:
            at, _, whose = self._heap[0]
            if self._at.get(whose) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def due(self, now: float) -> list[_T]:
        """Remove the deadlines that have come; return their owners, the earliest first."""
        found = []
        while (first := self.first) is not None and first <= now:
            whose = heapq.heappop(self._heap)[2]
            del self._at[whose]
            found.append(whose)
        return found
