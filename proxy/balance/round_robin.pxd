"""The C fields of round-robin."""

import cython
from libc.stdint cimport uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.trivial cimport Heedless


cdef class RoundRobin(Heedless):
    cdef object _turns, _retry_turns

    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(backend=Backend)
    cdef Backend _retry(self, exclude)
