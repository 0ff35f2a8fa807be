"""What of a service the data path touches with each query and connection: its counters, its selector, its load.

`proxy.relay.service.Service` adds the policy.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from proxy.stats import layout

cdef Py_ssize_t BACKEND_ACTIVE = layout.BACKEND_ACTIVE
cdef Py_ssize_t BACKEND_TOTAL = layout.BACKEND_TOTAL


cdef int64_t *column(cells) except NULL:
    """Return the address of a column's cells.

    It is valid until the memory is unmapped.  An export of the buffer for as long would keep that from happening.
    """
    cdef Py_buffer buffer
    PyObject_GetBuffer(cells, &buffer, PyBUF_SIMPLE)
    cdef int64_t *at = <int64_t *>buffer.buf
    PyBuffer_Release(&buffer)
    return at


cdef class Traffic:
    """The base of a service."""

    def __init__(self, cells, Py_ssize_t cell):
        """Count in these cells, in the service's block at `cell`."""
        self.at = column(cells)
        self.cells = cells
        self.cell = cell

    @property
    def selector(self):
        """The present selector."""
        return self._selector

    @selector.setter
    def selector(self, selector):
        self._selector = selector
        self.needs_key = selector.needs_key
        self.needs_changes = selector.needs_changes

    cpdef took(self, Target target):
        """Count a connection, session or query that begins on `target`."""
        target.active += 1
        self.at[target.cell + BACKEND_ACTIVE] = target.active
        self.at[target.cell + BACKEND_TOTAL] += 1
        if self.needs_changes:
            self._selector.changed(target)

    cpdef adopted(self, Target target):
        """Count a session on `target` that a predecessor has counted already when it began."""
        self.took(target)
        self.at[target.cell + BACKEND_TOTAL] -= 1

    cpdef gave_back(self, Target target):
        """Count the end of a connection, session or query on `target`."""
        target.active -= 1
        self.at[target.cell + BACKEND_ACTIVE] = target.active
        if self.needs_changes:
            self._selector.changed(target)
        if self.capacity is not None:
            self.capacity.freed()
