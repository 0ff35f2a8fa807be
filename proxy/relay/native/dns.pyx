"""DNS over UDP, query by query; `proxy.relay.dns.service` states the laws and has the policy.

A query is a C struct in four tables: by client and message (a retransmission joins it), by phase (when it is sent again
and given up), and for each attempt by message and backend (identical queries may share an answer) and by socket and ID.
What is sent waits in the boxes of the round (`datagrams`).  So a query is over (`done`) when its answer is put into its
listener's box, and is released when that has left: only then its place in the journal is free.

Python is called for the pick, and for what is rare: failures, retries, PROXY headers, subnets.  It may not end a query
that a caller here still uses: `pins` keep the memory.
"""

import os

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from proxy.relay.native.address cimport Address, Client, port_of, write_address, write_client
from proxy.relay.native.datagrams cimport inbox_of, post_of
from proxy.relay.native.dns_message cimport end_of_question, write_answer
from proxy.relay.native.dns_query cimport (
    ALONE, ANSWER, HEADER, OPCODE, QR, REFUSAL, TC, Attempt, Join, Query, Waiting, append_join, is_owed,
    take_over_joins, unlink_join,
)
from proxy.relay.native.siphash cimport keyed_hash
from proxy.relay.native.dns_tables cimport Place, add_ident, find_ident, late_ident, remove_ident
from proxy.relay.native.dns_upstream cimport SOCKETS
from proxy.relay.native.linux cimport AF_INET6, ECANCELED, monotonic
from proxy.relay.native.poller cimport Poller
from proxy.relay.native.traffic cimport Traffic
from proxy.relay.target cimport Target

from proxy.relay import target as target_module
from proxy.relay.dns import inflight
from proxy.relay.dns.client_subnet import add, undo
from proxy.relay.dns.inflight import Refused
from proxy.relay.proxy_header.datagrams import header_for, who
from proxy.relay.sockets import outgoing
from proxy.stats import histogram, layout

cdef enum:
    FORMERR = 1
    SERVFAIL = 2

cdef int ATTEMPTS = target_module.ATTEMPTS
cdef int ANEW = inflight.ANEW
cdef int SLIP = inflight.SLIP
cdef Py_ssize_t LARGE = inflight.LARGE
cdef double LIFETIME = outgoing.LIFETIME

cdef Py_ssize_t SERVICE_DATAGRAMS = layout.SERVICE_DATAGRAMS
cdef Py_ssize_t SERVICE_EMPTY_DATAGRAM = layout.SERVICE_EMPTY_DATAGRAM
cdef Py_ssize_t SERVICE_MALFORMED = layout.SERVICE_MALFORMED
cdef Py_ssize_t SERVICE_RESPONSE_AS_QUERY = layout.SERVICE_RESPONSE_AS_QUERY
cdef Py_ssize_t SERVICE_DENIED = layout.SERVICE_DENIED
cdef Py_ssize_t SERVICE_SOURCE_PORT_ZERO = layout.SERVICE_SOURCE_PORT_ZERO
cdef Py_ssize_t SERVICE_JOINED = layout.SERVICE_JOINED
cdef Py_ssize_t SERVICE_QUERIES = layout.SERVICE_QUERIES
cdef Py_ssize_t SERVICE_TRUNCATED = layout.SERVICE_TRUNCATED
cdef Py_ssize_t SERVICE_UNSENT_REPLIES = layout.SERVICE_UNSENT_REPLIES
cdef Py_ssize_t SERVICE_RETRIES = layout.SERVICE_RETRIES
cdef Py_ssize_t SERVICE_INFLIGHT = layout.SERVICE_INFLIGHT
cdef Py_ssize_t SERVICE_TABLE_FULL = layout.SERVICE_TABLE_FULL
cdef Py_ssize_t SERVICE_SERVFAIL = layout.SERVICE_SERVFAIL
cdef Py_ssize_t SERVICE_GAVE_UP = layout.SERVICE_GAVE_UP
cdef Py_ssize_t SERVICE_COALESCED = layout.SERVICE_COALESCED
cdef Py_ssize_t SERVICE_NO_MEMORY = layout.SERVICE_NO_MEMORY
cdef Py_ssize_t SERVICE_REPLAYED = layout.SERVICE_REPLAYED
cdef Py_ssize_t BACKEND_ACTIVE = layout.BACKEND_ACTIVE
cdef Py_ssize_t BACKEND_TOTAL = layout.BACKEND_TOTAL
cdef Py_ssize_t BACKEND_BYTES_IN = layout.BACKEND_BYTES_IN
cdef Py_ssize_t BACKEND_BYTES_OUT = layout.BACKEND_BYTES_OUT
cdef Py_ssize_t BACKEND_REPLIES = layout.BACKEND_REPLIES
cdef Py_ssize_t BACKEND_LATENCY = layout.BACKEND_LATENCY
cdef Py_ssize_t BACKEND_NO_ANSWER = layout.BACKEND_NO_ANSWER
cdef int64_t LIMIT = histogram.LIMIT
cdef int BUCKETS = histogram.CELLS


