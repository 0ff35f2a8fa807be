"""A hash table whose entries are members of what is found by it: a DNS query, an attempt, a UDP session.

Laws:
- The hashes are keyed, so that clients cannot fill one bucket (`siphash`).
- The table grows with its entries, and their owner bounds their number.  Without memory it goes on with its present size.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    FEWEST = 64


cdef struct Entry:
    Entry *chain  # of one bucket
    uint64_t hash
    void *owner  # what this is a member of


cdef struct Buckets:
    Entry **heads
    uint64_t mask
    Py_ssize_t count  # of the entries


cdef inline int open_buckets(Buckets *table) except -1:
    """Begin without entries; raise MemoryError."""
    table.heads = <Entry **>calloc(FEWEST, sizeof(Entry *))
    if table.heads == NULL:
        raise MemoryError
    table.mask = FEWEST - 1
    return 0


cdef inline Entry *bucket_of(const Buckets *table, uint64_t hash) noexcept:
    """Return the first entry of the chain in which a hash is; NULL if it is empty."""
    return table.heads[hash & table.mask]


cdef inline void grow_buckets(Buckets *table) noexcept:
    """Double the buckets if there is memory."""
    cdef uint64_t number, mask = 2 * table.mask + 1
    cdef Entry *entry
    cdef Entry *after
    cdef Entry **heads = <Entry **>calloc(mask + 1, sizeof(Entry *))
    if heads == NULL:
        return
    for number in range(table.mask + 1):
        entry = table.heads[number]
        while entry != NULL:
            after = entry.chain
            entry.chain = heads[entry.hash & mask]
            heads[entry.hash & mask] = entry
            entry = after
    free(table.heads)
    table.heads, table.mask = heads, mask


cdef inline void add_entry(Buckets *table, Entry *entry, void *owner) noexcept:
    """Add an entry whose `hash` is set."""
    if table.count > <Py_ssize_t>table.mask:
        grow_buckets(table)
    entry.owner = owner
    entry.chain = table.heads[entry.hash & table.mask]
    table.heads[entry.hash & table.mask] = entry
    table.count += 1


cdef inline void remove_entry(Buckets *table, Entry *entry) noexcept:
    """Remove an entry, which is in the table."""
    cdef Entry **link = &table.heads[entry.hash & table.mask]
    while link[0] != entry:
        link = &link[0].chain
    link[0] = entry.chain
    table.count -= 1
