"""Tables of DNS queries in flight: by client and message, by message and backend, by ID."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from proxy.relay.native.address cimport Client
from proxy.relay.native.buckets cimport Buckets
from proxy.relay.native.dns_query cimport Attempt, Query

cdef enum:
    LATE = 1024  # IDs that a socket remembers after their queries were given up


cdef class Duplicates:
    cdef Buckets buckets

    cdef Query *find(self, uint64_t hash, const Client *client, const char *datagram, Py_ssize_t size, Py_ssize_t ident) noexcept
    cdef void add(self, Query *query) noexcept
    cdef void remove(self, Query *query) noexcept


cdef class Twins:
    cdef Buckets buckets  # of circles

    cdef Attempt *find(self, uint64_t hash, const Query *query, void *peer) noexcept
    cdef void add(self, Attempt *attempt, Attempt *first) noexcept
    cdef void remove(self, Attempt *attempt) noexcept


cdef struct Place:
    Attempt *attempt  # NULL: late, or nothing
    uint16_t ident
    bint used


cdef struct Idents:
    Place *places
    uint32_t size  # a power of 2; 0: nothing was allocated yet
    uint32_t used
    uint32_t pending
    uint16_t *late  # a ring
    uint32_t late_first
    uint32_t late_count


cdef Place *find_ident(Idents *table, uint16_t ident) noexcept
cdef bint add_ident(Idents *table, uint16_t ident, Attempt *attempt) noexcept
cdef void remove_ident(Idents *table, uint16_t ident) noexcept
cdef void late_ident(Idents *table, uint16_t ident) noexcept
cdef class Ids:
    cdef Idents _idents
    cdef Attempt _attempt  # of all pending ones


cdef void free_idents(Idents *table) noexcept
