"""The other workers' columns, and claims of places that are limited on the whole host, without a lock.

Each worker publishes in a cell of its own column how many places it has taken.  It writes a claim there before it uses
the place, then reads all workers' cells, and takes the claim back if the sum is too high.  If two workers claim the last
place at the same time, both may take their claims back, but they never both keep them: a fence orders each one's write
before its reads.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc

from proxy.relay.native.cells cimport cell_fence, cell_read, cell_write, column

cdef enum:
    CLAIMS = 3  # tries where another worker claims the last place at the same time


cdef class Siblings:
    """The columns: `watch` chooses the cells that `refresh` sums, `set` and `drop` add and remove siblings."""

    def __init__(self):
        """Begin without siblings."""
        self._tables = {}
        self._watched = ()

    def __dealloc__(self):
        PyMem_Free(self._columns)

    cdef _index(self):
        PyMem_Free(self._columns)
        self.count = 0
        self._columns = <int64_t **>PyMem_Malloc(sizeof(int64_t *) * (len(self._tables) + 1))
        if self._columns == NULL:
            raise MemoryError
        for table in self._tables.values():
            self._columns[self.count] = column(table.cells)
            self.count += 1

    def watch(self, cells):
        """Choose the cells that `refresh` sums, in this order."""
        self._watched = tuple(cells)

    def set(self, worker, table):
        """Use a sibling's column, own it, and close the sibling's earlier one."""
        before = self._tables.get(worker)
        self._tables[worker] = table
        self._index()
        if before is not None:
            before.close()

    def drop(self, worker):
        """Stop using a dead sibling's column and close it; harmless for an unknown one."""
        table = self._tables.pop(worker, None)
        if table is not None:
            self._index()
            table.close()

    cpdef int64_t sum(self, Py_ssize_t cell) except? -1:
        """Return the present sum of one cell over all siblings."""
        cdef int64_t total = 0
        cdef Py_ssize_t one
        for one in range(self.count):
            total += cell_read(self._columns[one] + cell)
        return total

    def cells(self):
        """Return each sibling's whole column."""
        return [table.cells for table in self._tables.values()]

    def each(self, Py_ssize_t cell):
        """Return each sibling's present value of one cell."""
        cdef Py_ssize_t one
        return [cell_read(self._columns[one] + cell) for one in range(self.count)]

    def refresh(self):
        """Return the sum of each watched cell over all siblings; zeros if there are none."""
        cdef Py_ssize_t one, cell
        cdef int64_t total
        cdef list sums = []
        for cell in self._watched:
            total = 0
            for one in range(self.count):
                total += cell_read(self._columns[one] + cell)
            sums.append(total)
        return sums

    def close(self):
        """Drop every sibling."""
        for worker in list(self._tables):
            self.drop(worker)


cdef bint claim_cell(
    int64_t *own, Py_ssize_t cell, Siblings siblings, int64_t taken, int64_t most, int64_t ahead
) except -1:
    """Claim a place in this worker's own column, as `claim` does."""
    for _ in range(CLAIMS):
        if taken + siblings.sum(cell) + ahead >= most:
            return False
        cell_write(own + cell, taken + 1)
        cell_fence()
        if taken + 1 + siblings.sum(cell) <= most:
            return True
        cell_write(own + cell, taken)
    return False


cpdef bint claim(cells, Py_ssize_t cell, Siblings siblings, int64_t taken, int64_t most, int64_t ahead=0) except -1:
    """Claim one place beyond this worker's `taken` ones, of `most` on the host; return False if none is free.

    `cells` is this worker's column.  `ahead` places are left for clients that have waited longer.
    """
    return claim_cell(column(cells), cell, siblings, taken, most, ahead)
