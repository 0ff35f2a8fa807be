"""One relayed TCP connection: its client and backend sockets, from the accept to their ends.

Laws:
- The client is not read before a backend is connected; until something has passed, a reset of the backend counts as a
  failed connect.
- A connect that fails is tried on another backend, each one once and at most `ATTEMPTS` of them.  The client does not
  notice: nothing has passed in either direction yet.
- If the host lacks descriptors, memory, local ports or an address to connect from, no backend is at fault: the client
  waits, and the connect is tried again.
- A connection that is older than max-lifetime and quiet is retired: both sides get a FIN.  What they send afterwards cannot
  be delivered, so that it ends the connection, as fin-timeout does, by an RST to both.
- A client's socket inherits its options.  A backend's socket gets those that a short connection does not need after
  `SETTLED` seconds.
"""

cimport cython
from libc.errno cimport (
    EADDRNOTAVAIL, ECONNREFUSED, ECONNRESET, EINPROGRESS, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, ETIMEDOUT, errno,
)
from libc.math cimport INFINITY, isinf
from libc.stdint cimport uint8_t

from proxy.relay.native.linux cimport (
    EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, MSG_NOSIGNAL, SHUT_WR, SOCK_CLOEXEC,
    SOCK_NONBLOCK, SOCK_STREAM, close as close_fd, connect as connect_fd, send, shutdown, socket as open_socket,
)
from proxy.relay.native.poller cimport Poller, Watch
from proxy.relay.native.tcp_half cimport error_of, has_more, waits
from proxy.relay.native.tcp_pair cimport CLOSED, CONNECTING, INTRODUCING, OPEN, QUEUED, RESETTING, WAITING
from proxy.relay.native.tcp_streams cimport Way
from proxy.relay.native.timers cimport prepare_deadline
from proxy.relay.native.traffic cimport Traffic

from proxy.relay.sockets.sources import LackError
from proxy.relay.target import ATTEMPTS
from proxy.stats import layout
from proxy.stats.histogram import bucket

SETTLED = 1.0  # s after which a connection gets the options that a short one does not need
GRACE = 0.5  # s that a connect may still take after the client has sent nothing but a FIN
LINGERING = 0.01  # s between two looks at the send queue before an RST; doubled each time, up to a second

cdef int _ATTEMPTS = ATTEMPTS
cdef double _SETTLED = SETTLED
cdef double _GRACE = GRACE
cdef double _LINGERING = LINGERING
cdef uint32_t STREAM = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET

cdef Py_ssize_t BACKEND_BYTES_IN = layout.BACKEND_BYTES_IN
cdef Py_ssize_t BACKEND_BYTES_OUT = layout.BACKEND_BYTES_OUT
cdef Py_ssize_t BACKEND_CONNECT_REFUSED = layout.BACKEND_CONNECT_REFUSED
cdef Py_ssize_t BACKEND_CONNECT_RESET = layout.BACKEND_CONNECT_RESET
cdef Py_ssize_t BACKEND_CONNECT_TIMEOUT = layout.BACKEND_CONNECT_TIMEOUT
cdef Py_ssize_t BACKEND_CONNECT_UNREACHABLE = layout.BACKEND_CONNECT_UNREACHABLE
cdef Py_ssize_t BACKEND_LATENCY = layout.BACKEND_LATENCY
cdef Py_ssize_t SERVICE_CLIENT_GONE = layout.SERVICE_CLIENT_GONE
cdef Py_ssize_t SERVICE_FIN_TIMEOUT = layout.SERVICE_FIN_TIMEOUT
cdef Py_ssize_t SERVICE_IDLE_TIMEOUT = layout.SERVICE_IDLE_TIMEOUT
cdef Py_ssize_t SERVICE_MAX_LIFETIME = layout.SERVICE_MAX_LIFETIME
cdef Py_ssize_t SERVICE_NO_LOCAL_PORT = layout.SERVICE_NO_LOCAL_PORT
cdef Py_ssize_t SERVICE_PROXY_TIMEOUT = layout.SERVICE_PROXY_TIMEOUT
cdef Py_ssize_t SERVICE_QUEUE_TIMEOUT = layout.SERVICE_QUEUE_TIMEOUT
cdef Py_ssize_t SERVICE_RETRIES = layout.SERVICE_RETRIES


cdef inline bint is_ours(int number) noexcept:
    """Return True if the error means that this process or host has run out of something (ENOSPC: epoll's watches)."""
    return number == EMFILE or number == ENFILE or number == ENOBUFS or number == ENOMEM or number == ENOSPC


