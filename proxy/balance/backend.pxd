"""The C fields of a backend: schedulers read them at every pick."""

cdef class Backend:
    cdef public str name
    cdef public Py_ssize_t index, weight, tier
    cdef public Py_ssize_t active, elsewhere
    cdef public object verdict, admin
    cdef public double estimate, observed, tried
