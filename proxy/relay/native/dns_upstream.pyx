"""The backends' side of DNS over UDP: connected sockets, and the queries that are pending there, by ID.

`proxy.relay.dns.upstream` opens and replaces the sockets.
"""

cimport cython

from libc.errno cimport EAGAIN
from libc.stdint cimport uint16_t
from libc.stdlib cimport free, malloc

from proxy.relay.native.datagrams cimport BATCH, CONNECTED, Parcel
from proxy.relay.native.dns_message cimport repeats_question
from proxy.relay.native.dns_query cimport HEADER, QR, Query
from proxy.relay.native.dns_tables cimport LATE, Place, find_ident, free_idents, late_ident
from proxy.relay.native.linux cimport EPOLLERR, EPOLLET, EPOLLIN, monotonic
from proxy.relay.native.poller cimport prepare_call

from proxy.relay.dns.message import is_answer
from proxy.stats import layout

SOCKETS_A_BACKEND = SOCKETS

cdef Py_ssize_t SERVICE_LATE_REPLY = layout.SERVICE_LATE_REPLY
cdef Py_ssize_t SERVICE_MALFORMED_REPLY = layout.SERVICE_MALFORMED_REPLY
cdef Py_ssize_t SERVICE_NO_MEMORY = layout.SERVICE_NO_MEMORY
cdef Py_ssize_t SERVICE_WRONG_ID = layout.SERVICE_WRONG_ID
cdef Py_ssize_t SERVICE_WRONG_QUESTION = layout.SERVICE_WRONG_QUESTION


cdef class Peer:
    """One backend at one port; `proxy.relay.dns.upstream` opens and replaces its sockets."""

    def __init__(self, Queries dns, Target target, int port):
        """Begin without sockets."""
        self.dns = dns
        self.target = target
        self.port = port
        self.sockets = [None] * SOCKETS


@cython.no_gc_clear
cdef class Upstream:
    """One connected socket and the queries pending on it, by ID."""

    def __init__(self, Peer peer, sock, double now):
        """Read from a connected socket; raise OSError if it cannot be watched."""
        cdef Queries dns = peer.dns
        self.peer = peer
        self.sock = sock
        self.born = now
        self._fd = sock.fileno()
        dns.poller.prepare(&self._watch, _upstream_ready, <void *>self)
        prepare_call(&self._move, _upstream_moves, <void *>self)
        dns._post.open(&self._box, self._fd, _query_sent, <void *>self, False)
        dns.poller.watch(&self._watch, self._fd, EPOLLIN | EPOLLET)

    def __dealloc__(self):
        if self.peer is not None:
            self.peer.dns.poller.drop(&self._watch)
            self.peer.dns.poller.withdraw(&self._move)
            self.peer.dns._post.close(&self._box)
        free_idents(&self._idents)
        free(self._moving)

    def close(self):
        """Close the socket."""
        cdef Queries dns = self.peer.dns
        dns.poller.drop(&self._watch)
        dns.poller.withdraw(&self._move)
        dns._post.close(&self._box)
        self._fd = -1
        self.sock.close()

    @property
    def pending(self):
        """The number of pending queries."""
        return self._idents.pending

    @property
    def late(self):
        """The IDs that were given up, the oldest first."""
        return [
            self._idents.late[(self._idents.late_first + number) % LATE] for number in range(self._idents.late_count)
        ]

    def forget(self, uint16_t ident):
        """Remember an ID that was given up: its answer is counted as late, not as forged, and reaches no other client."""
        late_ident(&self._idents, ident)

    def ask_elsewhere(self):
        """Send the queries whose latest attempt is here to other backends, too.

        It happens in a later round, because the caller may be in the middle of sending.
        """
        self._again = True
        self.peer.dns.poller.call_soon(&self._move)

    cdef int _refused(self, int error, double now) except -1:
        """Count a socket's error; return 1 if sending may work at once."""
        return self.peer.broke(self, error, now)

    cdef int _answered(self, uint8_t *data, Py_ssize_t size, double now) except -1:
        """Take a datagram, which may be an answer."""
        cdef Queries dns = self.peer.dns
        cdef Place *place
        cdef Query *query
        if size < HEADER or not data[2] & QR:
            dns._at[SERVICE_MALFORMED_REPLY] += 1
            return 0
        place = find_ident(&self._idents, data[0] << 8 | data[1])
        if place == NULL or place.attempt == NULL:
            dns._at[SERVICE_WRONG_ID if place == NULL else SERVICE_LATE_REPLY] += 1
            return 0
        query = place.attempt.query
        if not repeats_question(data, size, query.message, query.end) and not is_answer(
            (<char *>data)[:size], (<char *>query.message)[: query.size], query.end
        ):
            dns._at[SERVICE_WRONG_QUESTION] += 1
            return 0
        self.silent = 0
        return dns._answer(place.attempt, self, data, size, now)

    cdef int _move_some(self) except -1:
        """Send a portion of the pending queries to other backends; an answer from here still counts."""
        cdef Queries dns = self.peer.dns
        cdef Py_ssize_t left = dns.moved
        cdef uint32_t number
        cdef Place *place
        cdef Query *query
        cdef double now = dns.poller.now
        if not self._unmoved:
            self._again = False
            free(self._moving)
            self._moving = <uint16_t *>malloc(max(<uint32_t>1, self._idents.pending) * sizeof(uint16_t))
            if self._moving == NULL:
                dns._at[SERVICE_NO_MEMORY] += 1
                return 0
            for number in range(self._idents.size):
                if self._idents.places[number].used and self._idents.places[number].attempt != NULL:
                    self._moving[self._unmoved] = self._idents.places[number].ident
                    self._unmoved += 1
            self._moving_since = now
        try:
            while left and self._unmoved:
                left -= 1
                self._unmoved -= 1
                place = find_ident(&self._idents, self._moving[self._unmoved])
                if place == NULL or place.attempt == NULL or place.attempt.sent > self._moving_since:
                    continue
                query = place.attempt.query
                if query.last == place.attempt:
                    dns._ask_elsewhere(query, now)
        finally:
            if self._unmoved or self._again:
                dns.poller.call_soon(&self._move)
            if not self._unmoved:
                free(self._moving)
                self._moving = NULL


cdef int _upstream_ready(Watch *watch, uint32_t mask) except -1:
    """Read answers and ICMP errors."""
    cdef Upstream upstream = <Upstream>watch.again.owner
    cdef Queries dns = upstream.peer.dns
    cdef double now = monotonic()
    cdef int number, count = dns._inbox.receive(upstream._fd, CONNECTED)
    if count == -EAGAIN:
        return 0
    if count == BATCH or count < 0 or mask & EPOLLERR:
        dns.poller.call_again(watch)
    if count < 0:
        upstream._refused(-count, now)
        return 0
    for number in range(count):
        try:
            upstream._answered(<uint8_t *>dns._inbox.data(number), dns._inbox.size(number), now)
        except Exception as error:
            dns.poller.fault(error)
        dns._post.relieve()
    return 0


cdef int _upstream_moves(Call *call) except -1:
    cdef Upstream upstream = <Upstream>call.owner
    return upstream._move_some()


cdef int _query_sent(Box *box, Parcel *parcel, int error) except -1:
    """Count a query that has left; ask again for one that could not leave."""
    cdef Upstream upstream = <Upstream>box.owner
    cdef Queries dns = upstream.peer.dns
    return dns._sent(upstream, <uint16_t>parcel.tag, <Py_ssize_t>parcel.owner, error)
