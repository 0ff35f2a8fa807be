"""DNS over UDP, query by query."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from proxy.relay.native.address cimport Address, Client
from proxy.relay.native.datagrams cimport Box, Inbox, Names, Post
from proxy.relay.native.dns_journal cimport Journal
from proxy.relay.native.dns_phases cimport Phases
from proxy.relay.native.dns_query cimport Attempt, Query
from proxy.relay.native.dns_random cimport Random
from proxy.relay.native.dns_tables cimport Duplicates, Idents, Twins
from proxy.relay.native.poller cimport Call, Poller, Watch
from proxy.relay.native.siphash cimport Secret
from proxy.relay.native.traffic cimport Traffic
from proxy.relay.target cimport Target


cdef class Queries


from proxy.relay.native.dns_listener cimport Listener
from proxy.relay.native.dns_upstream cimport Peer, Upstream


cdef class Queries:
    cdef readonly Traffic service
    cdef readonly Poller poller
    cdef readonly Py_ssize_t base
    cdef readonly Random random
    cdef readonly Py_ssize_t unfinished  # queries that wait for an answer, or whose answer has not left
    cdef Journal journal
    cdef Inbox _inbox
    cdef Post _post
    cdef Secret _secret
    cdef Duplicates _duplicates
    cdef Twins _twins
    cdef Phases _phases
    cdef int64_t *_at  # the service's cells
    cdef int64_t *_column
    cdef Py_ssize_t _large, _excess
    cdef public Py_ssize_t inflight_cap, large_cap, identical_cap, pending_cap, moved
    cdef public double retry_after
    cdef public bint introduces, subnets, limited
    cdef public object introducers  # None: no source sends PROXY headers

    cdef int admit(
        self, Listener listener, const char *datagram, Py_ssize_t total, Py_ssize_t skip, const Client *client,
        double now, object introduction
    ) except -1
    cdef Query *_new(
        self, Listener listener, const char *datagram, Py_ssize_t total, Py_ssize_t skip, const Client *client,
        double now, object introduction
    ) noexcept
    cdef int _begin(self, Query *query, double now) except -1
    cdef bint _turned_away(
        self, Listener listener, const uint8_t *message, Py_ssize_t end, const Client *client, const Address *asker
    ) except -1
    cdef void _reply_without_query(
        self, Listener listener, const uint8_t *message, Py_ssize_t end, int flags, int rcode, const Client *client
    ) noexcept
    cdef bint _add_subnet(self, Query *query) except -1
    cdef bint _add_client(self, Query *query) noexcept
    cdef int _turn_down(self, Query *query, int why) except -1
    cdef int _log(self, Query *query, int why) except -1
    cdef int _take(self, Listener listener, const char *data, Py_ssize_t size, const Client *client, double now) except -1
    cdef bint _ask(self, Query *query, double now) except -1
    cdef bint _send(self, Query *query, Peer peer, double now) except -1
    cdef bint _coalesce(self, Query *query, Attempt *twins) except -1
    cdef int _sent(self, Upstream upstream, uint16_t ident, Py_ssize_t size, int error) except -1
    cdef int _answer(self, Attempt *attempt, Upstream upstream, uint8_t *data, Py_ssize_t size, double now) except -1
    cdef int _blame_silent(self, Query *query, Target answered, double now) except -1
    cdef bint _reply(self, Query *query, uint8_t *data, Py_ssize_t size) except -1
    cdef int _refuse(self, Query *query, int why) except -1
    cdef int _fail(self, Query *query, int why) except -1
    cdef int _finish(self, Query *query, Attempt *answered) except -1
    cdef int _end_attempt(self, Query *query, Attempt *attempt) except -1
    cdef void _release(self, Query *query) noexcept
    cdef void _unpin(self, Query *query) noexcept
    cdef bint _ask_elsewhere(self, Query *query, double now) except -1
    cdef int _silent(self, Query *query, double now) except -1
    cdef int _admit_batch(self, Listener listener, int count) except -1
