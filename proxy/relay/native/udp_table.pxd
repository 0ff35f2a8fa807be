"""A table of UDP sessions by their clients, in the order of their last datagrams."""

from libc.stdint cimport uint64_t

from proxy.relay.native.address cimport Client
from proxy.relay.native.siphash cimport Secret


cdef struct Key:
    # What a session is found by: compared and hashed as plain memory.
    Client client
    Py_ssize_t listener  # the number of the listener


cdef struct Node:
    Node *chain  # of one bucket
    Node *older
    Node *newer
    uint64_t hash
    Key key
    void *more  # a borrowed `bytes`, which belongs to the key; NULL: none
    void *owner  # a borrowed reference
    bint present  # in the table


cdef class Table:
    cdef Py_ssize_t size
    cdef Node _head
    cdef Node **_buckets
    cdef uint64_t _mask
    cdef Secret _secret

    cdef Node *find(self, const Key *key, bytes more) noexcept
    cdef int insert(self, Node *node) except -1
    cdef int insert_oldest(self, Node *node) except -1
    cdef void remove(self, Node *node) noexcept
    cdef void touch(self, Node *node) noexcept
    cdef Node *oldest(self) noexcept
    cdef Node *newest(self) noexcept
    cdef bint is_end(self, const Node *node) noexcept
    cdef uint64_t _hash(self, const Key *key, bytes more) noexcept
    cdef int _grow(self) except -1
    cdef int _hang(self, Node *node) except -1
