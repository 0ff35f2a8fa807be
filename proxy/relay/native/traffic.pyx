"""What of a service the data path touches with each query and connection: its counters, its selector, its load, its clients.

`proxy.relay.service.Service` adds the policy.
"""

from libc.math cimport INFINITY

from proxy.balance.blake2b cimport key_of
from proxy.relay.native.address cimport host_of, port_of, write_address
from proxy.relay.native.cells cimport cell_read, cell_write
from proxy.relay.native.rates cimport REFUSED, UNKNOWN
from proxy.relay.native.siblings cimport claim_cell

from proxy.stats import layout

cdef Py_ssize_t BACKEND_ACTIVE = layout.BACKEND_ACTIVE
cdef Py_ssize_t BACKEND_TOTAL = layout.BACKEND_TOTAL
cdef Py_ssize_t SERVICE_RATE_LIMITED = layout.SERVICE_RATE_LIMITED
cdef Py_ssize_t SERVICE_RATE_UNKNOWN = layout.SERVICE_RATE_UNKNOWN
cdef Py_ssize_t TURN_QUEUE = layout.TURN_QUEUE


cdef class Slots:
    """The slots of a service's limited backends, each of which holds a connection, a session or a query.

    `full` is the first backend that the last `pick` would have returned but for a lack of free slots.  `queue` has the
    clients that wait for a slot.  `proxy.relay.capacity.Capacity` adds the policy.
    """

    def __init__(self, Traffic traffic not None, Siblings siblings not None):
        """Claim in the service's column, and read the other workers'."""
        self._traffic = traffic
        self.siblings = siblings

    cpdef Target pick(self, uint64_t key, tried, double since=INFINITY):
        """Claim a slot and return its backend, none of `tried`; return None and set `full` if there is no free slot."""
        cdef Target picked = self._traffic._scheduled(key, tried)
        cdef Py_ssize_t ahead = self._ahead(since)
        self.full = None
        if picked is None or self.claim_behind(picked, ahead):
            return picked
        self.full = picked
        return self.instead(picked, key, tried, ahead)

    cpdef bint claim(self, Target target) except -1:
        """Claim a slot of this backend, behind all waiting clients; return False if none is free."""
        return self.claim_behind(target, self._ahead(INFINITY))

    cpdef bint claim_behind(self, Target target, Py_ssize_t ahead) except -1:
        """Claim a slot of this backend, and leave `ahead` slots for other workers' clients; return False if none is free."""
        if not target.limit:
            return True
        return claim_cell(
            self._traffic.at, target.cell + BACKEND_ACTIVE, self.siblings, target.active, target.limit, ahead
        )

    cpdef unclaim(self, Target target):
        """Give back a claimed slot that was not used; harmless after `took`."""
        cell_write(&self._traffic.at[target.cell + BACKEND_ACTIVE], target.active)

    cpdef bint free(self, Target target, Py_ssize_t ahead=0) except -1:
        """Return True if the backend has a free slot after `ahead` slots are left for other workers' clients."""
        return not target.limit or (
            target.active + self.siblings.sum(target.cell + BACKEND_ACTIVE) + ahead < target.limit
        )

    cpdef freed(self):
        """Wake the queue: a slot has become free."""
        if self.queue is not None:
            self.queue.wake()

    cdef Py_ssize_t _ahead(self, double since) except -1:
        """Return how many clients have waited since before `since`, none of them in this worker's queue, except for datagrams."""
        cdef Py_ssize_t turn = self._traffic.cell + TURN_QUEUE
        if self.siblings.sum(turn) or (since == INFINITY and cell_read(&self._traffic.at[turn])):
            return self.heads_before(since)
        return 0


