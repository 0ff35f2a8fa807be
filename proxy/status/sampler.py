"""Computes rates and recent latencies from counters that only grow [pure].

The master calls `sample` about once a second with the monotonic time. A rate is that of the last full second between
two samples. Latencies are those of the last minute, cut into steps of ten seconds: a percentile since the start would
hide a problem of today behind a calm week.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from operator import sub
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

LEAST_INTERVAL: Final = 0.5
"""Seconds: an earlier sample after the last one is ignored, so that no rate is computed from a very short time."""
STEP: Final = 10.0
STEPS: Final = 6


class _Track:
    __slots__ = ("due", "marks", "rate", "total")

    def __init__(self, total: int, cells: Sequence[int], due: float) -> None:
        self.due = due  # time of the next mark
        self.total = total
        self.rate = 0.0
        self.marks: deque[Sequence[int]] = deque([cells], maxlen=STEPS)


class Sampler(Generic[Key]):
    """Rates and recent histograms by key; memory is bounded by the keys of the last `sample`."""

    def __init__(self) -> None:
        self._tracks: dict[Key, _Track] = {}
        self._last = float("-inf")

    def sample(self, now: float, totals: Iterable[tuple[Key, int]], cells: Callable[[Key], Sequence[int]]) -> None:
        """Take the (key, total) of every key at `now` (monotonic seconds), and the histograms of some.

        A missing key is forgotten; a new key starts with this sample. `cells` returns the histogram of a key: `sample`
        calls it for each new key, and for each key once every `STEP` seconds, for a part of the keys in each sample.
        """
        elapsed = now - self._last
        if elapsed < LEAST_INTERVAL:
            return
        self._last = now
        tracks: dict[Key, _Track] = {}
        for at, (key, total) in enumerate(totals):
            track = self._tracks.get(key)
            if track is None or total < track.total:  # new, or its slot changed hands
                track = _Track(total, tuple(cells(key)), now + STEP - at % STEP)
            else:
                track.rate = (total - track.total) / elapsed
                track.total = total
                if now >= track.due:
                    track.due += STEP * max(1, (now - track.due) // STEP)
                    track.marks.append(tuple(cells(key)))
            tracks[key] = track
        self._tracks = tracks

    def rate(self, key: Key) -> float:
        """Return the growth of the key's total per second; 0.0 for a key that does not have two samples yet."""
        track = self._tracks.get(key)
        return 0.0 if track is None else track.rate

    def recent(self, key: Key, cells: Sequence[int]) -> list[int]:
        """Return what a histogram counted in the last minute (the whole histogram for an unknown key)."""
        track = self._tracks.get(key)
        return list(cells) if track is None else list(map(sub, cells, track.marks[0]))
