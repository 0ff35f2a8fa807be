"""Limits each client's rate by a table that all workers of the host share: a client may use one port or many.

Each entry is a key (`ClientKeys`) and the client's theoretical arrival time (GCRA, ITU-T I.371): the time at which its
last granted request would have come if all had come evenly.  Times are CLOCK_MONOTONIC, which all processes share.
`proxy.relay.clients.rates` makes the table, and says what it holds.

Laws:
- An entry whose time has passed is free for another key.  If a set has no free entry, a new client passes uncounted: a
  flood of forged clients neither grows the table nor locks out real ones.
- If two workers write the same entry at the same moment, at most one of the two grants is lost.
"""

import mmap
from functools import partial

from proxy.relay.native.address cimport write_address
from proxy.relay.native.cells cimport cell_read, cell_write, column

from proxy.relay.clients import rates as table
from proxy.relay.clients.keys import ClientKeys

cdef int64_t SETS = table.ENTRIES // table.WAYS
cdef int64_t BURST = table.BURST
cdef Py_ssize_t CELLS = table.CELLS
cdef Py_ssize_t ROW = table.WAYS * table.CELLS
cdef tuple NAMES = ("granted", "refused", "unknown")


cdef inline int64_t after_one_more(int64_t before, int64_t now, int64_t interval) noexcept:
    cdef int64_t after = (before if before > now else now) + interval
    return 0 if after - now > (BURST if BURST > interval else interval) else after


def arrival(int64_t before, int64_t now, int64_t interval):
    """Return the arrival time after one more request, `before` being the last one; None if it is too soon; all in ns."""
    return after_one_more(before, now, interval) or None


cdef class Rates:
    """The table in one worker; the caller keeps owning `fd`."""

    def __init__(self, fd, bytes salt):
        """Map the table; `salt` is the secret of the clients' keys."""
        self._map = mmap.mmap(fd, table.SIZE)
        self._cells = memoryview(self._map)
        self._at = column(self._cells)
        self._keys = ClientKeys(salt)

    def close(self):
        """Unmap the table; from now on every client is unknown."""
        self._at = NULL
        self._cells.release()
        self._map.close()


cdef class Rate:
    """One service's `rate-per-client` for one transport; TCP and UDP count apart, so that a retry by TCP may pass."""

    def __init__(self, Rates rates not None, double rate, service, transport):
        """Grant `rate` requests a second to each client."""
        self._rates = rates
        self._interval = max(1, int(1e9 / rate))
        self._keys = Memo(partial(rates._keys.of, 2 * service + (transport == "udp")))

    cdef int grant(self, const Address *address, double now) except -1:
        """Return the `Answer` to one request, `now` in monotonic seconds; UNKNOWN if the table has no room for the client."""
        cdef int64_t key = self._keys.get(address)
        cdef int64_t at = <int64_t>(now * 1e9)
        cdef int64_t when, least = 0
        cdef int64_t *entry = self._rates._at
        cdef int64_t *oldest = NULL
        cdef int64_t *end
        if entry == NULL:
            return UNKNOWN
        entry += key % SETS * ROW
        end = entry + ROW
        while entry < end:
            when = cell_read(entry + 1)
            if cell_read(entry) == key:
                when = after_one_more(when, at, self._interval)
                if not when:
                    return REFUSED
                cell_write(entry + 1, when)
                return GRANTED
            if oldest == NULL or when < least:
                oldest, least = entry, when
            entry += CELLS
        if least > at:
            return UNKNOWN
        cell_write(oldest, key)
        cell_write(oldest + 1, at + self._interval)
        return GRANTED

    cdef int answer(self, str address, double now) except -1:
        """Return the same for an address as text."""
        cdef Address client
        write_address(&client, (address.partition("%")[0], 0))
        return self.grant(&client, now)

    def ask(self, str address, double now):
        """Grant or refuse a client's request, `now` in monotonic seconds."""
        return NAMES[self.answer(address, now)]
