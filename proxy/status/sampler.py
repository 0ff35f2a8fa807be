"""What happens per second, and how long it took lately: rates and recent latencies from counters that only grow [pure].

The master calls `sample` about once a second with the monotonic time. A rate is that of the last full second between
two samples. Latencies are those of the last minute, cut into steps of ten seconds: a percentile since the start would
hide today's trouble behind last week's calm.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from operator import sub
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

LEAST_INTERVAL: Final = 0.5
"""Seconds: a sample sooner after the last is ignored, so that a rate is never made of a sliver of time."""
STEP: Final = 10.0
STEPS: Final = 6


class _Track:
    __slots__ = ("due", "marks", "rate", "total")

    def __init__(self, total: int, cells: Sequence[int], due: float) -> None:
        self.due = due  # when the next mark is
        self.total = total
        self.rate = 0.0
        self.marks: deque[Sequence[int]] = deque([cells], maxlen=STEPS)


class Sampler(Generic[Key]):
    """Rates and recent histograms by key; memory is bounded by the keys of the last `sample`."""

    def __init__(self) -> None:
        self._tracks: dict[Key, _Track] = {}
        self._last = float("-inf")

    def sample(self, now: float, totals: Iterable[tuple[Key, int]], cells: Callable[[Key], Sequence[int]]) -> None:
        """Take (key, total) of everything there is, at `now` (monotonic seconds), and now and then its histogram.

        A key that is missing is forgotten; one that was not there before starts with this sample. `cells` is asked for
        the histogram of a new key, and of each once every `STEP` seconds: of a part of them in each sample.
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
        """Return how much the key's total grew a second; 0.0 for a key that has no two samples."""
        track = self._tracks.get(key)
        return 0.0 if track is None else track.rate

    def recent(self, key: Key, cells: Sequence[int]) -> list[int]:
        """Return the part of a histogram that was counted within the last minute (all of it for an unknown key)."""
        track = self._tracks.get(key)
        return list(cells) if track is None else list(map(sub, cells, track.marks[0]))
