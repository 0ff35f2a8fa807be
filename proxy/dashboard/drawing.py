"""What of a line has changed since it was drawn [pure]."""

from typing import Final

from proxy.dashboard.text import Line, width

_NEAR: Final = 8
"""Cells between two changes up to which both are drawn as one: to move the cursor costs as much."""


def changes(old: Line, new: Line) -> list[tuple[int, int]]:
    """Return the runs of cells, [from, to), that differ; one to the end of the line if its segments moved."""
    if old == new:
        return []
    found: list[tuple[int, int]] = []
    at = 0
    for before, after in zip(old, new, strict=False):
        size = width(after.text)
        if width(before.text) != size:
            return _joined(found, at, 1 << 16)
        if before != after:
            found = _joined(found, at, at + size)
        at += size
    return found if len(old) == len(new) else _joined(found, at, 1 << 16)


def _joined(found: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    if found and start - found[-1][1] <= _NEAR:
        return [*found[:-1], (found[-1][0], end)]
    return [*found, (start, end)]