cdef inline int bucket(int64_t microseconds) noexcept:
    """Return a latency's bucket, as `proxy.stats.histogram` draws them."""
    cdef int shift = 0
    cdef int64_t rest
    if microseconds < 8:
        return microseconds if microseconds > 0 else 0
    if microseconds >= LIMIT:
        return BUCKETS - 1
    rest = microseconds >> 3
    while rest:
        shift += 1
        rest >>= 1
    return (shift << 2) + (microseconds >> shift)


cdef class Queries:
    """The queries of one service in one worker."""

    def __init__(self, Traffic service, Poller poller, Journal journal, tuple ends):
        """Begin without queries; `ends` are the times of the phases."""
        cdef bytes secret = os.urandom(sizeof(Secret))
        memcpy(&self._secret, <const char *>secret, sizeof(Secret))
        self.service = service
        self.poller = poller
        self.journal = journal
        self.base = service.cell
        self._at = service.at + service.cell
        self._column = service.at
        self.random = Random()
        self._inbox = inbox_of(poller)
        self._post = post_of(poller)
        self._duplicates = Duplicates()
        self._twins = Twins()
        self._phases = Phases(poller.timers, ends)
        self._phases.call(_query_silent, _query_over, <void *>self)

    @property
    def inflight(self):
        """The number of queries that wait for an answer."""
        return self._duplicates.buckets.count

    @property
    def twins(self):
        """The number of different messages in flight, counted for each backend."""
        return self._twins.buckets.count

    def retime(self, tuple ends):
        """Use other times for phases, also for the queries in flight."""
        self._phases.retime(ends)
        self.poller.arm()

    def flush(self):
        """Send at once what waits."""
        self._post.flush_all()

    def fail_all(self, int why):
        """Answer all queries in flight with SERVFAIL; the counter `why` gives the reason."""
        cdef Waiting *one = self._phases.first()
        while one != NULL:
            self._fail(<Query *>one, why)
            one = self._phases.first()

    def take(self, Listener listener not None, bytes data, tuple source, double now):
        """Take one datagram as if it had arrived from this client."""
        cdef Client client
        write_client(&client, source)
        self._take(listener, data, len(data), &client, now)

    def replay(self, Listener listener not None, bytes data, tuple source, double now):
        """Send a query again that a dead worker had in flight; answer SERVFAIL if it could act twice."""
        cdef Client client
        cdef const uint8_t *message
        cdef Py_ssize_t size, skip = 0
        cdef Query *query
        introduction = None
        write_client(&client, source)
        if self.introducers is not None:
            found = self.introducers.read(data, listener.client(&client))
            if found is None:
                return
            introduction = found[0]
            skip = len(data) - len(found[1])
        message = <const uint8_t *><const char *>data + skip
        size = len(data) - skip
        if size < HEADER or not message[2] & OPCODE:
            self.admit(listener, data, len(data), skip, &client, now, introduction)
            return
        query = self._new(listener, data, len(data), skip, &client, now, introduction)
        if query != NULL:
            query.end = end_of_question(message, size) or HEADER
            self._turn_down(query, SERVICE_REPLAYED)

    # -- from the client

    cdef int _admit_batch(self, Listener listener, int count) except -1:
        cdef double now = monotonic()
        cdef int number
        for number in range(count):
            try:
                self._take(
                    listener, self._inbox.data(number), self._inbox.size(number), &self._inbox.clients[number], now
                )
            except Exception as error:
                self.poller.fault(error)
            self._post.relieve()
        return 0

    cdef int _take(
        self, Listener listener, const char *data, Py_ssize_t size, const Client *client, double now
    ) except -1:
        """Take one datagram as it arrived, with its PROXY header if there is one."""
        if self.introducers is None:
            return self.admit(listener, data, size, 0, client, now, None)
        found = self.introducers.read(data[:size], listener.client(client))
        if found is None:
            return 0
        return self.admit(listener, data, size, size - len(found[1]), client, now, found[0])

    cdef int admit(
        self, Listener listener, const char *datagram, Py_ssize_t total, Py_ssize_t skip, const Client *client,
        double now, object introduction
    ) except -1:
        """Take one query of a client: drop it, join it to a query in flight, or send it to a backend.

        The query is behind `skip` octets, a PROXY header that was read as `introduction`.
        """
        cdef const uint8_t *message = <const uint8_t *>datagram + skip
        cdef Py_ssize_t end, size = total - skip
        cdef const Address *asker = &client.address
        cdef Address introduced
        cdef uint64_t hash, twin_hash
        cdef Query *query
        cdef bint ready = False
        self._at[SERVICE_DATAGRAMS] += 1
        if size < HEADER:
            self._at[SERVICE_MALFORMED if size else SERVICE_EMPTY_DATAGRAM] += 1
            return 0
        if message[2] & QR:
            self._at[SERVICE_RESPONSE_AS_QUERY] += 1
            return 0
        if not port_of(&client.address):
            self._at[SERVICE_SOURCE_PORT_ZERO] += 1
            return 0
        if introduction is not None:
            write_address(&introduced, who(listener.client(client), introduction)[:2])
            asker = &introduced
        if not self.service.permits(asker):
            self._at[SERVICE_DENIED] += 1
            return 0
        twin_hash = keyed_hash(&self._secret, 0, datagram + skip + 2, size - 2)
        hash = keyed_hash(&self._secret, twin_hash ^ <uint64_t>(message[0] << 8 | message[1]), client, sizeof(Client))
        if skip:
            hash ^= keyed_hash(&self._secret, skip, datagram, skip)
        if self._duplicates.find(hash, client, datagram, total, listener.ident) != NULL:
            self._at[SERVICE_JOINED] += 1
            return 0
        end = end_of_question(message, size)
        if (not end or self.limited) and self._turned_away(listener, message, end, client, asker):
            return 0
        self._at[SERVICE_QUERIES] += 1
        query = self._new(listener, datagram, total, skip, client, now, introduction)
        if query == NULL:
            return 0
        query.end = end
        query.entry.hash = hash
        query.twin_hash = twin_hash
        query.who = asker[0]
        try:
            ready = (not self.subnets or self._add_subnet(query)) and (not self.introduces or self._add_client(query))
            if not ready:
                self._at[SERVICE_NO_MEMORY] += 1
        finally:
            if not ready:
                query.done = True
                self._release(query)
        if ready:
            query.pins += 1
            try:
                self._begin(query, now)
            finally:
                self._unpin(query)
        return 0

    cdef Query *_new(
        self, Listener listener, const char *datagram, Py_ssize_t total, Py_ssize_t skip, const Client *client,
        double now, object introduction
    ) noexcept:
        """Return a query that is in no table yet; NULL without memory."""
        cdef Query *query = <Query *>malloc(sizeof(Query) + total)
        if query == NULL:
            self._at[SERVICE_NO_MEMORY] += 1
            return NULL
        memset(query, 0, sizeof(Query))
        query.turn.started = now
        query.datagram = <char *>query + sizeof(Query)
        query.total = total
        memcpy(query.datagram, datagram, total)
        query.message = <uint8_t *>query.datagram + skip
        query.size = total - skip
        query.payload = query.twin = query.message + 2
        query.payload_size = query.twin_size = query.size - 2
        query.client = client[0]
        query.ident = listener.ident
        query.slot = -1
        query.also.previous = query.also.next = &query.also
        query.listener = <PyObject *>listener
        Py_INCREF(listener)
        listener._owing += 1
        self.unfinished += 1
        if introduction is not None:
            query.introduction = <PyObject *>introduction
            Py_INCREF(introduction)
        return query

    cdef bint _turned_away(
        self, Listener listener, const uint8_t *message, Py_ssize_t end, const Client *client, const Address *asker
    ) except -1:
        """Return True if a message goes no further: its question cannot be read, or its client exceeds its rate.

        A message without a readable question (`end` 0) gets FORMERR; so does one with more than one question (RFC
        9619). Above the rate every second query gets an answer with TC: over TCP a client cannot forge its address.
        The others get no answer.
        """
        cdef bint excessive = self.service.too_fast(True, asker, self.poller.now)
        if not end:
            self._at[SERVICE_MALFORMED] += 1
            if not excessive:
                self._reply_without_query(listener, message, 0, 0, FORMERR, client)
        elif not excessive:
            return False
        else:
            self._at[SERVICE_QUERIES] += 1
            self._excess += 1
            if not self._excess % SLIP:
                self._at[SERVICE_TRUNCATED] += 1
                self._reply_without_query(listener, message, end, TC, 0, client)
        return True

    cdef void _reply_without_query(
        self, Listener listener, const uint8_t *message, Py_ssize_t end, int flags, int rcode, const Client *client
    ) noexcept:
        cdef char *place = self._post.put(&listener._box, end or HEADER, client, NULL, ALONE)
        if place == NULL:
            self._at[SERVICE_UNSENT_REPLIES] += 1
            return
        listener._owing += 1
        Py_INCREF(listener)
        write_answer(<uint8_t *>place, message, end, flags, rcode)

    cdef bint _add_subnet(self, Query *query) except -1:
        """Put the client's network into the query for backends; return False without memory."""
        cdef bytes payload
        client = who((<Listener>query.listener).client(&query.client), _object(query.introduction))
        found = add((<char *>query.message)[: query.size], query.end, str(client[0]))
        if found is None:
            return True
        payload = found[0][2:]
        query.extra = <char *>malloc(len(payload))
        if query.extra == NULL:
            return False
        memcpy(query.extra, <const char *>payload, len(payload))
        query.subnet = found[1]
        query.payload = query.twin = <uint8_t *>query.extra
        query.payload_size = query.twin_size = len(payload)
        query.twin_hash = keyed_hash(&self._secret, 0, query.twin, query.twin_size)
        return True

    cdef bint _add_client(self, Query *query) noexcept:
        """Tell twins apart by their clients: a backend sees the client, and its answer may depend on it.

        Return False without memory.
        """
        cdef Py_ssize_t size = sizeof(Address) + query.payload_size
        cdef char *extra = <char *>malloc(size)
        cdef Address client = query.who
        if extra == NULL:
            return False
        client.name.four.sin_port = 0  # at the same place in IPv6
        if client.name.any.sa_family == AF_INET6:
            client.name.six.sin6_flowinfo = client.name.six.sin6_scope_id = 0
        memcpy(extra, &client, sizeof(Address))
        memcpy(extra + sizeof(Address), query.payload, query.payload_size)
        free(query.extra)
        query.extra = extra
        query.twin = <uint8_t *>extra
        query.twin_size = size
        query.payload = query.twin + sizeof(Address)
        query.twin_hash = keyed_hash(&self._secret, 1, query.twin, query.twin_size)
        return True

    cdef int _begin(self, Query *query, double now) except -1:
        """Send a new query to a backend; answer SERVFAIL if the table is full or no backend is usable."""
        cdef bint is_large = query.size > LARGE
        if self._duplicates.buckets.count >= self.inflight_cap or (is_large and self._large >= self.large_cap):
            self._at[SERVICE_TABLE_FULL] += 1
            return self._turn_down(query, SERVICE_TABLE_FULL)
        try:
            self._phases.add(&query.turn, now)
        except MemoryError:
            self._at[SERVICE_NO_MEMORY] += 1
            query.done = True
            self._release(query)
            return 0
        self._duplicates.add(query)
        self._large += is_large
        self._at[SERVICE_INFLIGHT] += 1
        if self.journal is not None:
            query.slot = self.journal.write(query.ident, &query.client, query.datagram, query.total)
        # If every backend refused the query just now, it is tried again after `retry-after`.
        if not self._ask(query, now) and not query.tries and not query.done:
            cell = self.service.why_nobody()
            self._at[<Py_ssize_t>cell] += 1
            self._fail(query, cell)
        return 0

    # -- to the backend

    cdef bint _ask(self, Query *query, double now) except -1:
        """Send the query to a backend that has not had it yet; return False if none is left."""
        cdef Traffic service = self.service
        cdef Listener listener = <Listener>query.listener
        cdef uint64_t key = 0
        cdef int64_t sticky = 0
        cdef bint sent
        persistence, capacity = service.persistence, service.capacity
        if service.needs_key:
            question = (<char *>query.message)[HEADER : query.end] if service._by_question else None
            key = service.source_key(listener.route, &query.who, question)
        if persistence is not None:
            sticky = service.sticky(&query.who)
        while query.tries < ATTEMPTS:
            if persistence is not None:
                target = persistence.pick(sticky, key, _tried(query))
            elif capacity is None:
                target = service._selector.pick(key, _tried(query))
            else:
                target = capacity.pick(key, _tried(query))
            if target is None or query.done:
                return False
            _try(query, target)
            query.sends = 0
            sent = self._send(query, <Peer?>listener._peers[(<Target?>target).index], now)
            if capacity is not None:
                capacity.unclaim(target)
            if sent:
                return True
        return False

    cdef bint _send(self, Query *query, Peer peer, double now) except -1:
        """Send a query to this backend, or let it wait for an identical one's answer; return False if neither works.

        It leaves at the end of the round; if that fails, `_sent` sends it again.
        """
        cdef Upstream upstream
        cdef Attempt *attempt
        cdef Attempt *twins
        cdef uint64_t hash = query.twin_hash ^ (<size_t><PyObject *>peer) * <uint64_t>0x9E3779B97F4A7C15
        cdef uint32_t number
        cdef uint16_t ident
        cdef char *place = NULL
        cdef Py_ssize_t before = 0
        cdef bytes head = b""
        if query.sends > SOCKETS:  # all may be broken, if the host's address has changed
            return False
        query.sends += 1
        if peer.introduces:
            head = header_for(
                peer.target,
                (<Listener>query.listener).member,
                (<Listener>query.listener).client(&query.client),
                _object(query.introduction),
            )
            before = len(head)
        twins = self._twins.find(hash, query, <PyObject *>peer)
        if twins != NULL and twins.twins >= self.identical_cap and not query.payload[0] & OPCODE:
            return self._coalesce(query, twins)
        number = self.random.number()
        # The queries of a round leave over one socket, together; the next round's over another one.
        socket_ = peer.sockets[peer.chosen]
        if query.sends > 1 or socket_ is None or (<Upstream?>socket_)._box.first == NULL:
            peer.chosen = number % SOCKETS
            socket_ = peer.sockets[peer.chosen]
        if socket_ is None or now - (<Upstream?>socket_).born >= LIFETIME:
            socket_ = peer.open(peer.chosen, now)
            if socket_ is None or query.done:
                return False
            twins = self._twins.find(hash, query, <PyObject *>peer)
        upstream = <Upstream?>socket_
        if <Py_ssize_t>upstream._idents.pending >= self.pending_cap:
            return False
        ident = number >> 16
        while find_ident(&upstream._idents, ident) != NULL:
            ident = self.random.number() >> 16
        attempt = &query.first
        if query.first.query != NULL:  # it is in use
            attempt = <Attempt *>malloc(sizeof(Attempt))
            if attempt == NULL:
                self._at[SERVICE_NO_MEMORY] += 1
                return False
        if add_ident(&upstream._idents, ident, attempt):
            place = self._post.put(
                &upstream._box, before + 2 + query.payload_size, NULL, <void *>(2 + query.payload_size), ident
            )
        if place == NULL:
            remove_ident(&upstream._idents, ident)
            if attempt != &query.first:
                free(attempt)
            self._at[SERVICE_NO_MEMORY] += 1
            return False
        if before:
            memcpy(place, <const char *>head, before)
        place[before] = ident >> 8
        place[before + 1] = ident & 0xFF
        memcpy(place + before + 2, query.payload, query.payload_size)
        attempt.query = query
        attempt.next = NULL
        attempt.upstream = <PyObject *>upstream
        Py_INCREF(upstream)
        attempt.peer = <PyObject *>peer
        attempt.sent = now
        attempt.ident = ident
        attempt.entry.hash = hash
        self._twins.add(attempt, twins)
        if query.last == NULL:
            query.attempts = attempt
        else:
            query.last.next = attempt
        query.last = attempt
        query.asked += 1
        peer.target.active += 1
        self._column[peer.target.cell + BACKEND_ACTIVE] = peer.target.active
        if self.service.needs_changes:
            self.service._selector.changed(peer.target)
        return True

    cdef bint _coalesce(self, Query *query, Attempt *twins) except -1:
        """Let a query wait for the answer to an identical one; at most `identical_cap` of them are sent."""
        cdef Attempt *one = twins
        cdef Join *join
        for _ in range(twins.twins):
            if one.query == query:
                return False
            one = one.twin
        for _ in range(<int>(self.random.number() % <uint32_t>twins.twins)):
            one = one.twin
        join = <Join *>malloc(sizeof(Join))
        if join == NULL:
            self._at[SERVICE_NO_MEMORY] += 1
            return False
        join.waits = query
        join.other = query.joins
        query.joins = join
        append_join(&one.query.also, join)
        self._at[SERVICE_COALESCED] += 1
        return True

    cdef int _sent(self, Upstream upstream, uint16_t ident, Py_ssize_t size, int error) except -1:
        """Count a query that has left; send one that could not leave over another socket, or to another backend."""
        cdef Target target = upstream.peer.target
        cdef Place *place
        cdef Query *query = NULL
        cdef double now = self.poller.now
        cdef bint at_once
        if not error:
            self._column[target.cell + BACKEND_TOTAL] += 1
            self._column[target.cell + BACKEND_BYTES_IN] += size
            return 0
        place = find_ident(&upstream._idents, ident)
        if place != NULL and place.attempt != NULL:
            query = place.attempt.query
            query.pins += 1
            remove_ident(&upstream._idents, ident)
            self._end_attempt(query, _unlinked(query, upstream, ident))
        try:
            if error == ECANCELED:
                return 0
            # An ICMP error is about an earlier query.  This one was not sent; the next socket may send it.
            at_once = upstream._refused(error, now)
            if query == NULL or query.done:
                return 0
            if not at_once or not self._send(query, upstream.peer, now):
                self._ask(query, now)
        finally:
            if query != NULL:
                self._unpin(query)
        return 0

    # -- back to the client

    cdef int _answer(self, Attempt *attempt, Upstream upstream, uint8_t *data, Py_ssize_t size, double now) except -1:
        """Send an answer to all clients that wait for it."""
        cdef Query *query = attempt.query
        cdef Target target = upstream.peer.target
        cdef int64_t *at = self._column + target.cell
        cdef Query *waits
        cdef Join also
        cdef bint left
        target.failures = 0
        query.pins += 1
        also.previous = also.next = &also
        try:
            if query.asked > 1:
                self._blame_silent(query, target, now)
            at[BACKEND_LATENCY + bucket(<int64_t>((now - attempt.sent) * 1e6))] += 1
            if self.service.timed:
                self.service.took_time(target, now - attempt.sent)
            at[BACKEND_REPLIES] += 1
            at[BACKEND_BYTES_OUT] += size
            if query.done:
                return 0
            take_over_joins(&query.also, &also)
            left = False
            try:
                left = self._reply(query, data, size)
            finally:
                self._finish(query, attempt)
                if not left:
                    self._release(query)
        finally:
            self._unpin(query)
            while also.next != &also:
                waits = also.next.waits
                unlink_join(also.next)
                take_over_joins(&waits.also, &also)
                left = False
                try:
                    left = self._reply(waits, data, size)
                except Exception as error:
                    self.poller.fault(error)
                self._finish(waits, NULL)
                if not left:
                    self._release(waits)
        return 0

    cdef int _blame_silent(self, Query *query, Target answered, double now) except -1:
        """Count a failure of each backend that was silent for `retry-after` on a query that another one has answered.

        Silence alone proves nothing: a resolver is silent if a name's servers are, and a client may choose such a name.
        """
        cdef Attempt *attempt = query.attempts
        cdef dict silent = {}
        if not is_owed(query):
            return 0
        while attempt != NULL:
            if now - attempt.sent >= self.retry_after:
                silent[(<Upstream>attempt.upstream).peer.target] = attempt.sent
            attempt = attempt.next
        silent.pop(answered, None)
        for target, sent in silent.items():
            self.service.erred(target)
            if self.service.timed:
                self.service.took_time(target, now - sent)
        return 0

    cdef bint _reply(self, Query *query, uint8_t *data, Py_ssize_t size) except -1:
        """Put an answer into the listener's box; return False, and count it, if that is impossible."""
        cdef Listener listener = <Listener>query.listener
        cdef bytes undone
        cdef char *place
        if query.subnet:
            undone = bytes(undo((<char *>data)[:size], query.subnet))
            data = <uint8_t *><char *>undone
            size = len(undone)
        place = self._post.put(&listener._box, size, &query.client, query, ANSWER)
        if place == NULL:
            self._at[SERVICE_UNSENT_REPLIES] += 1
            return False
        memcpy(place, data, size)
        memcpy(place, query.message, 2)
        return True

    cdef int _refuse(self, Query *query, int why) except -1:
        """Send SERVFAIL to the client of a query that is over; the counter `why` gives the reason."""
        cdef Listener listener = <Listener>query.listener
        cdef char *place
        self._at[SERVICE_SERVFAIL] += 1
        place = self._post.put(&listener._box, query.end, &query.client, query, REFUSAL)
        if place == NULL:
            self._at[SERVICE_UNSENT_REPLIES] += 1
            self._release(query)
        else:
            write_answer(<uint8_t *>place, query.message, query.end, 0, SERVFAIL)
        return 0

    cdef int _turn_down(self, Query *query, int why) except -1:
        """Answer SERVFAIL to a query that is in no table."""
        query.done = True
        try:
            self._log(query, why)
        finally:
            self._refuse(query, why)
        return 0

    cdef int _fail(self, Query *query, int why) except -1:
        """Answer SERVFAIL and end the query.  Queries that wait for the same answer have their own timers."""
        query.pins += 1
        try:
            self._log(query, why)
        finally:
            if not query.done:
                self._finish(query, NULL)
                self._refuse(query, why)
            self._unpin(query)
        return 0

    cdef int _log(self, Query *query, int why) except -1:
        cdef Listener listener = <Listener>query.listener
        log = self.service.log
        if log is not None:
            target = (<Upstream>query.last.upstream).peer.target if query.last != NULL else None
            log.query(
                self.service,
                Refused(
                    listener, listener.client(&query.client), (<char *>query.message)[: query.size], query.end,
                    query.turn.started, _object(query.introduction), target, query.asked,
                ),
                why,
            )
        return 0

    cdef int _finish(self, Query *query, Attempt *answered) except -1:
        """Take the query out of every table; late answers may still come for all its IDs but the answered one's."""
        cdef Attempt *attempt
        cdef Join *join
        query.done = True
        self._duplicates.remove(query)
        self._phases.remove(&query.turn)
        self._large -= query.size > LARGE
        self._at[SERVICE_INFLIGHT] -= 1
        while query.attempts != NULL:
            attempt = query.attempts
            query.attempts = attempt.next
            if attempt == answered:
                remove_ident(&(<Upstream>attempt.upstream)._idents, attempt.ident)
            else:
                late_ident(&(<Upstream>attempt.upstream)._idents, attempt.ident)
            try:
                self._end_attempt(query, attempt)
            except Exception as error:
                self.poller.fault(error)
        query.last = NULL
        while query.joins != NULL:
            join = query.joins
            query.joins = join.other
            unlink_join(join)
            free(join)
        while query.also.next != &query.also:
            unlink_join(query.also.next)
        return 0

    cdef int _end_attempt(self, Query *query, Attempt *attempt) except -1:
        """Undo what an attempt has added elsewhere, when it is out of its query and its socket."""
        cdef Upstream upstream = <Upstream>attempt.upstream
        self._twins.remove(attempt)
        Py_DECREF(upstream)
        attempt.query = NULL
        query.asked -= 1
        if attempt != &query.first:
            free(attempt)
        self.service.gave_back(upstream.peer.target)
        return 0

    cdef void _release(self, Query *query) noexcept:
        """End a query that is done and whose answer has left."""
        cdef Listener listener
        if query.pins:
            query.released = True
            return
        if query.slot >= 0:
            self.journal.erase(query.slot)
        listener = <Listener>query.listener
        listener._owing -= 1
        self.unfinished -= 1
        Py_XDECREF(query.introduction)
        Py_XDECREF(query.only)
        Py_XDECREF(query.tried)
        free(query.extra)
        free(query)
        Py_DECREF(listener)

    cdef void _unpin(self, Query *query) noexcept:
        query.pins -= 1
        if query.released and not query.pins:
            self._release(query)

    # -- silence and refusal

    cdef int _silent(self, Query *query, double now) except -1:
        """Send a query without an answer to another backend as well; if all had it, begin again: a packet may be lost."""
        cdef Upstream upstream
        if query.asked > query.unanswered:
            query.unanswered = query.asked
            if is_owed(query):
                upstream = <Upstream>query.last.upstream
                self._column[upstream.peer.target.cell + BACKEND_NO_ANSWER] += 1
                upstream.silent += 1
                upstream.peer.unanswered(upstream, now)
        if self._ask_elsewhere(query, now) or query.done or query.turn.phase > ANEW:
            return 0
        _try_again(query, 1)
        if self._ask_elsewhere(query, now) or query.done:
            return 0
        _try_again(query, 0)
        self._ask_elsewhere(query, now)
        return 0

    cdef bint _ask_elsewhere(self, Query *query, double now) except -1:
        """Send the query to one more backend unless it could act twice; return True if it was sent."""
        cdef bint sent = False
        if query.done or (query.asked and query.payload[0] & OPCODE):
            return False
        query.pins += 1
        try:
            sent = self._ask(query, now)
            if sent:
                self._at[SERVICE_RETRIES] += 1
        finally:
            self._unpin(query)
        return sent


