"""Templates: each binds a client's network to a backend, in memory that all workers of a host share [pure].

    cell   0  magic
           1  the number of buckets
           2  bucket 0, bucket 1, ...

    bucket, WAYS times:  | key | expiry in ms << SLOT_BITS | backend slot |

A key is 1 to 2**63 - 1; 0 is a free place. `now` is seconds of CLOCK_MONOTONIC, which all processes of a host share.
`proxy.relay.native.templates` reads and writes them.
"""

from typing import Final

MAGIC: Final = 0x31_50_54_53  # "STP1"
HEADER: Final = 2
WAYS: Final = 8
BUCKET: Final = 2 * WAYS  # cells
SLOT_BITS: Final = 20
LONGEST: Final = 10 * 365 * 86_400.0
"""Seconds; `never` is ten years."""


def cells_for(buckets: int) -> int:
    """Return how many cells this many buckets take."""
    return HEADER + buckets * BUCKET
