"""The C fields of failover."""

import cython
from libc.stdint cimport uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.trivial cimport Heedless


cdef class Failover(Heedless):
    cdef Backend _first

    @cython.locals(backend=Backend)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
