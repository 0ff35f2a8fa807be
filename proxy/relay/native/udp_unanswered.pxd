"""The last datagram of each UDP session, kept while an ICMP error may still report that it was not delivered."""

from proxy.relay.target cimport Target


cdef struct Kept:
    # A datagram in two circular lists, of all and of its end, the oldest first.  The heads have no data.
    Kept *older
    Kept *newer
    Kept *before
    Kept *behind
    char *data  # NULL: nothing is kept
    Py_ssize_t size
    double at  # monotonic seconds
    void *holder  # a borrowed reference


cdef class End:
    cdef object __weakref__
    cdef readonly Target target
    cdef readonly str address
    cdef readonly Py_ssize_t port
    cdef Kept _head


cdef class Holder:
    cdef readonly End end
    cdef Kept _kept
    cdef tuple _tried


cdef class Unanswered:
    cdef readonly Py_ssize_t size
    cdef Py_ssize_t _most, _count
    cdef Kept _head

    cdef bint put(self, Holder holder, const char *data, Py_ssize_t size, tuple tried, double now) noexcept
    cdef void drop(self, Holder holder) noexcept
