"""Templates: each binds a client's network to a backend, in memory that all workers of a host share [pure].

    cell   0  magic
           1  the number of buckets
           2  bucket 0, bucket 1, ...

    bucket, WAYS times:  | key | expiry in ms << SLOT_BITS | backend slot |

A key is 1 to 2**63 - 1; 0 is a free place. `now` is seconds of CLOCK_MONOTONIC, which all processes of a host share.
Cells are read and written atomically. So the worst case for a reader without the lock is a place that has just gone to
another key, and one client goes to another backend once. Only `put` needs the lock, so that two workers do not put the
same key twice, or choose two backends for it.
"""

from typing import Final, NamedTuple

MAGIC: Final = 0x31_50_54_53  # "STP1"
HEADER: Final = 2
WAYS: Final = 8
BUCKET: Final = 2 * WAYS  # cells
SLOT_BITS: Final = 20
_SLOT: Final = (1 << SLOT_BITS) - 1
LONGEST: Final = 10 * 365 * 86_400.0
"""Seconds; `never` is ten years."""


class Found(NamedTuple):
    """A template that has not expired: the cell of its value, and the slot of its backend."""

    cell: int
    slot: int


class Templates:
    """The table, over signed 64-bit cells. A look-up costs O(WAYS)."""

    def __init__(self, cells: "memoryview[int]") -> None:
        self.cells = cells
        self.buckets = cells[1]

    def bucket(self, key: int) -> int:
        """Return the number of a key's bucket."""
        return key % self.buckets

    def find(self, key: int, now: float) -> Found | None:
        """Return a key's template; None if there is none or it has expired."""
        first = HEADER + key % self.buckets * BUCKET
        row = self.cells[first : first + BUCKET].tolist()
        keys = row[::2]
        if key not in keys:
            return None
        at = 2 * keys.index(key) + 1
        value = row[at]
        return Found(first + at, value & _SLOT) if value >> SLOT_BITS > int(now * 1000) else None

    def renew(self, key: int, found: Found, expiry: float) -> None:
        """Let a template expire at `expiry`, if that is later."""
        cells = self.cells
        late = _ms(expiry)
        if cells[found.cell - 1] == key and cells[found.cell] >> SLOT_BITS < late:
            cells[found.cell] = late << SLOT_BITS | found.slot

    def put(self, key: int, slot: int, now: float, expiry: float) -> bool:
        """Make a template, or move it to another backend; return True if a valid one of another key had to be dropped.

        It takes the key's own place, else a free or expired one, else the one that expires first.
        """
        cells = self.cells
        first = HEADER + key % self.buckets * BUCKET
        row = cells[first : first + BUCKET].tolist()
        value = _ms(expiry) << SLOT_BITS | slot
        keys = row[::2]
        if key in keys:
            cells[first + 2 * keys.index(key) + 1] = value
            return False
        ends = [end >> SLOT_BITS if owner else 0 for owner, end in zip(keys, row[1::2], strict=True)]
        soonest = min(ends)
        at = first + 2 * ends.index(soonest)
        cells[at] = 0  # in this order: a reader meanwhile finds no template, or all of the new one
        cells[at + 1] = value
        cells[at] = key
        return soonest > int(now * 1000)


def cells_for(buckets: int) -> int:
    """Return how many cells this many buckets take."""
    return HEADER + buckets * BUCKET


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
