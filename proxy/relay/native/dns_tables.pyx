"""Tables of DNS queries in flight.

Laws:
- No table has memory for what is not in flight, but for the largest size that it once had.
- A bucket's chain is short whatever clients send: the hashes are keyed (`dns_query`), and IDs are random.
- Without memory a table goes on with its present size.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp

from proxy.relay.native.address cimport Client
from proxy.relay.native.dns_query cimport Attempt, Query

LATE_KEPT = LATE


cdef class Duplicates:
    """Queries by listener, client and datagram: the same once more is a retransmission."""

    def __cinit__(self):
        self._size = 64
        self._buckets = <Query **>calloc(self._size, sizeof(Query *))
        if self._buckets == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._buckets)

    cdef Query *find(self, uint64_t hash, const Client *client, const char *datagram, Py_ssize_t size, Py_ssize_t ident) noexcept:
        """Return the query that is the same; NULL if there is none."""
        cdef Query *query = self._buckets[hash & (self._size - 1)]
        while query != NULL:
            if (
                query.hash == hash
                and query.total == size
                and query.ident == ident
                and memcmp(query.datagram, datagram, size) == 0
                and memcmp(&query.client, client, sizeof(Client)) == 0
            ):
                return query
            query = query.chain
        return NULL

    cdef void add(self, Query *query) noexcept:
        """Add a query whose `hash` is set."""
        cdef Query **bucket
        if self.count >= <Py_ssize_t>self._size:
            self._grow()
        bucket = &self._buckets[query.hash & (self._size - 1)]
        query.chain = bucket[0]
        bucket[0] = query
        self.count += 1

    cdef void remove(self, Query *query) noexcept:
        """Remove a query."""
        cdef Query **link = &self._buckets[query.hash & (self._size - 1)]
        while link[0] != query:
            link = &link[0].chain
        link[0] = query.chain
        self.count -= 1

    cdef void _grow(self) noexcept:
        cdef size_t number, size = 2 * self._size
        cdef Query *query
        cdef Query *after
        cdef Query **buckets = <Query **>calloc(size, sizeof(Query *))
        if buckets == NULL:
            return
        for number in range(self._size):
            query = self._buckets[number]
            while query != NULL:
                after = query.chain
                query.chain = buckets[query.hash & (size - 1)]
                buckets[query.hash & (size - 1)] = query
                query = after
        free(self._buckets)
        self._buckets, self._size = buckets, size


cdef class Twins:
    """Attempts by message and backend: identical queries in flight at one backend are a circle."""

    def __cinit__(self):
        self._size = 64
        self._buckets = <Attempt **>calloc(self._size, sizeof(Attempt *))
        if self._buckets == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._buckets)

    cdef Attempt *find(self, uint64_t hash, const Query *query, void *peer) noexcept:
        """Return the first of the circle of queries like this one at a backend; NULL if there is none."""
        cdef Attempt *attempt = self._buckets[hash & (self._size - 1)]
        cdef const Query *other
        while attempt != NULL:
            other = attempt.query
            if (
                attempt.hash == hash
                and attempt.peer == peer
                and other.twin_size == query.twin_size
                and memcmp(other.twin, query.twin, query.twin_size) == 0
            ):
                return attempt
            attempt = attempt.chain
        return NULL

    cdef void add(self, Attempt *attempt, Attempt *first) noexcept:
        """Add an attempt whose `hash` is set to the circle of `first`; NULL begins a circle."""
        cdef Attempt **bucket
        if first != NULL:
            attempt.twin = first
            attempt.former_twin = first.former_twin
            first.former_twin.twin = attempt
            first.former_twin = attempt
            attempt.twins = 0
            first.twins += 1
            return
        if self.count >= <Py_ssize_t>self._size:
            self._grow()
        bucket = &self._buckets[attempt.hash & (self._size - 1)]
        attempt.chain = bucket[0]
        bucket[0] = attempt
        attempt.twin = attempt.former_twin = attempt
        attempt.twins = 1
        self.count += 1

    cdef void remove(self, Attempt *attempt) noexcept:
        """Take an attempt out of its circle."""
        cdef Attempt **link
        cdef Attempt *heir
        if attempt.twins:  # the first one
            link = &self._buckets[attempt.hash & (self._size - 1)]
            while link[0] != attempt:
                link = &link[0].chain
            if attempt.twins == 1:
                link[0] = attempt.chain
                self.count -= 1
                return
            heir = attempt.twin
            heir.twins = attempt.twins - 1
            heir.chain = attempt.chain
            link[0] = heir
        else:
            self.find(attempt.hash, attempt.query, attempt.peer).twins -= 1
        attempt.twin.former_twin = attempt.former_twin
        attempt.former_twin.twin = attempt.twin

    cdef void _grow(self) noexcept:
        cdef size_t number, size = 2 * self._size
        cdef Attempt *attempt
        cdef Attempt *after
        cdef Attempt **buckets = <Attempt **>calloc(size, sizeof(Attempt *))
        if buckets == NULL:
            return
        for number in range(self._size):
            attempt = self._buckets[number]
            while attempt != NULL:
                after = attempt.chain
                attempt.chain = buckets[attempt.hash & (size - 1)]
                buckets[attempt.hash & (size - 1)] = attempt
                attempt = after
        free(self._buckets)
        self._buckets, self._size = buckets, size


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
