"""A table of UDP sessions by their clients, in the order of their last datagrams.

Laws:
- The hash is keyed with a secret (SipHash-1-3): whoever chooses source addresses cannot fill one bucket.
- The newest is the one that was inserted or touched last; the oldest is the first to expire and to be evicted.
- The owner bounds the number of entries (`buckets`).

It contains structs of the sessions and keeps no references to their objects: the owner does.
"""

import os

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from proxy.relay.native.buckets cimport Entry, add_entry, bucket_of, open_buckets, remove_entry
from proxy.relay.native.siphash cimport Secret, keyed_hash


cdef class Table:
    """The sessions of one service in one worker."""

    def __cinit__(self):
        secret = os.urandom(16)
        memcpy(&self._secret, <const char *>secret, sizeof(Secret))
        self._head.older = self._head.newer = &self._head
        open_buckets(&self.buckets)

    def __dealloc__(self):
        free(self.buckets.heads)

    cdef Node *find(self, const Key *key, bytes more) noexcept:
        """Return the entry with a key; NULL if there is none."""
        cdef uint64_t wanted = self._hash(key, more)
        cdef Entry *entry = bucket_of(&self.buckets, wanted)
        cdef Node *node
        while entry != NULL:
            node = <Node *>entry.owner
            if entry.hash == wanted and memcmp(&node.key, key, sizeof(Key)) == 0 and _same(node.more, more):
                return node
            entry = entry.chain
        return NULL

    cdef void insert(self, Node *node) noexcept:
        """Insert an entry with its `key`, `more` and `owner` as the newest; there is none with that key."""
        self._hang(node)
        node.older, node.newer = self._head.older, &self._head
        node.older.newer = self._head.older = node

    cdef void insert_oldest(self, Node *node) noexcept:
        """Insert an entry as the oldest."""
        self._hang(node)
        node.older, node.newer = &self._head, self._head.newer
        node.newer.older = self._head.newer = node

    cdef void remove(self, Node *node) noexcept:
        """Take an entry out; harmless if it is not in the table."""
        if not node.present:
            return
        remove_entry(&self.buckets, &node.entry)
        node.older.newer, node.newer.older = node.newer, node.older
        node.present = False

    cdef void touch(self, Node *node) noexcept:
        """Make an entry the newest; harmless if it is not in the table."""
        if not node.present or node.newer == &self._head:
            return
        node.older.newer, node.newer.older = node.newer, node.older
        node.older, node.newer = self._head.older, &self._head
        node.older.newer = self._head.older = node

    cdef Node *oldest(self) noexcept:
        """Return the oldest entry; `is_end` is true for it if the table is empty."""
        return self._head.newer

    cdef Node *newest(self) noexcept:
        """Return the newest entry; `is_end` is true for it if the table is empty."""
        return self._head.older

    cdef bint is_end(self, const Node *node) noexcept:
        """Return True if this is not an entry, but what comes after the last one in either direction."""
        return node == &self._head

    cdef uint64_t _hash(self, const Key *key, bytes more) noexcept:
        cdef uint64_t found = keyed_hash(&self._secret, 0, key, sizeof(Key))
        return found if more is None else keyed_hash(&self._secret, found, <const char *>more, len(more))

    cdef void _hang(self, Node *node) noexcept:
        """Put an entry into its bucket."""
        node.entry.hash = self._hash(&node.key, None if node.more == NULL else <bytes>node.more)
        add_entry(&self.buckets, &node.entry, node)
        node.present = True


cdef inline bint _same(void *one, bytes other) noexcept:
    if one == NULL or other is None:
        return one == NULL and other is None
    return <bytes>one == other


def spread(Py_ssize_t entries):
    """Return the longest chain of a table with this many clients of neighbouring addresses and ports."""
    cdef Table table = Table()
    cdef Py_ssize_t at, longest = 0, length
    cdef Entry *entry
    cdef Node *nodes = <Node *>calloc(entries, sizeof(Node))
    if nodes == NULL:
        raise MemoryError
    try:
        for at in range(entries):
            memset(&nodes[at], 0, sizeof(Node))
            nodes[at].key.client.address.size = 16
            nodes[at].key.client.address.name.four.sin_port = at & 0xFF
            nodes[at].key.client.address.name.four.sin_addr.s_addr = at >> 8
            table.insert(&nodes[at])
        for bucket in range(table.buckets.mask + 1):
            entry, length = table.buckets.heads[bucket], 0
            while entry != NULL:
                entry, length = entry.chain, length + 1
            longest = max(longest, length)
    finally:
        free(nodes)
    return longest
