"""A place of which there are only so many on the host, claimed without a lock [pure].

Each worker tells in a cell of its own column how many it has taken. A claim is written there before it is used, then all
workers' cells are read, and one that is found too much is taken back. Of two claims of the last place at the same time
both may be taken back, never both kept.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.stats.columns import Siblings

CLAIMS = 3  # tries where another worker claims the last place at the same time


def claim(cells: "memoryview[int]", cell: int, siblings: "Siblings", taken: int, most: int, ahead: int = 0) -> bool:
    """Claim one place more than the `taken` that we have, of `most` on the host; whether there was one.

    `ahead` places are left for who comes first.
    """
    for _ in range(CLAIMS):
        if taken + siblings.sum(cell) + ahead >= most:
            return False
        cells[cell] = taken + 1
        if taken + 1 + siblings.sum(cell) <= most:
            return True
        cells[cell] = taken
    return False