cdef int _query_silent(void *owner, Waiting *one, double now) except -1:
    cdef Queries dns = <Queries>owner
    cdef Query *query = <Query *>one
    query.pins += 1
    try:
        dns._silent(query, now)
    finally:
        dns._unpin(query)
    return 0


cdef int _query_over(void *owner, Waiting *one) except -1:
    cdef Queries dns = <Queries>owner
    dns._at[SERVICE_GAVE_UP] += 1
    return dns._fail(<Query *>one, SERVICE_GAVE_UP)


cdef object _object(PyObject *one):
    return None if one == NULL else <object>one


cdef tuple _tried(Query *query):
    """Return the backends that were tried."""
    if query.tried != NULL:
        return <tuple>query.tried
    return () if query.only == NULL else (<object>query.only,)


cdef int _try(Query *query, target) except -1:
    """Note a backend that is tried now."""
    cdef tuple tried
    if query.tries:
        tried = (*_tried(query), target)
        _try_again(query, 0)
        query.tried = <PyObject *>tried
        query.tries = len(tried)
        Py_INCREF(tried)
    else:
        query.only = <PyObject *>target
        query.tries = 1
        Py_INCREF(target)
    return 0


cdef int _try_again(Query *query, int kept) except -1:
    """Forget the backends that were tried but for the last one (`kept` 1) or none (0)."""
    cdef tuple tried = _tried(query)[-1:] if kept else ()
    Py_XDECREF(query.only)
    Py_XDECREF(query.tried)
    query.only = query.tried = NULL
    query.tries = 0
    if tried:
        _try(query, tried[0])
    return 0


cdef Attempt *_unlinked(Query *query, Upstream upstream, uint16_t ident) noexcept:
    """Take an attempt out of its query's list and return it."""
    cdef Attempt *before = NULL
    cdef Attempt *attempt = query.attempts
    while attempt.upstream != <PyObject *>upstream or attempt.ident != ident:
        before = attempt
        attempt = attempt.next
    if before == NULL:
        query.attempts = attempt.next
    else:
        before.next = attempt.next
    if query.last == attempt:
        query.last = before
    return attempt
