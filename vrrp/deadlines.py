"""The earliest of many deadlines, found and changed at a cost that hardly grows with their number."""

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T", bound=Hashable)
_SPARE = 64  # entries out of date that are kept before the heap is made anew


class Deadlines(Generic[_T]):
    """Deadlines by whose they are.  An entry that is out of date stays in the heap until it comes up, or many are."""

    __slots__ = ("_at", "_heap", "_number")

    def __init__(self) -> None:
        """Begin without any."""
        self._at: dict[_T, float] = {}
        self._heap: list[tuple[float, int, _T]] = []
        self._number = itertools.count()

    def set(self, whose: _T, at: float | None) -> None:
        """Set or change a deadline; None: there is none."""
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
        """Return whose deadlines have come, the earliest first, and take these deadlines out."""
        found = []
        while (first := self.first) is not None and first <= now:
            whose = heapq.heappop(self._heap)[2]
            del self._at[whose]
            found.append(whose)
        return found
