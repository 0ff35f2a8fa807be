"""The C fields of selectors, and the pick that C calls without a Python call."""

from libc.stdint cimport uint64_t

from proxy.balance.backend cimport Backend


cdef class Heedless:
    cdef readonly tuple backends

    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    cpdef changed(self, Backend backend)
    cpdef refreshed(self)


cdef class Nobody(Heedless):
    cpdef Backend pick(self, uint64_t key=*, exclude=*)


cdef class Only(Heedless):
    cdef Backend _backend

    cpdef Backend pick(self, uint64_t key=*, exclude=*)
