"""The journal of a worker's queries in flight, which outlives the worker.

A query that a worker has read and not yet answered exists nowhere else, and would be lost if the worker is killed.  So
the worker notes each query in a sealed memfd.  When the worker is dead, the master passes the descriptor to the sibling
that takes over the listeners' members, and the sibling sends those queries again.  The client gets its answer a little
later.  `proxy.relay.native.dns_journal` draws a slot.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.relay.native.dns_journal import AREA, ROOM, SIZE, Journal, read
from proxy.relay.sockets.address import Client
from proxy.stats import sealed

__all__ = ["AREA", "ROOM", "SIZE", "Entry", "Journal", "create", "entries", "used"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One query that a dead worker had in flight."""

    listener: int
    client: Client
    message: bytes


def create() -> int:
    """Make an empty, sealed journal and return its descriptor."""
    return sealed.zeroed("journal", AREA)


def entries(fd: int) -> Iterator[Entry]:
    """Yield the queries that a dead worker left, without slots that cannot be read."""
    with mmap.mmap(fd, AREA, prot=mmap.PROT_READ) as area:
        for start in range(0, AREA, SIZE):
            found = read(area[start : start + SIZE])
            if found is not None:
                yield Entry(*found)


def used(fd: int) -> bool:
    """Return True if a dead worker left any query, so that an empty journal is not passed on."""
    return next(entries(fd), None) is not None
