"""A table of UDP sessions by their clients, in the order of their last datagrams.

Laws:
- The hash is keyed with a secret (SipHash-1-3): whoever chooses source addresses cannot fill one bucket.
- The newest is the one that was inserted or touched last; the oldest is the first to expire and to be evicted.
- The table grows with its entries, and its owner bounds their number.  An entry that cannot be inserted for want of
  memory raises MemoryError and leaves the table as it was.

It contains structs of the sessions and keeps no references to their objects: the owner does.
"""

import os

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from proxy.relay.native.siphash cimport Secret, keyed_hash

cdef Py_ssize_t _FEWEST = 64  # buckets


cdef class Table:
    """The sessions of one service in one worker."""

    def __cinit__(self):
        secret = os.urandom(16)
        memcpy(&self._secret, <const char *>secret, sizeof(Secret))
        self._head.older = self._head.newer = &self._head
        self._buckets = <Node **>calloc(_FEWEST, sizeof(Node *))
        if self._buckets == NULL:
            raise MemoryError
        self._mask = _FEWEST - 1

    def __dealloc__(self):
        free(self._buckets)

    cdef Node *find(self, const Key *key, bytes more) noexcept:
        """Return the entry with a key; NULL if there is none."""
        cdef uint64_t wanted = self._hash(key, more)
        cdef Node *node = self._buckets[wanted & self._mask]
        while node != NULL:
            if node.hash == wanted and memcmp(&node.key, key, sizeof(Key)) == 0 and _same(node.more, more):
                return node
            node = node.chain
        return NULL

    cdef int insert(self, Node *node) except -1:
        """Insert an entry with its `key`, `more` and `owner` as the newest; there is none with that key."""
        self._hang(node)
        node.older, node.newer = self._head.older, &self._head
        node.older.newer = self._head.older = node
        return 0

    cdef int insert_oldest(self, Node *node) except -1:
        """Insert an entry as the oldest."""
        self._hang(node)
        node.older, node.newer = &self._head, self._head.newer
        node.newer.older = self._head.newer = node
        return 0

    cdef void remove(self, Node *node) noexcept:
        """Take an entry out; harmless if it is not in the table."""
        cdef Node **place = &self._buckets[node.hash & self._mask]
        if not node.present:
            return
        while place[0] != node:
            place = &place[0].chain
        place[0] = node.chain
        node.older.newer, node.newer.older = node.newer, node.older
        node.present = False
        self.size -= 1

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

    cdef int _hang(self, Node *node) except -1:
        """Put an entry into its bucket."""
        cdef Node **bucket
        if self.size > <Py_ssize_t>self._mask:
            self._grow()
        node.hash = self._hash(&node.key, None if node.more == NULL else <bytes>node.more)
        bucket = &self._buckets[node.hash & self._mask]
        node.chain = bucket[0]
        bucket[0] = node
        node.present = True
        self.size += 1
        return 0

    cdef int _grow(self) except -1:
        """Double the buckets."""
        cdef uint64_t mask = 2 * self._mask + 1
        cdef Node **buckets = <Node **>calloc(mask + 1, sizeof(Node *))
        cdef Node *node = self._head.newer
        if buckets == NULL:
            raise MemoryError
        while node != &self._head:
            node.chain = buckets[node.hash & mask]
            buckets[node.hash & mask] = node
            node = node.newer
        free(self._buckets)
        self._buckets, self._mask = buckets, mask
        return 0


cdef inline bint _same(void *one, bytes other) noexcept:
    if one == NULL or other is None:
        return one == NULL and other is None
    return <bytes>one == other


def spread(Py_ssize_t entries):
    """Return the longest chain of a table with this many clients of neighbouring addresses and ports."""
    cdef Table table = Table()
    cdef Py_ssize_t at, longest = 0, length
    cdef Node *node
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
        for bucket in range(table._mask + 1):
            node, length = table._buckets[bucket], 0
            while node != NULL:
                node, length = node.chain, length + 1
            longest = max(longest, length)
    finally:
        free(nodes)
    return longest
