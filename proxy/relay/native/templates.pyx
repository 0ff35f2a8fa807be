"""Finds, renews and makes templates, in the memory that `proxy.relay.clients.templates` lays out.

Cells are read and written atomically. So the worst case for a reader without the lock is a place that has just gone to
another key, and one client goes to another backend once. Only `put` needs the lock, so that two workers do not put the
same key twice, or choose two backends for it.
"""

from proxy.relay.native.cells cimport cell_read, cell_write, column

from proxy.relay.clients import templates as layout

cdef Py_ssize_t HEADER = layout.HEADER
cdef Py_ssize_t BUCKET = layout.BUCKET
cdef int SLOT_BITS = layout.SLOT_BITS
cdef int64_t SLOT = (1 << layout.SLOT_BITS) - 1


cdef class Templates:
    """The table, over signed 64-bit cells. A look-up costs O(WAYS)."""

    def __init__(self, cells):
        """Use a table of which the header is written."""
        self.cells = cells
        self.buckets = cells[1]
        self._at = column(cells)

    def close(self):
        """Forget the memory, which is about to be unmapped."""
        self._at = NULL
        self.cells = None

    def bucket(self, int64_t key):
        """Return the number of a key's bucket."""
        return key % self.buckets

    cpdef find(self, int64_t key, double now):
        """Return the slot of a key's backend; None if it has no template or that has expired."""
        cdef int64_t *place = self._valid(key, now)
        return None if place == NULL else cell_read(place + 1) & SLOT

    cpdef renew(self, int64_t key, Py_ssize_t slot, double expiry):
        """Let a template that leads to this backend expire at `expiry`, if that is later."""
        cdef int64_t *place = self._place(key)
        cdef int64_t late = <int64_t>(expiry * 1000)
        cdef int64_t value
        if place != NULL:
            value = cell_read(place + 1)
            if value & SLOT == slot and value >> SLOT_BITS < late:
                cell_write(place + 1, late << SLOT_BITS | slot)

    def put(self, int64_t key, Py_ssize_t slot, double now, double expiry):
        """Make a template, or move it to another backend; return True if a valid one of another key had to be dropped.

        It takes the key's own place, else a free or expired one, else the one that expires first.
        """
        cdef int64_t value = <int64_t>(expiry * 1000) << SLOT_BITS | slot
        cdef int64_t *place = self._place(key)
        cdef int64_t *end
        cdef int64_t *soonest = NULL
        cdef int64_t ends, least = 0
        if place != NULL:
            cell_write(place + 1, value)
            return False
        place = self._at + HEADER + key % self.buckets * BUCKET
        end = place + BUCKET
        while place < end:
            ends = cell_read(place + 1) >> SLOT_BITS if cell_read(place) else 0
            if soonest == NULL or ends < least:
                soonest, least = place, ends
            place += 2
        cell_write(soonest, 0)  # in this order: a reader meanwhile finds no template, or all of the new one
        cell_write(soonest + 1, value)
        cell_write(soonest, key)
        return least > <int64_t>(now * 1000)

    cdef int64_t *_place(self, int64_t key) except? NULL:
        """Return the place of a key, valid or not; NULL if it has none."""
        cdef int64_t *place = self._at
        cdef int64_t *end
        if place == NULL:
            raise ValueError("the table of templates is closed")
        place += HEADER + key % self.buckets * BUCKET
        end = place + BUCKET
        while place < end:
            if cell_read(place) == key:
                return place
            place += 2
        return NULL

    cdef int64_t *_valid(self, int64_t key, double now) except? NULL:
        cdef int64_t *place = self._place(key)
        if place != NULL and cell_read(place + 1) >> SLOT_BITS > <int64_t>(now * 1000):
            return place
        return NULL
