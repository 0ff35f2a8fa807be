"""A latency histogram of 96 cells, four to an octave of microseconds [pure].

Values 0 to 7 us have a bucket each; above, an octave [2^n, 2^(n+1)) is cut into four equal parts, so a bucket is at
most a quarter of its value wide, up to 33.5 s; longer times fall into the last bucket. This is HdrHistogram with two
significant bits.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

CELLS: Final = 96
LIMIT: Final = 1 << 25  # microseconds: the first value without its own bucket


def bucket(microseconds: int) -> int:
    """Return the index, 0 to 95, of a latency's bucket; a negative latency (from a faulty clock) counts as 0.

    This runs for every query: three operations, no table.
    """
    if microseconds < 8:  # noqa: PLR2004 - below two significant bits each value is its own bucket
        return microseconds if microseconds > 0 else 0  # noqa: FURB136 - max() would be a call
    if microseconds >= 33554432:  # noqa: PLR2004 - LIMIT, as a constant for the sake of speed
        return 95
    shift = microseconds.bit_length() - 3
    return (shift << 2) + (microseconds >> shift)


def bounds(index: int) -> tuple[int, int]:
    """Return the [low, high) microseconds of a bucket."""
    if index < 8:  # noqa: PLR2004 - as in bucket()
        return index, index + 1
    shift = (index >> 2) - 1
    low = ((index & 3) + 4) << shift
    return low, low + (1 << shift)


def percentile(cells: Sequence[int], q: float) -> float | None:
    """Return the latency (ms) that the share `q` (0 to 1) of the samples does not exceed; None if there are no samples.

    Inside a bucket the samples count as evenly spread. A cell that is read while a worker changes it may be off by one,
    and a cell below zero (in a base column after a slot got a new owner) counts as 0.
    """
    if min(cells) < 0:
        cells = [max(0, count) for count in cells]
    sums = list(accumulate(cells))
    total = sums[-1]
    if total == 0:
        return None
    rank = max(q * total, 1e-9)  # the first sample at least
    index = bisect_left(sums, rank)
    low, high = bounds(index)
    return (high - (high - low) * (sums[index] - rank) / cells[index]) / 1000
