"""An indexed heap of backends: which of any number has the least amount for its weight, and whose turn it is among equals.

Laws:

1. An entry is (amount, weight, turn, place).  Amounts for their weights are compared as whole numbers, without rounding:
   a product of both must be below 2**63.  Of equals the earliest turn is first, then the lowest place.
2. Each entry knows its position, so that a change moves it, and leaves no other entry behind.  A node has four children:
   1,000 entries are five levels, and the children of a node are neighbours in memory.
3. `compared` counts comparisons: `put` makes at most 4 for each level, `first` none.
"""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free

cdef enum:
    CHILDREN = 4


@cython.final
cdef class Ranking:
    """Entries for the places whose weight is not 0, all with the amount 0."""

    def __cinit__(self, weights, turns):
        """Take the weight of each place, and its first turn."""
        cdef Py_ssize_t place
        self.size = len(weights)
        self._entries = <Entry *>PyMem_Calloc(self.size, sizeof(Entry))
        self._positions = <Py_ssize_t *>PyMem_Calloc(self.size, sizeof(Py_ssize_t))
        if self._entries == NULL or self._positions == NULL:
            raise MemoryError
        for place in range(self.size):
            self._positions[place] = -1
            if weights[place]:
                self._positions[place] = self.count
                self._entries[self.count] = Entry(0, weights[place], turns[place], place)
                self.count += 1
        self.rank()

    def __dealloc__(self):
        PyMem_Free(self._entries)
        PyMem_Free(self._positions)

    cpdef Py_ssize_t first(self) noexcept:
        """Return the place of the first entry; -1 if there is none."""
        return self._entries[0].place if self.count else -1

    cpdef int64_t amount(self, Py_ssize_t place) noexcept:
        """Return a place's amount as it was last put; the place must have an entry."""
        return self._entries[self._positions[place]].amount

    cpdef int64_t turn(self, Py_ssize_t place) noexcept:
        """Return a place's turn."""
        return self._entries[self._positions[place]].turn

    cpdef put(self, Py_ssize_t place, int64_t amount, int64_t turn):
        """Give a place another amount and another turn.  O(log n)."""
        cdef Py_ssize_t at = self._positions[place]
        cdef Entry entry = self._entries[at]
        entry.amount, entry.turn = amount, turn
        if at and self._precedes(&entry, &self._entries[(at - 1) // CHILDREN]):
            self._rise(at, entry)
        else:
            self._sink(at, entry)

    cpdef write(self, Py_ssize_t place, int64_t amount):
        """Give a place another amount; `rank` must follow before anything else."""
        self._entries[self._positions[place]].amount = amount

    cpdef rank(self):
        """Put all entries into order.  O(n)."""
        cdef Py_ssize_t at
        for at in range((self.count - 2) // CHILDREN, -1, -1):
            self._sink(at, self._entries[at])

    cpdef Py_ssize_t first_but(self, tuple members, exclude) except -2:
        """Return the first place whose member is not in `exclude`; -1 if there is none.

        Only entries below excluded ones are looked at, four for each of these.
        """
        cdef Py_ssize_t best = -1, at, child
        cdef list open_nodes = [0] if self.count else []
        while open_nodes:
            at = open_nodes.pop()
            if best >= 0 and not self._precedes(&self._entries[at], &self._entries[best]):
                continue
            if members[self._entries[at].place] in exclude:
                for child in range(at * CHILDREN + 1, min(at * CHILDREN + 1 + CHILDREN, self.count)):
                    open_nodes.append(child)
            else:
                best = at
        return self._entries[best].place if best >= 0 else -1

    cpdef rewind(self, int64_t by):
        """Make all turns earlier, so that they stay small; what is in arrears by more than `by` gets no later a place."""
        cdef Py_ssize_t at
        for at in range(self.count):
            self._entries[at].turn = max(self._entries[at].turn - by, -by)
        self.rank()

    cdef bint _precedes(self, const Entry *one, const Entry *other) noexcept:
        cdef int64_t left = one.amount * other.weight
        cdef int64_t right = other.amount * one.weight
        self.compared += 1
        if left != right:
            return left < right
        if one.turn != other.turn:
            return one.turn < other.turn
        return one.place < other.place

    cdef void _rise(self, Py_ssize_t at, Entry entry) noexcept:
        """Put an entry at this position, or nearer to the top."""
        cdef Py_ssize_t parent
        while at:
            parent = (at - 1) // CHILDREN
            if not self._precedes(&entry, &self._entries[parent]):
                break
            self._entries[at] = self._entries[parent]
            self._positions[self._entries[at].place] = at
            at = parent
        self._entries[at] = entry
        self._positions[entry.place] = at

    cdef void _sink(self, Py_ssize_t at, Entry entry) noexcept:
        """Put an entry at this position, or farther from the top."""
        cdef Py_ssize_t child, least, last
        while True:
            least = at * CHILDREN + 1
            if least >= self.count:
                break
            last = min(least + CHILDREN, self.count)
            for child in range(least + 1, last):
                if self._precedes(&self._entries[child], &self._entries[least]):
                    least = child
            if not self._precedes(&self._entries[least], &entry):
                break
            self._entries[at] = self._entries[least]
            self._positions[self._entries[at].place] = at
            at = least
        self._entries[at] = entry
        self._positions[entry.place] = at