cdef class Traffic:
    """The base of a service."""

    def __init__(self, cells, Py_ssize_t cell):
        """Count in these cells, in the service's block at `cell`."""
        self.at = column(cells)
        self.cells = cells
        self.cell = cell

    @property
    def selector(self):
        """The present selector."""
        return self._selector

    @selector.setter
    def selector(self, selector):
        self._selector = selector
        self._scheduler = selector if isinstance(selector, Heedless) else None
        self.needs_key = selector.needs_key
        self.needs_changes = selector.needs_changes

    cpdef Target pick(self, uint64_t key, tried, double since=INFINITY):
        """Return the backend for a new query, session or connection, none of `tried`; None if no backend is left.

        Standbys come after all serving backends.  If backends are limited, `pick` claims a slot, and the caller must
        call `took` or `unclaim`.  `since` is the time at which the client began to wait (monotonic seconds).
        """
        if self.capacity is not None:
            return self.capacity.pick(key, tried, since)
        return self._scheduled(key, tried)

    cdef Target _scheduled(self, uint64_t key, tried):
        """Return the scheduler's choice, whether it has a free slot or not."""
        if self._scheduler is not None:
            return self._scheduler.pick(key, tried)
        return self._selector.pick(key, tried)

    cpdef bint claim(self, Target target) except -1:
        """Claim a slot of a backend that the scheduler did not choose; return False if none is free."""
        return self.capacity is None or self.capacity.claim(target)

    cpdef unclaim(self, Target target):
        """Give back the slot that `pick` claimed, because it was not used."""
        if self.capacity is not None:
            self.capacity.unclaim(target)

    cpdef count(self, Py_ssize_t cell):
        """Count one more in a cell of the service's block."""
        self.at[self.cell + cell] += 1

    cpdef took(self, Target target):
        """Count a connection, session or query that begins on `target`."""
        target.active += 1
        self.at[target.cell + BACKEND_ACTIVE] = target.active
        self.at[target.cell + BACKEND_TOTAL] += 1
        if self.needs_changes:
            self._changed(target)

    cdef int _changed(self, Target target) except -1:
        if self._scheduler is not None:
            self._scheduler.changed(target)
        else:
            self._selector.changed(target)
        return 0

    cpdef adopted(self, Target target):
        """Count a session on `target` that a predecessor has counted already when it began."""
        self.took(target)
        self.at[target.cell + BACKEND_TOTAL] -= 1

    cpdef gave_back(self, Target target):
        """Count the end of a connection, session or query on `target`."""
        target.active -= 1
        self.at[target.cell + BACKEND_ACTIVE] = target.active
        if self.needs_changes:
            self._changed(target)
        if self.capacity is not None:
            self.capacity.freed()

    def know(self, Memo permitted, Memo source_keys, bint by_question, bint by_port, Rate tcp_rate, Rate udp_rate):
        """Use these rules for all clients from now on: the plan has changed.

        `permitted` is 1 or 0 for a client, or None if everybody may use the service.  `source_keys` has the keys of clients
        for hashing schedulers, or is None if something else is hashed; `by_question` means that it is a query's name if there
        is a query.  `by_port` means that a client's port is hashed as well.  A rate is None if there is no limit.
        """
        self._permitted = permitted
        self._source_keys = source_keys
        self._by_question = by_question
        self._by_port = by_port
        self._tcp_rate = tcp_rate
        self._udp_rate = udp_rate

    cdef bint permits(self, const Address *address) except -1:
        """Return True if a client may use the service."""
        return self._permitted is None or self._permitted.get(address) != 0

    cdef bint too_fast(self, bint datagrams, const Address *address, double now) except -1:
        """Return True and count it if a client exceeds its rate over UDP (`datagrams`) or TCP, at `now` (monotonic s)."""
        cdef Rate rate = self._udp_rate if datagrams else self._tcp_rate
        return rate is not None and self._exceeds(rate.grant(address, now))

    cdef bint _exceeds(self, int answer) noexcept:
        if answer == REFUSED:
            self.at[self.cell + SERVICE_RATE_LIMITED] += 1
        elif answer == UNKNOWN:
            self.at[self.cell + SERVICE_RATE_UNKNOWN] += 1
        return answer == REFUSED

    cdef uint64_t source_key(self, bytes route, const Address *address, bytes question) except? 0:
        """Return the key for a hashing scheduler; call it if `needs_key`.

        The arguments are those of `key`.
        """
        cdef bytes data
        if self._by_question and question is not None:
            data = question[:-4].lower()
        elif self._source_keys is not None:
            return <uint64_t>self._source_keys.get(address)
        elif self._by_port:
            data = f"{host_of(address)} {port_of(address)}".encode()
        else:
            data = route
        return key_of(data, len(data))

    def key(self, bytes route, tuple client, bytes question=None):
        """Return the key for a hashing scheduler (`hash-on`): of the listener's `route`, the client, or a query's name.

        `question` is in wire format.  Traffic without a question, such as TCP connections, is hashed by its client.
        """
        cdef Address address
        host, port = client[:2]
        write_address(&address, (host.partition("%")[0], port))
        return self.source_key(route, &address, question)

    cdef int64_t sticky(self, const Address *address) except? -1:
        """Return the key of a client's template; call it if there is a `persistence`."""
        cdef Memo keys = self.persistence.keys
        return keys.get(address)

    def rules(self, tuple client, bytes route, bytes question):
        """Return what C sees of a client: whether it may use the service, its key for a scheduler, and its template's (or 0)."""
        cdef Address address
        write_address(&address, client)
        sticky = self.sticky(&address) if self.persistence is not None else 0
        return self.permits(&address), self.source_key(route, &address, question), sticky

    def is_too_fast(self, Rate rate not None, address):
        """Return True and count it if a client, an address as text, exceeds its rate."""
        return self._exceeds(rate.answer(address, self.now()))
