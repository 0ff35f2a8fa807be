"""The clients' side of DNS over UDP."""

from libc.stdint cimport uint32_t

from proxy.relay.native.address cimport Client
from proxy.relay.native.datagrams cimport Box, Names
from proxy.relay.native.poller cimport Watch


cdef class Listener


from proxy.relay.native.dns cimport Queries


cdef class Listener:
    cdef Watch _watch
    cdef Box _box
    cdef int _fd
    cdef Names _names
    cdef Py_ssize_t _owing  # queries whose answer has not left, and other datagrams that wait
    cdef readonly Queries dns
    cdef readonly object member, sock
    cdef readonly bytes route
    cdef readonly Py_ssize_t ident
    cdef list _peers  # by backend index

    cdef tuple client(self, const Client *client)
