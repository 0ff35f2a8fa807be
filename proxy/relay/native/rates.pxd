"""The C fields of the table of clients' rates."""

from libc.stdint cimport int64_t

from proxy.relay.native.address cimport Address
from proxy.relay.native.memo cimport Memo

cdef enum Answer:
    GRANTED, REFUSED, UNKNOWN


cdef class Rates:
    cdef int64_t *_at  # NULL once it is closed
    cdef object _map, _cells, _keys


cdef class Rate:
    cdef Rates _rates
    cdef Memo _keys
    cdef int64_t _interval

    cdef int grant(self, const Address *address, double now) except -1
    cdef int answer(self, str address, double now) except -1
