"""The colours of the styles, for the shell; every meaning that they carry is in a word or a sign as well."""

from typing import Final

from rich.segment import Segment as Part
from rich.style import Style as Look
from textual.strip import Strip

from proxy.dashboard.text import Line, Segment, Style, length

GROUND: Final = "#10151c"
RAISED: Final = "#1a222c"
CHOSEN: Final = "#26374a"

_LOOKS: Final[dict[Style, Look]] = {
    "": Look(color="#c9d1d9"),
    "dim": Look(color="#7d8896"),
    "bold": Look(color="#e6edf3", bold=True),
    "title": Look(color="#ffffff", bold=True),
    "good": Look(color="#56c278"),
    "warn": Look(color="#e3b341"),
    "bad": Look(color="#ff7b72", bold=True),
    "info": Look(color="#6cb6ff"),
    "curve": Look(color="#4c84bd"),
    "head": Look(color="#93a1b1", bgcolor=RAISED),
    "key": Look(color="#0d1117", bgcolor="#93a1b1"),
}
_PALE: Final = Look(color="#66707c")


def strip(line: Line, cells: int, *, pale: bool = False, chosen: bool = False, colour: bool = True) -> Strip:
    """Return a line for the screen, filled up to `cells`: `pale` if it is out of date, `chosen` if it is selected."""
    ground = Look(bgcolor=CHOSEN) if colour else Look(reverse=True)
    filled = (
        *line,
        Segment(" " * max(0, cells - length(line)), line[-1].style if line and line[-1].style == "head" else ""),
    )
    parts = []
    for text, style in filled:
        look = _PALE if pale and style not in {"key", "head"} else _LOOKS[style]
        parts.append(Part(text, look + ground if chosen else Look(bgcolor=GROUND) + look))
    return Strip(parts, cells).crop(0, cells)