@cython.final
cdef class Connection(Relaying):
    """One client's connection, from its accept to the end of both sockets."""

    cdef int begin(self, Streams tcp, listener, int fd, const Address *source) except -1:
        """Own a client's socket, and watch it; raise OSError if that is impossible, and leave it open."""
        cdef Poller poller = tcp.poller
        self.tcp = tcp
        self.listener = listener
        self._address = source[0]
        self.tried = self.portless = ()
        self._state = WAITING
        self.why = -1
        self._wait = _LINGERING
        self.accepted = self.began = poller.now
        self.deadline = self.leaves = INFINITY
        self._client.other = &self._backend
        self._backend.other = &self._client
        self._client.prompt = 2
        self._client.tuned = True
        prepare_deadline(&self._timer, _timer_rings, <void *>self)
        poller.prepare(&self._backend.watch, _backend_ready, <void *>self)
        poller.prepare(&self._client.watch, _client_ready, <void *>self)
        poller.watch(&self._client.watch, fd, STREAM)
        return 0

    @property
    def retires(self):
        """When it is retired if no further octet passes; infinity: never, or it is not open."""
        return self._retires() if self._state == OPEN else INFINITY

    def due(self, double now):
        """Act as the timer does."""
        self._due(now)

    def happens(self, bint backend, uint32_t mask):
        """Act as after an event of one of the sockets."""
        self._event(&self._backend if backend else &self._client, mask)

    # -- admission

    cpdef admit(self):
        """Connect to a backend, or reset a client that the policy refuses."""
        cdef Py_ssize_t cell
        if self.tcp.guarded:
            cell = self.tcp.refusal(self)
            if cell >= 0:
                self.why = cell
                self.close(reset=True)
                return
        self.connect()

    # -- the backend

    cpdef connect(self):
        """Connect to the next backend that has not been tried; let the policy decide if none is left."""
        cdef Streams tcp = self.tcp
        cdef Traffic service = tcp.service
        cdef Target target = None
        cdef tuple avoid
        key = service.key(self.listener.route, self.source) if service.needs_key else 0
        while True:
            avoid = self.tried + self.portless if self.portless else self.tried
            if len(avoid) >= _ATTEMPTS:
                tcp.unserved(self, False)
                return
            if tcp.queue is None and service.capacity is None and service.persistence is None:
                target = service._selector.pick(key, avoid)
            else:
                target = tcp.pick(self, key, avoid)
            if target is None:
                tcp.unserved(self, True)
                return
            if self._state == CLOSED:
                service.unclaim(target)
                return
            if avoid:
                tcp.count(SERVICE_RETRIES)
            if self._attempt(target):
                return
            if service.capacity is not None:
                service.unclaim(target)

    cdef int _attempt(self, Target target) except -1:
        """Begin to connect to `target`, or wait if the host lacks something; return 0 if another backend may be tried."""
        cdef Streams tcp = self.tcp
        cdef Half *backend = &self._backend
        cdef int fd = -1
        cdef int number = 0
        cdef Way way
        cell = SERVICE_NO_LOCAL_PORT
        try:
            way = tcp.way(target, self.listener.member.port)
            if tcp.transparent or way.special:
                fd, number = tcp.open(self, target)
                backend.prompt, backend.tuned = 2, True
            else:
                fd = open_socket(way.where.name.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
                if fd < 0 or connect_fd(fd, &way.where.name.any, way.where.size) < 0:
                    number = errno
            if number == EINPROGRESS:
                number = 0
            if number == 0:
                tcp.poller.watch(&backend.watch, fd, STREAM)
        except OSError as error:
            number = error.errno or ECONNRESET
            if isinstance(error, LackError):
                cell = error.cell
        if number:
            if fd >= 0:
                close_fd(fd)
            backend.prompt = backend.tuned = 0
            if is_ours(number):
                if tcp.queue is not None:
                    tcp.queue.leave(self)
                if tcp.service.capacity is not None:
                    tcp.service.unclaim(target)
                self._state = WAITING
                tcp.admission.wait(tcp, self, number)
                return 1
            if number == EADDRNOTAVAIL:
                tcp.count(cell)
                self.portless += (target,)
                return 0
            self.tried += (target,)
            self._count_failed(target, number)
            return 0
        if tcp.queue is not None:
            tcp.queue.leave(self)
        self._state = CONNECTING
        self.began = tcp.poller.now
        self.deadline = self.began + tcp.connect_timeout
        self.tried = self.tried + way.alone if self.tried else way.alone
        self.target = target
        target.connections.add(self)
        tcp.service.took(target)
        self.expect(min(self.deadline, self.leaves, self.began + _SETTLED))
        return 1

    cdef int _count_failed(self, Target target, int number) except -1:
        cdef Py_ssize_t cell = BACKEND_CONNECT_UNREACHABLE
        if number == ECONNREFUSED:
            cell = BACKEND_CONNECT_REFUSED
        elif number == ECONNRESET:
            cell = BACKEND_CONNECT_RESET
        elif number == ETIMEDOUT:
            cell = BACKEND_CONNECT_TIMEOUT
        self.tcp.at[target.cell + cell] += 1
        self.tcp.service.failed(target)
        return 0

    cdef int _failed(self, int number) except -1:
        """Count a failed connect, give the backend back and try another one."""
        if self.target is not None:
            self._count_failed(self.target, number)
        self.move()
        return 0

    cpdef move(self):
        """Give the backend back and try another one; allowed only before any octet has passed."""
        self._release(True)
        self.connect()

    cpdef anew(self):
        """Give up a pending connect whose backend has another address now, and connect again, perhaps to that address."""
        target = self.target
        self._release(True)
        self.tried = tuple([one for one in self.tried if one is not target])
        self.connect()

    cdef int _opened(self, uint32_t mask, int number) except -1:
        """Relay from now on: the backend is connected.  `number` is its error if it sent something and was then reset."""
        cdef Streams tcp = self.tcp
        cdef Target target = self.target
        cdef double now = tcp.poller.now
        cdef bytes header
        cdef Py_ssize_t place = bucket(<long long>((now - self.began) * 1e6))
        tcp.at[target.cell + BACKEND_LATENCY + place] += 1
        if tcp.service.timed:
            tcp.service.took_time(target, now - self.began)
        target.failures = 0
        self._state = OPEN
        self.began = now
        self._client.bytes_cell = target.cell + BACKEND_BYTES_IN
        self._backend.bytes_cell = target.cell + BACKEND_BYTES_OUT
        self._jitter = tcp.jitter()
        self.expect(min(now + tcp.idle_timeout, self._retires()))
        if tcp.followed is not None:
            tcp.followed.opened(self)
        if not number and target.send_proxy != "off":
            header = tcp.header(self, target.send_proxy)
            self._backend.prompt = max(self._backend.prompt, <uint8_t>1)
            # The send queue of a new connection is empty: a partial send is an error.
            if send(self._backend.watch.fd, <char *>header, len(header), MSG_NOSIGNAL) != len(header):
                number = errno or ENOBUFS
        if number:
            return self._broken(&self._backend, number)
        self._pull(&self._client, self._client.urgent)
        if self._state == OPEN and mask & (EPOLLIN | EPOLLRDHUP | EPOLLPRI):
            self._event(&self._backend, mask & (EPOLLIN | EPOLLRDHUP | EPOLLPRI))
        return 0

    # -- events

    cdef int _event(self, Half *half, uint32_t mask) except -1:
        """Handle an event of a socket, or go on relaying (mask 0)."""
        if self._state != OPEN:
            return self._early_event(half, mask)
        if mask & EPOLLERR:
            return self._broken(half, error_of(half) or ECONNRESET)
        if mask & EPOLLOUT and waits(half):
            self._flush(half)
            if self._state != OPEN:
                return 0
        if mask & (EPOLLIN | EPOLLRDHUP | EPOLLPRI) or not mask:
            half.readable = True
            if mask & (EPOLLRDHUP | EPOLLPRI):
                self._note(half, mask)
            return self._pull(half, not mask or half.urgent)
        return 0

    cdef void _note(self, Half *half, uint32_t mask) noexcept:
        """Remember that a FIN or an urgent octet has arrived."""
        half.near |= (mask & EPOLLRDHUP) != 0
        half.urgent |= (mask & EPOLLPRI) != 0

    cdef int _early_event(self, Half *half, uint32_t mask) except -1:
        """Handle an event in a state other than OPEN."""
        cdef int number = 0
        if mask & (EPOLLRDHUP | EPOLLPRI):
            self._note(half, mask)
        if self._state == INTRODUCING:
            self.tcp.introduce(self, (mask & EPOLLRDHUP) != 0)
        elif self._state == RESETTING:
            if half == self._lost:
                return self._pull(half, True)
            if mask & EPOLLERR:
                self.close(reset=True)
            elif mask & EPOLLOUT:
                return self._flush(half)
        elif self._state == CLOSED:
            return 0
        elif half == &self._client:
            return self._client_event(mask)
        elif self._state == CONNECTING:
            if mask & (EPOLLERR | EPOLLHUP):
                number = error_of(half)
            if number and not has_more(half):
                return self._failed(number)
            if number or mask & EPOLLOUT:
                return self._opened(mask, number)
        return 0

    cdef int _client_event(self, uint32_t mask) except -1:
        """Handle an event of the client before a backend is connected."""
        cdef Half *client = &self._client
        if mask & (EPOLLERR | EPOLLHUP):
            return self._gone()
        if mask & (EPOLLIN | EPOLLRDHUP | EPOLLPRI):
            client.readable = True
        if mask & EPOLLRDHUP and not has_more(client):
            # Either the client half-closes and the server speaks first, or the client has left: a short wait decides.
            self.leaves = min(self.leaves, self.tcp.poller.now + _GRACE)
            self.expect(self.leaves)
        return 0

    cdef int _gone(self) except -1:
        self.ends(SERVICE_CLIENT_GONE)
        self.close(reset=True)
        return 0

    # -- time

    cdef int _due(self, double now) except -1:
        """Act if a deadline of the state has passed, else set the timer again."""
        if not self._backend.tuned and self._backend.watch.fd >= 0:
            self._backend.tuned, self._backend.prompt = True, 2
            self.tcp.tune(self._backend.watch.fd)
        if self._state == INTRODUCING:
            self.ends(SERVICE_PROXY_TIMEOUT)
            self.close(reset=True)
        elif self._state == OPEN:
            return self._open_due(now)
        elif self._state == RESETTING:
            if now >= self.deadline or (self._lost != NULL and self._lost.eof):
                return self._await_delivery(now)
            self.expect(self.deadline)
        elif self._state == CLOSED:
            return 0
        elif now >= self.leaves:
            return self._gone()
        elif self._state == WAITING:
            self.connect()
        elif now < self.deadline:
            self.expect(min(self.deadline, self.leaves))
        elif self._state == QUEUED:
            self.ends(SERVICE_QUEUE_TIMEOUT)
            self.close(reset=True)
        else:
            return self._failed(ETIMEDOUT)
        return 0

    cdef int _open_due(self, double now) except -1:
        cdef bint closing = self._client.eof or self._backend.eof or self._retired
        cdef double ends = (self.touched or self.began) + (
            self.tcp.fin_timeout if closing else self.tcp.idle_timeout)
        cdef double retires = INFINITY if closing else self._retires()
        if now >= retires and now < ends:
            return self._retire(now)
        if now < ends:
            self.expect(min(ends, retires))
            return 0
        if self._retired:
            self.ends(SERVICE_MAX_LIFETIME)
        else:
            self.ends(SERVICE_FIN_TIMEOUT if closing else SERVICE_IDLE_TIMEOUT)
        self.close(reset=True)
        return 0

    cdef double _retires(self) noexcept:
        """Return when an open connection has lived long enough and has been quiet for long enough; infinity: never."""
        if isinf(self.tcp.max_lifetime):
            return INFINITY
        return max(self.began + self.tcp.max_lifetime * self._jitter, (self.touched or self.began) + self.tcp.quiet)

    cdef int _retire(self, double now) except -1:
        """Send both sides a FIN, unless octets still wait for one of them."""
        if waits(&self._client) or waits(&self._backend):
            self.expect(now + max(self.tcp.quiet, _LINGERING))
            return 0
        self._retired = True
        self.touched = now
        if shutdown(self._client.watch.fd, SHUT_WR) < 0 or shutdown(self._backend.watch.fd, SHUT_WR) < 0:
            return self._broken(&self._client, errno)
        self.expect(now + self.tcp.fin_timeout)
        return 0


cdef int _client_ready(Watch *watch, uint32_t mask) except -1:
    conn = <Connection>watch.again.owner
    return conn._event(&conn._client, mask)


cdef int _backend_ready(Watch *watch, uint32_t mask) except -1:
    conn = <Connection>watch.again.owner
    return conn._event(&conn._backend, mask)


cdef int _timer_rings(void *owner, double now) except -1:
    conn = <Connection>owner
    return conn._due(now)
