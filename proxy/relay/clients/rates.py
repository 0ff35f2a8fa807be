"""The table of clients' rates, which all workers of a host share; `proxy.relay.native.rates` grants and refuses by it.

    set 0, set 1, ...
    set, WAYS times:  | key | theoretical arrival time (ns) |

A key is 1 to 2**63 - 1, and determines the set; an entry of zeros is free.
"""

from typing import Final

from proxy.stats import sealed

ENTRIES: Final = 1 << 16
WAYS: Final = 8
CELLS: Final = 2  # an entry's cells: key, time (ns)
SIZE: Final = ENTRIES * CELLS * 8
BURST: Final = 1_000_000_000  # ns: a client may use up its rate of one second at once


def create() -> int:
    """Make an empty, sealed table and return its descriptor."""
    return sealed.zeroed("rates", SIZE)
