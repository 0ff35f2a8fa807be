"""Times in few cells [pure]."""

from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from proxy.moments import unix

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_DAY: Final = 86400


def short(seconds: float) -> str:
    """Return a length of time in at most six cells: "4s", "12m", "3h20m", "5d4h", "120d"."""
    left = max(0, int(seconds))
    for (size, unit), (smaller, less) in pairwise(_UNITS):
        if left >= size:
            rest = left % size // smaller
            whole = f"{left // size}{unit}"
            return f"{whole}{rest}{less}" if rest and len(whole) < 4 else whole  # noqa: PLR2004 - six cells are enough
    return f"{left}s"


def seconds(at: Any) -> float | None:
    """Return the Unix seconds of a time in a snapshot or an event, which is RFC 3339 or a number; None for anything else."""
    try:
        return unix(at)
    except ValueError:
        return None


def hour(at: float, now: float) -> str:
    """Return a Unix time in local time: "18:22:10", or "11-22 18:22:10" if it was more than a day ago."""
    try:
        then = datetime.fromtimestamp(at).astimezone()
    except (ValueError, OverflowError, OSError):
        return "?"
    return f"{then:%H:%M:%S}" if abs(now - at) < _DAY else f"{then:%m-%d %H:%M:%S}"
