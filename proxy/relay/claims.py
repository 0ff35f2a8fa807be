"""Claims of places that are limited on the whole host, without a lock [pure].

Each worker publishes in a cell of its own column how many places it has taken. It writes a claim there before it uses
the place, then reads all workers' cells, and takes the claim back if the sum is too high. If two workers claim the last
place at the same time, both may take their claims back, but they never both keep them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.stats.columns import Siblings

CLAIMS = 3  # tries where another worker claims the last place at the same time


def claim(cells: "memoryview[int]", cell: int, siblings: "Siblings", taken: int, most: int, ahead: int = 0) -> bool:
    """Claim one place beyond this worker's `taken` ones, of `most` on the host; return False if none is free.

    `ahead` places are left for clients that have waited longer.
    """
    for _ in range(CLAIMS):
        if taken + siblings.sum(cell) + ahead >= most:
            return False
        cells[cell] = taken + 1
        if taken + 1 + siblings.sum(cell) <= most:
            return True
        cells[cell] = taken
    return False
