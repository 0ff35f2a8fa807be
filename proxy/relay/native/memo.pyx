"""Remembers what a Python function has computed from a client's host: a known client costs tens of nanoseconds.

Laws:
- The function gets the host as text, without a scope, and returns an integer of 64 bits, with or without a sign.  It
  always returns the same for the same host: a change of the configuration makes a new memo.
- The port, the flow and the scope of an address do not matter.
- The table has `ENTRIES` entries whatever the number of clients: each host has one place, and drives out who is there.
- The memory is taken with the first client, and used pages alone count.  Without memory nothing is remembered.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from proxy.relay.native.address cimport host_of, write_address
from proxy.relay.native.linux cimport AF_INET6

cdef enum:
    ENTRIES = 4096


cdef class Memo:
    """The numbers of one function."""

    def __init__(self, function):
        """Remember this function of a host."""
        self._function = function

    def __dealloc__(self):
        free(self._entries)

    cdef int64_t get(self, const Address *address) except? -1:
        """Return the number of an address's host, of which an unsigned one has the same bits; raise what the function does."""
        cdef uint64_t high = 0, low = 0, mixed
        cdef uint32_t family = address.name.any.sa_family
        cdef Entry *entry
        cdef int64_t value
        if family == AF_INET6:
            memcpy(&high, &address.name.six.sin6_addr, 8)
            memcpy(&low, <const char *>&address.name.six.sin6_addr + 8, 8)
        else:
            low = address.name.four.sin_addr.s_addr
        if self._entries == NULL:
            self._entries = <Entry *>calloc(ENTRIES, sizeof(Entry))
            if self._entries == NULL:
                return signed(self._function(host_of(address)))
        mixed = (high * <uint64_t>0x9E3779B97F4A7C15 ^ low) * <uint64_t>0xBF58476D1CE4E5B9
        entry = &self._entries[(mixed ^ mixed >> 32) >> 20 & (ENTRIES - 1)]
        if entry.low == low and entry.high == high and entry.family == family:
            return entry.value
        value = signed(self._function(host_of(address)))
        entry.high, entry.low, entry.family, entry.value = high, low, family, value
        return value

    def of(self, tuple client):
        """Return the number of a client's host, with a sign."""
        cdef Address address
        write_address(&address, client)
        return self.get(&address)


cdef int64_t signed(number) except? -1:
    return <int64_t><uint64_t>(number & 0xFFFF_FFFF_FFFF_FFFF)
