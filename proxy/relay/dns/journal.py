r"""The journal of a worker's queries in flight, which outlives the worker.

A query that a worker has read and not yet answered exists nowhere else, and would be lost if the worker is killed.  So
the worker notes each query in a sealed memfd.  When the worker is dead, the master passes the descriptor to the sibling
that takes over the listeners' members, and the sibling sends those queries again.  The client gets its answer a little
later.

    slot:  | length, 8 octets, 0 = free | listener \\0 host \\0 port \\0 scope \\0 local \\0 message |

The length is written last and cleared first, so a slot is complete or free whenever the worker dies.
"""

import ipaddress
import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.relay.sockets.address import Client
from proxy.stats import sealed

SLOTS = 4096
SLOT_SIZE = 1024
_HEAD = 8
ROOM = SLOT_SIZE - _HEAD


@dataclass(frozen=True, slots=True)
class Entry:
    """One query that a dead worker had in flight."""

    listener: int
    client: Client
    message: bytes


def create() -> int:
    """Make an empty, sealed journal and return its descriptor."""
    return sealed.zeroed("journal", SLOTS * SLOT_SIZE)


def _prefix(listener: int, client: Client) -> bytes:
    """Return the part of an entry in front of the message: the listener and the client."""
    host, port, *rest = client
    local = rest.pop().hex() if rest and isinstance(rest[-1], bytes) else ""
    scope = rest[1] if rest else ""
    return f"{listener}\0{host}\0{port}\0{scope}\0{local}\0".encode()


class Journal:
    """The writer's side.  If the journal is full or a message does not fit, that query alone is not noted."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SLOTS * SLOT_SIZE)
        self._lengths = memoryview(self._map).cast("q")
        self._free = list(range((SLOTS - 1) * SLOT_SIZE, -1, -SLOT_SIZE))

    def note(self, listener: int, client: Client, message: bytes) -> int:
        """Note a client's message; return the offset of its slot, or -1 if it cannot be noted."""
        # This runs for every query; nearly always client and listener have specific IPv4 addresses.
        head = f"{listener}\0{client[0]}\0{client[1]}\0\0\0".encode() if len(client) == 2 else _prefix(listener, client)  # noqa: PLR2004
        record = head + message
        size = len(record)
        if size > ROOM or not self._free:
            return -1
        slot = self._free.pop()
        self._map[slot + _HEAD : slot + _HEAD + size] = record
        self._lengths[slot >> 3] = size
        return slot

    def clear(self, slot: int) -> None:
        """Free a slot that `note` filled: the query was answered or given up."""
        self._lengths[slot >> 3] = 0
        self._free.append(slot)

    def close(self) -> None:
        """Unmap the memory; the caller owns the descriptor."""
        self._lengths.release()
        self._map.close()


def entries(fd: int) -> Iterator[Entry]:
    """Yield the queries that a dead worker left, without slots that cannot be read."""
    with mmap.mmap(fd, SLOTS * SLOT_SIZE, prot=mmap.PROT_READ) as area:
        for start in range(0, SLOTS * SLOT_SIZE, SLOT_SIZE):
            size = int.from_bytes(area[start : start + _HEAD], "little")
            if 0 < size <= ROOM:
                entry = _entry(area[start + _HEAD : start + _HEAD + size])
                if entry is not None:
                    yield entry


def used(fd: int) -> bool:
    """Return True if a dead worker left any query, so that an empty journal is not passed on."""
    return next(entries(fd), None) is not None


def _entry(record: bytes) -> Entry | None:
    parts = record.split(b"\0", 5)
    try:
        listener, host, port, scope, local, message = parts
        # A broken worker may have written anything.  A host name would cause a look-up, which blocks, and a number out of
        # range would raise an exception with each answer.
        client: Client = (str(ipaddress.ip_address(host.decode())), _number(port, 1 << 16))
        if scope:
            client += (0, _number(scope, 1 << 32))
        if local:
            client += (bytes.fromhex(local.decode()),)
        return Entry(int(listener), client, message)
    except ValueError:
        return None


def _number(text: bytes, limit: int) -> int:
    number = int(text)
    if not 0 <= number < limit:
        raise ValueError(text)
    return number
