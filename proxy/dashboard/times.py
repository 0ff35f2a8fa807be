"""Times in few cells [pure]."""

from datetime import datetime
from itertools import pairwise
from typing import Any, Final

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_DAY: Final = 86400
_LATEST: Final = 1e12


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
    """Return the Unix seconds of an event's time, which is a number or RFC 3339; None for anything else."""
    if isinstance(at, int | float) and not isinstance(at, bool):
        return float(at) if abs(at) < _LATEST else None
    try:
        return datetime.fromisoformat(at).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def hour(at: float, now: float) -> str:
    """Return a Unix time in local time: "18:22:10", or "11-22 18:22:10" if it was more than a day ago."""
    try:
        then = datetime.fromtimestamp(at).astimezone()
    except (ValueError, OverflowError, OSError):
        return "?"
    return f"{then:%H:%M:%S}" if abs(now - at) < _DAY else f"{then:%m-%d %H:%M:%S}"
