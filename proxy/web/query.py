"""The parameters of `/events.json` [pure]."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

MOST: Final = 2_000
"""Events of an answer."""
USUAL: Final = 200


class QueryError(ValueError):
    """A parameter makes no sense; says which, and what it should be."""


def wanted(query: Mapping[str, str]) -> tuple[int, float]:
    """Return how many events are asked for (`n`), and since when (`since`, Unix seconds).  Raises QueryError."""
    unknown = sorted(set(query) - {"n", "since"})
    if unknown:
        raise QueryError(f"unknown parameter {unknown[0][:40]!r}: n and since are known")
    return _number(query.get("n")), _since(query.get("since"))


def _number(text: str | None) -> int:
    if text is None:
        return USUAL
    if not (text.isascii() and text.isdecimal() and len(text) < 10):  # noqa: PLR2004 - int() of more digits takes longer
        raise QueryError("n is a number of events")
    return min(int(text), MOST)


def _since(text: str | None) -> float:
    if text is None:
        return -math.inf
    if len(text) <= 40:  # noqa: PLR2004 - what a time may have
        try:
            found = float(text)
        except ValueError:
            found = _moment(text)
        if math.isfinite(found):
            return found
    raise QueryError("since is a time: Unix seconds or RFC 3339, as 2026-01-31T12:00:00Z")


def _moment(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return at.timestamp() if at.tzinfo is not None else math.nan


def selected(events: Sequence[Mapping[str, Any]], n: int, since: float) -> list[Mapping[str, Any]]:
    """Return the last `n` events from `since` on, oldest first."""
    found = [event for event in events if at(event) >= since]
    return found[len(found) - min(n, len(found)) :]


def at(event: Mapping[str, Any]) -> float:
    """Return the time of an event, which has it as Unix seconds or as RFC 3339."""
    when = event.get("at")
    return float(when) if isinstance(when, int | float) else _moment(str(when))
