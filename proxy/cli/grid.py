"""Aligned columns of text, with colour where it is wanted [pure].

Cells come from a daemon that repeats what hostile servers said: every one is made printable here, so no caller can
forget it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.words import printable

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


def align(rows: Sequence[Sequence[Cell]], *, coloured: bool, width: int | None = None, indent: str = "") -> list[str]:
    """Return one line a row, columns two spaces apart; the last column is cut where it passes `width`.

    A column that is empty in every row but the first, which is taken for its heading, is left out.
    """
    shown = [column for column in range(len(rows[0])) if any(row[column].text for row in rows[1:])] if rows else []
    texts = [[printable(row[column].text) for column in shown] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = []
    for row, line in zip(rows, texts, strict=True):
        parts = []
        used = len(indent)
        for at, (column, text) in enumerate(zip(shown, line, strict=True)):
            cell = row[column]
            last = at == len(shown) - 1
            if last and width is not None and used + len(text) > width:
                text = text[: max(0, width - used - 3)] + "..."
            padding = " " * (widths[at] - len(text))
            painted = paint(text, cell.colour, coloured=coloured)
            parts.append(padding + painted if cell.right else painted if last else painted + padding)
            used += widths[at] + 2
        lines.append((indent + "  ".join(parts)).rstrip())
    return lines
