"""UDP sessions: their listeners, their table and their datagrams in both directions."""

from libc.stdint cimport int64_t, uint32_t

from proxy.relay.native.address cimport Client
from proxy.relay.native.datagrams cimport Box, Inbox, Post
from proxy.relay.native.poller cimport Poller, Watch
from proxy.relay.native.timers cimport Deadline
from proxy.relay.native.traffic cimport Traffic
from proxy.relay.native.udp_listener cimport Receiver
from proxy.relay.native.udp_table cimport Key, Node, Table
from proxy.relay.native.udp_unanswered cimport End, Holder, Unanswered


cdef class UdpListener(Receiver):
    cdef readonly Sessions udp
    cdef readonly Py_ssize_t sessions  # that answer through this socket
    cdef Post _post
    cdef Box _box


cdef class Session(Holder):
    cdef public UdpListener listener
    cdef readonly object told
    cdef public object sticky
    cdef public double began, touched, heard, asked
    cdef public Py_ssize_t epoch
    cdef readonly int64_t bytes_in, bytes_out
    cdef readonly bint refused
    cdef bint _roams
    cdef bytes _head, _more
    cdef Node _node
    cdef Watch _watch
    cdef int _fd

    cdef int _send(self, const char *data, Py_ssize_t size, tuple tried) except -1
    cdef int _ready(self) except -1
    cdef void _close(self) noexcept
    cdef int _answer(self, const char *data, Py_ssize_t size) except -1
    cdef int _broke(self, int error) except -1


cdef class Sessions:
    cdef readonly Traffic service
    cdef readonly Poller poller
    cdef readonly Unanswered unanswered
    cdef public object log, followed
    cdef public double idle_timeout
    cdef public bint introduced
    cdef Inbox _inbox
    cdef Post _post
    cdef Table _table
    cdef int64_t *_at
    cdef Deadline _expiry

    cdef int _take(self, UdpListener listener, const char *data, Py_ssize_t size, const Client *client) except -1
    cdef int _admit(
        self, UdpListener listener, const char *data, Py_ssize_t size, const Client *client, told,
    ) except -1
    cdef Session _found(self, const Key *key, bytes more)
    cdef int _end(self, Session session, Py_ssize_t why) except -1
    cdef int _let_go(self, Session session) except -1
    cdef int _arm(self, double when) except -1
    cdef int _expire(self, double now) except -1
    cdef void _touch(self, Session session) noexcept
