"""The times of RFC 9568 section 6.1, in exact seconds, and the timer that makes a backup the active router.

A skew that is truncated to whole seconds makes all backups fire at once: nothing here is ever rounded.
"""

import math
from typing import Final

DOWN: Final = 3
"""Intervals without an advert until the active router counts as down."""


def skew_time(priority: int, interval: float) -> float:
    """Return the skew of a router: the higher its priority, the sooner it fires; `interval` is the active router's."""
    return (256 - priority) * interval / 256


def active_down_interval(priority: int, interval: float) -> float:
    """Return how long a backup listens in silence until it takes over."""
    return DOWN * interval + skew_time(priority, interval)


class ActiveDownTimer:
    """The Active_Down_Timer.

    It notes when it was set and for how many intervals, so that another priority moves the deadline at once.
    """

    __slots__ = ("_intervals", "_set_at", "interval")

    def __init__(self, interval: float) -> None:
        """Begin stopped, with our own advert interval in place of the active router's."""
        self.interval = interval
        self._intervals = 0
        self._set_at = math.inf

    def listen(self, now: float) -> None:
        """Set to Active_Down_Interval."""
        self._set_at, self._intervals = now, DOWN

    def hasten(self, now: float) -> None:
        """Shorten to Skew_Time: the active router has left.  A timer that fires before that is left alone."""
        if now < self._set_at + self._intervals * self.interval < math.inf:
            self._set_at, self._intervals = now, 0

    def listen_again(self, now: float) -> None:
        """Set to one interval and the skew: an active router that lives is heard within that."""
        self._set_at, self._intervals = now, 1

    def stop(self) -> None:
        """Fire no more until it is set again."""
        self._set_at = math.inf

    @property
    def hastened(self) -> bool:
        """Whether the active router itself has said that it leaves."""
        return self._intervals == 0

    def deadline(self, priority: int) -> float:
        """When it fires for a router of this priority; math.inf while stopped."""
        return self._set_at + self._intervals * self.interval + skew_time(priority, self.interval)
