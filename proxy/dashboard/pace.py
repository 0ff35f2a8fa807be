"""How often the dashboard looks: once a second, and more slowly where a look costs more [pure]."""

from typing import Final

LEAST: Final = 1.0
MOST: Final = 5.0
"""Seconds between two looks."""
SHARE: Final = 0.05
"""The share of a processor that looking may take here."""
WAITING: Final = 0.1
"""The share of the time in which the daemon may be at work on an answer, or a slow line be busy with it."""
AWAY: Final = (1.0, 2.0, 5.0)
"""Seconds before the next attempt while the daemon is away, the first, the second and every later time."""


def interval(spent: float, waited: float) -> float:
    """Return the seconds until the next look: the last one cost `spent` seconds of processor, and took `waited`."""
    return min(MOST, max(LEAST, spent / SHARE, waited / WAITING))


def again(failures: int) -> float:
    """Return the seconds until the next attempt after so many in a row that failed."""
    return AWAY[min(failures, len(AWAY)) - 1]
