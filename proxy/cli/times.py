"""Times as people type and read them [pure]."""

import re
from datetime import datetime, time, timedelta
from itertools import pairwise
from typing import Any, Final

from proxy.moments import unix

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_AGO: Final = re.compile(r"(?:[0-9]{1,9}[smhdw])+", re.ASCII)
_PART: Final = re.compile(r"([0-9]+)([smhdw])", re.ASCII)
_SPANS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def parse_time(text: str, now: float) -> float:
    """Return the Unix seconds that `text` means at `now`; ValueError, in words, for what means none.

    "10m", "1h30m" (so long ago), "now", "today", "yesterday" (their midnight), "14:30" (today), an ISO date or time
    (local unless it says otherwise), or "@" and Unix seconds.
    """
    local = datetime.fromtimestamp(now).astimezone()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if text in {"now", "today", "yesterday"}:
        day = midnight - timedelta(days=1) if text == "yesterday" else midnight
        return now if text == "now" else _local(day)
    if _AGO.fullmatch(text):
        return now - sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))
    try:
        if text.startswith("@"):
            return datetime.fromtimestamp(float(text[1:])).astimezone().timestamp()
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", text, re.ASCII):
            return _local(datetime.combine(midnight, time.fromisoformat(text.zfill(5))))
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f'"{text[:40]}" is no time: write 10m, 2h, today, 14:30, 2026-11-22 or 2026-11-22T14:30'
        ) from None


def _local(moment: datetime) -> float:
    return moment.replace(tzinfo=None).astimezone().timestamp()  # the offset of that moment, not of now


def unix_of(at: Any) -> float | None:
    """Return the Unix seconds of a time in a daemon's answer; None for null, and for what is no time."""
    try:
        return None if at is None else unix(at)
    except ValueError:
        return None


def moment(at: Any) -> str:
    """Return a time in a daemon's answer as "2026-11-22 18:22:10+01:00": local time with its zone, as `--since` takes it."""
    found = unix_of(at)
    try:
        return "?" if found is None else datetime.fromtimestamp(int(found)).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return "?"


def ago(at: Any, now: float) -> str:
    """Return how long ago a time in a daemon's answer is: "3d 4h"; "-" if it is unknown."""
    found = unix_of(at)
    return "-" if found is None else span(now - found)


def span(seconds: float) -> str:
    """Return a length of time in its two largest units: "3d 4h", "12s"."""
    left = max(0, int(seconds))
    for (unit, size), (smaller, part) in pairwise(_SPANS):
        if left >= size:
            rest = left % size // part
            return f"{left // size}{unit} {rest}{smaller}" if rest else f"{left // size}{unit}"
    return f"{left}s"
