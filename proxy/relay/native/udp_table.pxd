"""A table of UDP sessions by their clients, in the order of their last datagrams."""

from libc.stdint cimport uint64_t

from proxy.relay.native.address cimport Client
from proxy.relay.native.buckets cimport Buckets, Entry
from proxy.relay.native.siphash cimport Secret


cdef struct Key:
    # What a session is found by: compared and hashed as plain memory.
    Client client
    Py_ssize_t listener  # the number of the listener


cdef struct Node:
    Entry entry
    Node *older
    Node *newer
    Key key
    void *more  # a borrowed `bytes`, which belongs to the key; NULL: none
    void *owner  # a borrowed reference
    bint present  # in the table


cdef class Table:
    cdef Buckets buckets
    cdef Node _head
    cdef Secret _secret

    cdef Node *find(self, const Key *key, bytes more) noexcept
    cdef void insert(self, Node *node) noexcept
    cdef void insert_oldest(self, Node *node) noexcept
    cdef void remove(self, Node *node) noexcept
    cdef void touch(self, Node *node) noexcept
    cdef Node *oldest(self) noexcept
    cdef Node *newest(self) noexcept
    cdef bint is_end(self, const Node *node) noexcept
    cdef uint64_t _hash(self, const Key *key, bytes more) noexcept
    cdef void _hang(self, Node *node) noexcept
