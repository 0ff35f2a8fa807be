"""Points in time in JSON: RFC 3339, in UTC, to the millisecond [pure]."""

from datetime import UTC, datetime
from typing import Any, Final, overload

LAST: Final = 253_402_300_799.0
"""Unix seconds of the last second that has a form."""


@overload
def rfc3339(at: float) -> str: ...
@overload
def rfc3339(at: float | None) -> str | None: ...
def rfc3339(at: float | None) -> str | None:
    """Return a Unix time from 0 to LAST as "2026-11-22T17:22:10.123Z"; None for None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix(value: Any) -> float:
    """Return the Unix time that is a number or a text of RFC 3339 with its zone; ValueError for anything else."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("no time") from None
        if found.tzinfo is None:
            raise ValueError("a time without its zone")
        value = found.timestamp()
    # Compared before it is converted: an integer may be larger than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LAST:
        raise ValueError("no time")
    return round(float(value), 3)
