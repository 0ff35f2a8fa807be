"""How much a client asks for, in a table that all workers of the host share: it may have one port or many.

Each entry is a key (`ClientKeys`) and the client's theoretical arrival time (GCRA, ITU-T I.371): when the last of
what it was granted would have come, had it come evenly.  Times are CLOCK_MONOTONIC, which all processes share.

Laws:
- An entry whose time is over says nothing any more, and makes place for another key.  Where a set has no such entry, the
  newcomer passes uncounted: a flood of invented clients neither grows the table nor shuts out real ones.
- Two workers that write the same entry at the same moment may lose one of two grants, never more.
"""

import mmap
from functools import lru_cache
from typing import Final, Literal

from proxy.relay.clients.keys import ClientKeys
from proxy.stats import sealed

ENTRIES: Final = 1 << 16
WAYS: Final = 8
CELLS: Final = 2  # of an entry: key, time (ns)
SIZE: Final = ENTRIES * CELLS * 8
REMEMBERED: Final = 8192  # clients whose key is not computed anew
BURST: Final = 1_000_000_000  # ns: what a client may ask for at once is what it may in a second

Answer = Literal["granted", "refused", "unknown"]


def create() -> int:
    """Make an empty, sealed table; its descriptor."""
    return sealed.zeroed("rates", SIZE)


def arrival(before: int, now: int, interval: int) -> int | None:
    """Return the arrival time after one more, `before` being the one until now, or None if that is too soon; all ns."""
    after = max(before, now) + interval
    return None if after - now > max(BURST, interval) else after


class Rates:
    """The table as one worker has it; `fd` stays the caller's."""

    def __init__(self, fd: int, salt: bytes) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self._cells = memoryview(self._map).cast("q")
        self._key = lru_cache(REMEMBERED)(ClientKeys(salt).of)

    def ask(self, service: int, address: str, now: float, interval: int) -> Answer:
        """Grant or refuse a client one more, `now` in monotonic seconds; "unknown" where there is no place to count it."""
        cells = self._cells
        key = self._key(service, address)
        at = int(now * 1e9)
        start = key % (ENTRIES // WAYS) * WAYS * CELLS
        row = cells[start : start + WAYS * CELLS].tolist()
        keys, times = row[::CELLS], row[1::CELLS]
        if key in keys:
            place = start + CELLS * keys.index(key)
            after = arrival(cells[place + 1], at, interval)
            if after is None:
                return "refused"
            cells[place + 1] = after
            return "granted"
        least = min(times)
        if least > at:
            return "unknown"
        place = start + CELLS * times.index(least)
        cells[place] = key
        cells[place + 1] = at + interval
        return "granted"

    def close(self) -> None:
        """Unmap it."""
        self._cells.release()
        self._map.close()


class Rate:
    """One service's `rate-per-client` for one transport: TCP and UDP are counted apart, so that a retry may change."""

    def __init__(self, rates: Rates, rate: float, service: int, transport: Literal["tcp", "udp"]) -> None:
        self._rates = rates
        self._interval = max(1, int(1e9 / rate))
        self._number = 2 * service + (transport == "udp")

    def ask(self, address: str, now: float) -> Answer:
        """Grant or refuse a client one more, `now` in monotonic seconds."""
        return self._rates.ask(self._number, address, now, self._interval)
