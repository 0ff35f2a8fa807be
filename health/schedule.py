"""When the next probe is due: pure, one object a question, `now` in monotonic seconds everywhere.

Intervals are counted from start to start, but a probe that is still running is never overlapped: the next one starts at
the earliest when it has ended.  Each wait is jittered by 10 % either way, so that probes which started together drift
apart (H5).  A hint brings the next start forward, but never nearer to the last one than the fast interval (H12).
"""

import random
from dataclasses import dataclass

from health.state import Phase

JITTER = 0.1  # of each interval, either way
START_WINDOW = 0.5  # seconds within which all first probes start, if their interval is not shorter
GRAIN = 0.2  # seconds: due probes start together at multiples of it, for fewer and warmer wake-ups
FINEST = 0.1  # of an interval, no more than the jitter: short ones have a finer grain
START_STEP = 0.005  # seconds between two first probes where there are few: a new daemon should serve soon


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
    """The starts of one question's probe.  The owner says when one started and finished; `due` is the next start."""

    __slots__ = ("_hinted", "_rng", "_started", "due", "fast")

    def __init__(self, due: float, fast: float, rng: random.Random) -> None:
        """Make the first probe due at `due`; `fast` (seconds) is the least distance of hinted starts."""
        self.due: float | None = due
        self.fast = fast
        self._rng = rng
        self._started: float | None = None
        self._hinted = False

    def started(self, now: float) -> None:
        """Note that a run began: nothing is due until it has finished."""
        self._started = now
        self._hinted = False
        self.due = None

    def finished(self, now: float, wait: float) -> float:
        """Note that the run ended, the next one to start `wait` seconds after its start; returns when that is due."""
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
        """Bring the next start forward, because traffic failed; whether `due` changed.

        While a probe runs the hint is kept: its result may be older than the failure, so the next one comes soon.
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
        """Apply a shorter interval at once (a new subscriber, a reload); whether `due` changed."""
        if self.due is None or self._started is None:
            return False
        due = max(now, self._started + wait)
        if due >= self.due:
            return False
        self.due = due
        return True
