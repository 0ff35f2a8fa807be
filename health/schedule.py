"""Decides when the next probe is due: pure, one object a question, `now` in monotonic seconds everywhere.

An interval runs from start to start, but two runs never overlap: the next run starts only after the previous one has
ended.  Each wait varies by 10 % either way, so that probes that started together drift apart (H5).  A hint brings the next
start forward, but never nearer to the last one than the fast interval (H12).
"""

import random
from dataclasses import dataclass

from health.state import Phase

JITTER = 0.1  # of each interval, either way
START_WINDOW = 0.5  # seconds within which all first probes start, if their interval is not shorter
GRAIN = 0.2  # seconds: due probes start together at multiples of this, for fewer and warmer wake-ups
FINEST = 0.1  # the grain is at most this part of an interval, so that it does not exceed the jitter
START_STEP = 0.005  # seconds between two first probes if there are few, because a new daemon should serve soon


@dataclass(frozen=True, slots=True)
class Pace:
    """The intervals of one subscriber, in seconds."""

    interval: float
    fast: float
    down: float

    def wait(self, phase: Phase) -> float:
        """Return the interval that applies in `phase` (H6)."""
        if phase == "steady":
            return self.interval
        return self.fast if phase == "transition" else self.down


def first_delay(position: int, count: int, interval: float) -> float:
    """Return how long the probe at `position` of `count` new ones waits before its first run, in seconds (H5)."""
    return position * min(START_STEP, min(interval, START_WINDOW) / count)


class Schedule:
    """Schedules the runs of one question.  The owner reports each start and end; `due` is the next start."""

    __slots__ = ("_hinted", "_rng", "_started", "due", "fast")

    def __init__(self, due: float, fast: float, rng: random.Random) -> None:
        """Schedule the first run for `due`; a hinted start is at least `fast` seconds after the last one."""
        self.due: float | None = due
        self.fast = fast
        self._rng = rng
        self._started: float | None = None
        self._hinted = False

    def started(self, now: float) -> None:
        """Note that a run has started: nothing is due until it has finished."""
        self._started = now
        self._hinted = False
        self.due = None

    def finished(self, now: float, wait: float) -> float:
        """Note that the run has ended; return the next due time, `wait` seconds after the start of that run."""
        if self._started is None:
            raise ValueError("a probe finished that never started")
        grain = min(GRAIN, wait * FINEST)
        wait *= 1 - JITTER + 2 * JITTER * self._rng.random()
        due = round((self._started + wait) / grain) * grain
        if self._hinted:
            due = min(due, self._started + self.fast)
        self.due = max(now, due)
        return self.due

    def hint(self, now: float) -> bool:
        """Bring the next start forward because traffic failed; return True if `due` changed.

        A hint during a run is kept: the result may be older than the failure, so the next run comes soon.
        """
        if self.due is None:
            self._hinted = True
            return False
        earliest = now if self._started is None else max(now, self._started + self.fast)
        if earliest >= self.due:
            return False
        self.due = earliest
        return True

    def shorten(self, now: float, wait: float) -> bool:
        """Apply a shorter interval at once (a new subscriber, a reload); return True if `due` changed."""
        if self.due is None or self._started is None:
            return False
        due = max(now, self._started + wait)
        if due >= self.due:
            return False
        self.due = due
        return True
