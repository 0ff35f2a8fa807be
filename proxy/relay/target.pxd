"""The C fields of a target: the data path reads them with each query and connection."""

from proxy.balance.backend cimport Backend


cdef class Target(Backend):
    cdef public Py_ssize_t slot, cell, limit
    cdef public Py_ssize_t failures
    cdef public double failed_at, told, hinted
    cdef public set connections
    cdef public dict former
    cdef public object address, port, family, sources, send_proxy
