"""Aligned columns of text, with colour where it is wanted [pure].

Cells come from a daemon that repeats what hostile servers said: every one is made printable here, so no caller can
forget it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Final

from proxy.words import printable

_ROOM: Final = 30
"""The least width of a column in which a long text goes on."""
_BELOW: Final = 4
"""How far a text below its row is indented."""

_CODES: Final = {"": "", "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, its colour by name, and whether it stands at the right edge of its column."""

    text: str
    colour: str = ""
    right: bool = False


def paint(text: str, colour: str, *, coloured: bool) -> str:
    """Return the text, made printable, in a colour if `coloured`."""
    text = printable(text)
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if coloured and _CODES[colour] and text else text


def align(
    rows: Sequence[Sequence[Cell]], *, coloured: bool, width: int | None = None, indent: str = "", headed: bool = True
) -> list[str]:
    """Return the lines of a table, columns two spaces apart.  No text is cut for want of room in `width`.

    A last cell that does not fit goes on below itself, or below the row's beginning where its column is too narrow.  A
    column that is empty in every row is left out; the first row is one of headings, which do not count, if `headed`.
    """
    shown = [at for at in range(len(rows[0])) if any(row[at].text for row in rows[headed:])] if rows else []
    if not shown:
        return [""] * len(rows)
    texts = [[printable(row[column].text) for column in shown] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    before = len(indent) + sum(widths[:-1]) + 2 * len(widths[:-1])  # where the last column begins
    lines = []
    for row, line in zip(rows, texts, strict=True):
        cells = [row[column] for column in shown]
        parts = [_padded(cell, text, size, coloured) for cell, text, size in zip(cells, line, widths, strict=True)][:-1]
        own, below, further = _last(line[-1], before, width, len(indent))
        colour = cells[-1].colour
        if own:
            parts.append(_padded(replace(cells[-1], text=own), own, widths[-1] if cells[-1].right else 0, coloured))
        lines.append((indent + "  ".join(parts)).rstrip())
        lines += [" " * below + paint(text, colour, coloured=coloured) for text in further]
    return lines


def _padded(cell: Cell, text: str, width: int, coloured: bool) -> str:
    padding, painted = " " * (width - len(text)), paint(text, cell.colour, coloured=coloured)
    return padding + painted if cell.right else painted + padding


def _last(text: str, before: int, width: int | None, indent: int) -> tuple[str, int, list[str]]:
    """Return the part of a last cell in its row, and the indent and the lines of the rest."""
    if width is None or before + len(text) <= width:
        return text, 0, []
    if width - before >= _ROOM:
        first, *rest = wrap(text, width - before)
        return first, before, rest
    below = indent + _BELOW
    return "", below, wrap(text, max(_ROOM, width - below))
