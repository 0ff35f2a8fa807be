"""The table of remembered numbers."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from proxy.relay.native.address cimport Address


cdef struct Entry:
    uint64_t high, low  # the host
    int64_t value
    uint32_t family  # 0: a free entry


cdef class Memo:
    cdef object _function
    cdef Entry *_entries

    cdef int64_t get(self, const Address *address) except? -1
