"""Datagrams that are balanced one by one: their listeners, and one socket to each backend."""

from libc.stdint cimport int64_t

from proxy.relay.native.address cimport Client
from proxy.relay.native.datagrams cimport Inbox
from proxy.relay.native.linux cimport msghdr
from proxy.relay.native.poller cimport Poller, Watch
from proxy.relay.native.traffic cimport Traffic
from proxy.relay.native.udp_listener cimport Receiver
from proxy.relay.target cimport Target


cdef struct Last:
    # The last datagram that was sent to a backend, with its client.
    char *data
    Py_ssize_t size  # -1: none
    Py_ssize_t room
    Client client
    double at  # monotonic seconds


cdef class PerDatagramListener(Receiver):
    cdef readonly Datagrams udp
    cdef dict _outlets


cdef class Outlet:
    cdef readonly Datagrams udp
    cdef readonly Target target
    cdef readonly Py_ssize_t port
    cdef public double born, barred
    cdef Poller _poller
    cdef Watch _watch
    cdef int _fd
    cdef Last _last
    cdef PerDatagramListener _listener
    cdef object _told
    cdef tuple _refused

    cdef int _send(self, const msghdr *message, Py_ssize_t size, source) except -1
    cdef void _keep(
        self, PerDatagramListener listener, const char *data, Py_ssize_t size, const Client *client, told, tuple refused,
    ) noexcept
    cdef int _ready(self) except -1
    cdef int _broke(self, int error) except -1
    cdef void _close(self) noexcept


cdef class Datagrams:
    cdef readonly Traffic service
    cdef readonly Poller poller
    cdef public double lifetime
    cdef public bint introduced, headed, avoiding
    cdef Inbox _inbox
    cdef int64_t *_at

    cdef int _take(
        self, PerDatagramListener listener, const char *data, Py_ssize_t size, const Client *client,
    ) except -1
    cdef int _admit(
        self, PerDatagramListener listener, const char *data, Py_ssize_t size, const Client *client, told,
    ) except -1
    cdef int _offer(
        self, PerDatagramListener listener, const char *data, Py_ssize_t size, const Client *client,
    ) except -1
    cdef Outlet _outlet(self, PerDatagramListener listener, Target target)
