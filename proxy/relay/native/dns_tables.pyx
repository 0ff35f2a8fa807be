"""Tables of DNS queries in flight.

Laws:
- No table has memory for what is not in flight, but for the largest size that it once had.
- A chain is short whatever clients send: the hashes are keyed (`buckets`), and IDs are random.
- Without memory a table goes on with its present size.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp

from proxy.relay.native.address cimport Client
from proxy.relay.native.buckets cimport Entry, add_entry, bucket_of, open_buckets, remove_entry
from proxy.relay.native.dns_query cimport Attempt, Query

LATE_KEPT = LATE


cdef class Duplicates:
    """Queries by listener, client and datagram: the same once more is a retransmission."""

    def __cinit__(self):
        open_buckets(&self.buckets)

    def __dealloc__(self):
        free(self.buckets.heads)

    cdef Query *find(self, uint64_t hash, const Client *client, const char *datagram, Py_ssize_t size, Py_ssize_t ident) noexcept:
        """Return the query that is the same; NULL if there is none."""
        cdef Entry *entry = bucket_of(&self.buckets, hash)
        cdef Query *query
        while entry != NULL:
            query = <Query *>entry.owner
            if (
                entry.hash == hash
                and query.total == size
                and query.ident == ident
                and memcmp(query.datagram, datagram, size) == 0
                and memcmp(&query.client, client, sizeof(Client)) == 0
            ):
                return query
            entry = entry.chain
        return NULL

    cdef void add(self, Query *query) noexcept:
        """Add a query whose `entry.hash` is set."""
        add_entry(&self.buckets, &query.entry, query)

    cdef void remove(self, Query *query) noexcept:
        """Remove a query."""
        remove_entry(&self.buckets, &query.entry)


cdef class Twins:
    """Attempts by message and backend: identical queries in flight at one backend are a circle."""

    def __cinit__(self):
        open_buckets(&self.buckets)

    def __dealloc__(self):
        free(self.buckets.heads)

    cdef Attempt *find(self, uint64_t hash, const Query *query, void *peer) noexcept:
        """Return the first of the circle of queries like this one at a backend; NULL if there is none."""
        cdef Entry *entry = bucket_of(&self.buckets, hash)
        cdef Attempt *attempt
        cdef const Query *other
        while entry != NULL:
            attempt = <Attempt *>entry.owner
            other = attempt.query
            if (
                entry.hash == hash
                and attempt.peer == peer
                and other.twin_size == query.twin_size
                and memcmp(other.twin, query.twin, query.twin_size) == 0
            ):
                return attempt
            entry = entry.chain
        return NULL

    cdef void add(self, Attempt *attempt, Attempt *first) noexcept:
        """Add an attempt whose `entry.hash` is set to the circle of `first`; NULL begins a circle."""
        if first != NULL:
            attempt.twin = first
            attempt.former_twin = first.former_twin
            first.former_twin.twin = attempt
            first.former_twin = attempt
            attempt.twins = 0
            first.twins += 1
            return
        add_entry(&self.buckets, &attempt.entry, attempt)
        attempt.twin = attempt.former_twin = attempt
        attempt.twins = 1

    cdef void remove(self, Attempt *attempt) noexcept:
        """Take an attempt out of its circle."""
        cdef Attempt *heir = attempt.twin
        if attempt.twins:  # the first one
            remove_entry(&self.buckets, &attempt.entry)
            if attempt.twins == 1:
                return
            heir.twins = attempt.twins - 1
            add_entry(&self.buckets, &heir.entry, heir)
        else:
            self.find(attempt.entry.hash, attempt.query, attempt.peer).twins -= 1
        attempt.twin.former_twin = attempt.former_twin
        attempt.former_twin.twin = attempt.twin


cdef Place *find_ident(Idents *table, uint16_t ident) noexcept:
    """Return the place of an ID that is pending or late; NULL if it is neither."""
    cdef uint32_t at
    if not table.size:
        return NULL
    at = ident & (table.size - 1)
    while table.places[at].used:
        if table.places[at].ident == ident:
            return &table.places[at]
        at = (at + 1) & (table.size - 1)
    return NULL


cdef void _insert(Idents *table, uint16_t ident, Attempt *attempt) noexcept:
    cdef uint32_t at = ident & (table.size - 1)
    while table.places[at].used:
        at = (at + 1) & (table.size - 1)
    table.places[at].ident = ident
    table.places[at].attempt = attempt
    table.places[at].used = True
    table.used += 1


cdef bint add_ident(Idents *table, uint16_t ident, Attempt *attempt) noexcept:
    """Add an ID that is neither pending nor late; return False without memory."""
    cdef Place *before = table.places
    cdef uint32_t number, size = table.size
    if 4 * (table.used + 1) > 3 * size:
        table.places = <Place *>calloc(max(16, 2 * size), sizeof(Place))
        if table.places == NULL:
            table.places = before
            if table.used + 1 >= size:
                return False
        else:
            table.size = max(16, 2 * size)
            table.used = 0
            for number in range(size):
                if before[number].used:
                    _insert(table, before[number].ident, before[number].attempt)
            free(before)
    _insert(table, ident, attempt)
    table.pending += attempt != NULL
    return True


cdef void remove_ident(Idents *table, uint16_t ident) noexcept:
    """Forget an ID; harmless if it is unknown."""
    cdef Place *place = find_ident(table, ident)
    cdef uint32_t hole, at, home, mask = table.size - 1
    if place == NULL:
        return
    table.pending -= place.attempt != NULL
    table.used -= 1
    hole = at = place - table.places
    while True:  # close the gap, so that searches need no marks of what was removed
        at = (at + 1) & mask
        if not table.places[at].used:
            break
        home = table.places[at].ident & mask
        if ((at - home) & mask) >= ((at - hole) & mask):
            table.places[hole] = table.places[at]
            hole = at
    table.places[hole].used = False
    table.places[hole].attempt = NULL


cdef void late_ident(Idents *table, uint16_t ident) noexcept:
    """Remember an ID that is given up, and forget the oldest one if there are too many."""
    cdef Place *place = find_ident(table, ident)
    cdef Place *old
    if place != NULL and place.attempt == NULL:
        return
    if table.late == NULL:
        table.late = <uint16_t *>malloc(LATE * sizeof(uint16_t))
    if table.late == NULL:
        remove_ident(table, ident)
        return
    if place == NULL:
        if not add_ident(table, ident, NULL):
            return
    else:
        table.pending -= 1
        place.attempt = NULL
    if table.late_count == LATE:
        old = find_ident(table, table.late[table.late_first])
        if old != NULL and old.attempt == NULL:
            remove_ident(table, old.ident)
        table.late_first = (table.late_first + 1) % LATE
        table.late_count -= 1
    table.late[(table.late_first + table.late_count) % LATE] = ident
    table.late_count += 1


cdef void free_idents(Idents *table) noexcept:
    """Free the memory of a table."""
    free(table.places)
    free(table.late)
    table.places = NULL
    table.late = NULL
    table.size = table.used = table.pending = table.late_count = 0


cdef class Ids:
    """A table of IDs for Python."""

    def __dealloc__(self):
        free_idents(&self._idents)

    def add(self, uint16_t ident):
        """Add a pending ID, which must be new."""
        if not add_ident(&self._idents, ident, &self._attempt):
            raise MemoryError

    def remove(self, uint16_t ident):
        """Forget an ID."""
        remove_ident(&self._idents, ident)

    def give_up(self, uint16_t ident):
        """Make an ID a late one."""
        late_ident(&self._idents, ident)

    def kind(self, uint16_t ident):
        """Return "pending" or "late"; None for another ID."""
        cdef Place *place = find_ident(&self._idents, ident)
        if place == NULL:
            return None
        return "late" if place.attempt == NULL else "pending"

    @property
    def counts(self):
        """The numbers of pending and of late IDs."""
        return self._idents.pending, self._idents.late_count
