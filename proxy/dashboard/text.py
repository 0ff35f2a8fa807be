"""Lines of styled text whose width in terminal cells is known [pure].

A line is a tuple of segments; a segment is a text and the name of a style. Texts come from a daemon that repeats what
hostile servers said, so every function here that takes a text makes it printable. Nothing interprets markup.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from rich.cells import cell_len, set_cell_size

from proxy.words import printable

Style = Literal["", "dim", "bold", "good", "warn", "bad", "info", "head", "title", "key", "curve"]


class Segment(NamedTuple):
    """A text in one style."""

    text: str
    style: Style = ""


Line = tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of a picture: those of Unicode, or those that every terminal has."""

    good: str
    part: str
    bad: str
    unknown: str
    open: str
    folded: str
    levels: str
    """From nothing to the most, for a sparkline."""
    bar: str
    rule: str
    cut: str
    warning: str
    here: str
    away: str


UNICODE: Final = Glyphs("●", "◐", "✖", "?", "▾", "▸", "▁▂▃▄▅▆▇█", "█", "─", "…", "▲", "◆", "◇")
ASCII: Final = Glyphs("+", "~", "x", "?", "v", ">", "_.:-=+*#", "#", "-", "~", "!", "*", "o")


def segment(text: str, style: Style = "") -> Segment:
    """Return a text of anybody as a segment."""
    return Segment(printable(text), style)


def width(text: str) -> int:
    """Return the number of terminal cells that a text takes."""
    return len(text) if text.isascii() else cell_len(text)


def length(line: Iterable[Segment]) -> int:
    """Return the number of terminal cells that a line takes."""
    return sum(width(part.text) for part in line)


def plain(line: Iterable[Segment]) -> str:
    """Return the text of a line, without what stands behind it."""
    return "".join(part.text for part in line).rstrip()


def fit(text: str, cells: int, cut: str = UNICODE.cut, *, right: bool = False) -> str:
    """Return the text in exactly `cells` cells: filled with spaces, or cut with a mark where it is too long."""
    text = printable(text)
    missing = cells - width(text)
    if missing >= 0:
        return " " * missing + text if right else text + " " * missing
    return set_cell_size(text, cells - 1) + cut if cells > 0 else ""


def clipped(line: Sequence[Segment], cells: int, cut: str = UNICODE.cut) -> Line:
    """Return the line in at most `cells` cells, cut with a mark where it is longer."""
    if length(line) <= cells:
        return tuple(line)
    kept: list[Segment] = []
    left = cells
    for part in line:
        if width(part.text) >= left:
            return (*kept, Segment(fit(part.text + " ", left, cut), part.style))
        kept.append(part)
        left -= width(part.text)
    return tuple(kept)


def spread(left: Sequence[Segment], right: Sequence[Segment], cells: int, cut: str = UNICODE.cut) -> Line:
    """Return a line with one part at each edge; the left one is cut if both have no room."""
    room = cells - length(right)
    if room < 1:
        return clipped(left, cells, cut)
    left = clipped(left, room - 1, cut)
    return (*left, Segment(" " * (room - length(left))), *right)


def flow(chunks: Iterable[Sequence[Segment]], cells: int, indent: int, cut: str = UNICODE.cut) -> list[Line]:
    """Return lines of chunks, three spaces apart; what finds no room begins a further line, indented."""
    lines: list[Line] = []
    now: Line = ()
    for chunk in chunks:
        if not chunk:
            continue
        if now and length(now) + 3 + length(chunk) > cells:
            lines.append(now)
            now = (Segment(" " * indent), *chunk)
        else:
            now = (*now, Segment("   "), *chunk) if now else tuple(chunk)
        now = clipped(now, cells, cut)
    return [*lines, now] if now else lines


def wrapped(text: str, cells: int, most: int, cut: str = UNICODE.cut) -> list[str]:
    """Return the text in at most `most` lines of at most `cells` cells, broken between words where it can be."""
    words = printable(text).split()
    lines: list[str] = []
    now = ""
    for at, word in enumerate(words):
        longer = f"{now} {word}" if now else word
        if width(longer) <= cells:
            now = longer
            continue
        if len(lines) == most - 1:
            rest = " ".join(words[at:])
            return [*lines, fit(f"{now} {rest}" if now else rest, cells, cut)]
        if now:
            lines.append(now)
        now = fit(word, cells, cut).rstrip()
    return [*lines, now] if now else lines


def quantity(number: float) -> str:
    """Return a number in at most five characters: "0", "0.4", "812", "8.4k", "12M"."""
    if number <= 0:
        return "0"
    if number < 0.05:  # noqa: PLR2004 - would be rounded to 0.0, and is not nothing
        return "<0.1"
    for unit in ("", "k", "M", "G", "T"):
        if number < 9.95 and not (unit == "" and number == int(number)):  # noqa: PLR2004 - one digit before the point
            return f"{number:.1f}{unit}"
        if number < 999.5:  # noqa: PLR2004 - three digits
            return f"{number:.0f}{unit}"
        number /= 1000
    return ">1P"


def milliseconds(value: float | None) -> str:
    """Return a time in at most five characters: "0.41", "4.1", "123" are milliseconds, "1.2s" says seconds."""
    if value is None:
        return "-"
    if value < 0.995:  # noqa: PLR2004 - two digits behind the point
        return f"{value:.2f}"
    if value < 9.95:  # noqa: PLR2004 - one digit
        return f"{value:.1f}"
    return f"{value:.0f}" if value < 999.5 else f"{quantity(value / 1000)}s"  # noqa: PLR2004 - three digits


def spark(values: Sequence[float], cells: int, glyphs: Glyphs) -> str:
    """Return the last values as a curve whose highest point is their largest; spaces where there is none yet."""
    shown = values[-cells:] if cells > 0 else ()
    most = max(shown, default=0.0)
    top = len(glyphs.levels) - 1
    curve = "".join(
        glyphs.levels[0 if most <= 0 or value <= 0 else max(1, round(value / most * top))] for value in shown
    )
    return curve.rjust(cells)
