"""A UDP socket that clients send to."""

from proxy.relay.native.address cimport Address, Client
from proxy.relay.native.datagrams cimport Inbox, Names
from proxy.relay.native.poller cimport Poller, Watch
from proxy.relay.native.traffic cimport Traffic


cdef class Receiver:
    cdef readonly object member, sock
    cdef readonly bytes route
    cdef readonly Py_ssize_t ident
    cdef Poller _poller
    cdef Inbox _inbox
    cdef Watch _watch
    cdef Names _names
    cdef int _fd

    cdef int _ready(self) except -1
    cdef int _got(self, const char *data, Py_ssize_t size, const Client *client) except -1


cdef bint is_admitted(Traffic service, const Client *client, told, Address *asker) except -1
