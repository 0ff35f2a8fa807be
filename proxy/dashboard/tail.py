"""The bottom of the picture: the last events, and the line of keys [pure]."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from proxy.dashboard.rows import View
from proxy.dashboard.text import Glyphs, Line, Segment, Style, clipped, fit, segment, spread, width
from proxy.dashboard.times import hour, seconds
from proxy.words import printable

Event = Mapping[str, Any]

_STYLES: Final[Mapping[str, Style]] = {"warning": "warn", "error": "bad"}
_ROOMS: Final = ((24, 4), (40, 8), (10_000, 14))
"""Lines of a screen, up to which it has so many lines of events."""


def room(screen: int) -> int:
    """Return how many lines of events a screen of so many lines has, without their heading."""
    if screen < 16:  # noqa: PLR2004 - the list is worth more than events
        return 0
    return next(most for lines, most in _ROOMS if screen <= lines)


def heading(cells: int, glyphs: Glyphs, *, silent: str = "") -> Line:
    """Return the line above the events; `silent` says why there are none."""
    title = f"{glyphs.rule * 2} Events, the newest first {printable(silent)}"
    return clipped((segment(title + glyphs.rule * max(0, cells - width(title)), "head"),), cells, glyphs.cut)


def events(found: Sequence[Event], most: int, now: float, cells: int, glyphs: Glyphs) -> list[Line]:
    """Return the lines of the last events, the newest first; `found` has the newest last."""
    shown = list(reversed(found))[:most]
    hours = [when(event, now) for event in shown]
    size = max(map(len, hours), default=0)
    return [_event(event, text.ljust(size), cells, glyphs) for event, text in zip(shown, hours, strict=True)]


def when(event: Event, now: float) -> str:
    """Return the time of an event, "?" if it has none."""
    at = seconds(event.get("at"))
    return "?" if at is None else hour(at, now)


def _event(event: Event, hours: str, cells: int, glyphs: Glyphs) -> Line:
    style = _STYLES.get(str(event.get("level")), "")
    kind, subject, text = (str(event.get(key) or "") for key in ("kind", "subject", "text"))
    kind_size, subject_size = (8, 20) if cells < 110 else (9, 28)  # noqa: PLR2004 - as the list has it
    line = [
        segment(f" {hours} ", "dim"),
        Segment(fit(kind, kind_size, glyphs.cut) + " ", "dim"),
        Segment((subject if len(subject) > subject_size else fit(subject, subject_size, glyphs.cut)) + "  "),
        segment(text, style),
    ]
    return clipped([segment(*part) for part in line], cells, glyphs.cut)


def keys(view: View, cells: int, glyphs: Glyphs, *, writable: bool, detail: bool = False) -> Line:
    """Return the line of keys, the most useful first; what has no room is left out."""
    if detail:
        wanted = [("Esc", "back"), ("?", "help"), ("up/down", "scroll")]
    else:
        wanted = [("?", "help"), ("Enter", "open"), ("/", "filter"), ("s", f"sort: {view.order}"), ("z", "fold all"),
                  ("t", "all" if view.trouble else "trouble")]  # fmt: skip
    if writable:
        wanted += [("d", "drain"), ("m", "maint"), ("r", "ready"), ("w", "weight"), ("x", "remove")]
        wanted += [] if detail else [("a", "add")]
    wanted += [] if detail else [("q", "quit")]
    right = [Segment("read-write " if writable else "read-only ", "warn" if writable else "dim")]
    left: list[Segment] = []
    room = cells - len(right[0].text) - 1
    for key, what in wanted:
        if room >= len(key) + len(what) + 4:
            left += [Segment(f" {key} ", "key"), Segment(f" {what} ")]
            room -= len(key) + len(what) + 4
    return spread(left, right, cells, glyphs.cut)
