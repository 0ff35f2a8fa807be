"""Limits each client's rate by a table that all workers of the host share: a client may use one port or many.

Each entry is a key (`ClientKeys`) and the client's theoretical arrival time (GCRA, ITU-T I.371): the time at which its
last granted request would have come if all had come evenly.  Times are CLOCK_MONOTONIC, which all processes share.

Laws:
- An entry whose time has passed is free for another key.  If a set has no free entry, a new client passes uncounted: a
  flood of forged clients neither grows the table nor locks out real ones.
- If two workers write the same entry at the same moment, at most one of the two grants is lost.
"""

import mmap
from functools import lru_cache
from typing import Final, Literal

from proxy.relay.clients.keys import ClientKeys
from proxy.stats import sealed

ENTRIES: Final = 1 << 16
WAYS: Final = 8
CELLS: Final = 2  # an entry's cells: key, time (ns)
SIZE: Final = ENTRIES * CELLS * 8
REMEMBERED: Final = 8192  # clients whose keys are cached
BURST: Final = 1_000_000_000  # ns: a client may use up its rate of one second at once

Answer = Literal["granted", "refused", "unknown"]


def create() -> int:
    """Make an empty, sealed table and return its descriptor."""
    return sealed.zeroed("rates", SIZE)


def arrival(before: int, now: int, interval: int) -> int | None:
    """Return the arrival time after one more request, `before` being the last one; None if it is too soon; all in ns."""
    after = max(before, now) + interval
    return None if after - now > max(BURST, interval) else after


class Rates:
    """The table in one worker; the caller keeps owning `fd`."""

    def __init__(self, fd: int, salt: bytes) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self._cells = memoryview(self._map).cast("q")
        self._key = lru_cache(REMEMBERED)(ClientKeys(salt).of)

    def ask(self, service: int, address: str, now: float, interval: int) -> Answer:
        """Grant or refuse one request, `now` in monotonic seconds; "unknown" if the table has no room for the client."""
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
        """Unmap the table."""
        self._cells.release()
        self._map.close()


class Rate:
    """One service's `rate-per-client` for one transport; TCP and UDP count apart, so that a retry by TCP may pass."""

    def __init__(self, rates: Rates, rate: float, service: int, transport: Literal["tcp", "udp"]) -> None:
        self._rates = rates
        self._interval = max(1, int(1e9 / rate))
        self._number = 2 * service + (transport == "udp")

    def ask(self, address: str, now: float) -> Answer:
        """Grant or refuse a client's request, `now` in monotonic seconds."""
        return self._rates.ask(self._number, address, now, self._interval)
