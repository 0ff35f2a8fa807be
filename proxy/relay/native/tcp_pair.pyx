"""The two sockets of a relayed TCP connection: what Python sees of them, and their end.

A connection is in its service's set from the accept to its end, so that what points at it is valid.
"""

from enum import IntEnum

cimport cython
from libc.errno cimport ECONNRESET, EINTR, errno
from libc.math cimport isinf

from proxy.relay.native.address cimport read_address
from proxy.relay.native.linux cimport MSG_PEEK, close as close_fd, getsockname, recv
from proxy.relay.native.poller cimport Poller
from proxy.relay.native.tcp_half cimport arm_reset, lose
from proxy.relay.native.traffic cimport Traffic

State = IntEnum("State", {
    "INTRODUCING": INTRODUCING,  # waits until `deadline` for the PROXY header of a listed source
    "WAITING": WAITING,  # no connect is pending: the host lacks something, and the connect is tried again
    "QUEUED": QUEUED,  # waits in `tcp.queue` for a free slot of a backend
    "CONNECTING": CONNECTING,  # waits until `deadline` for the connect to `target`
    "OPEN": OPEN,  # both sides are relayed; the first FIN starts the fin timer
    "RESETTING": RESETTING,  # one side is broken: its octets are delivered, then the other side is reset
    "CLOSED": CLOSED,  # both sockets are closed
})

cdef tuple _STATES = (None, *State)


@cython.freelist(256)  # a subclass uses it as well if it has no fields of its own
cdef class Pair:
    """A client's socket and its backend's."""

    def __cinit__(self):
        self._client.watch.fd = self._backend.watch.fd = -1
        self._timer.place = -1

    def __dealloc__(self):
        # Its end has left nothing; only an engine that goes without closing leaves something.
        if self._client.watch.fd >= 0:
            close_fd(self._client.watch.fd)
        if self._backend.watch.fd >= 0:
            close_fd(self._backend.watch.fd)

    # -- what Python sees

    @property
    def state(self):
        """The state."""
        return _STATES[self._state]

    @state.setter
    def state(self, value):
        self._state = value

    @property
    def source(self):
        """The client's address: (host, port), or (host, port, flow, scope) for IPv6; a PROXY header may replace it."""
        return read_address(&self._address) if self._source is None else self._source

    @source.setter
    def source(self, value):
        self._source = value

    @property
    def bytes_in(self):
        """Octets that went to the backend."""
        return self._client.octets

    @property
    def bytes_out(self):
        """Octets that went to the client."""
        return self._backend.octets

    @property
    def waiting(self):
        """The numbers of octets that wait to be sent to the client and to the backend."""
        return _waiting(&self._client), _waiting(&self._backend)

    @property
    def descriptors(self):
        """The descriptors of the client's and the backend's socket; -1: there is none."""
        return self._client.watch.fd, self._backend.watch.fd

    @property
    def linked(self):
        """Return True if the backend is connected."""
        return self._backend.watch.fd >= 0 and (self._state == OPEN or self._state == RESETTING)

    @property
    def half_closed(self):
        """Return True if one side of an open connection has sent its FIN."""
        return self._state == OPEN and (self._client.eof or self._backend.eof)

    @property
    def backend_first(self):
        """Return True if the backend sent its FIN first."""
        return self._last == &self._client

    @property
    def local(self):
        """The (host, port) that the client connected to; None if the socket is gone."""
        cdef Address here
        here.size = sizeof(here.name)
        if getsockname(self._client.watch.fd, &here.name.any, &here.size) < 0:
            return None
        return read_address(&here)[:2]

    def peek(self, Py_ssize_t size):
        """Return up to `size` octets from the client, and leave them; raise OSError, also if there are none yet."""
        octets = bytearray(size)
        cdef Py_ssize_t got = recv(self._client.watch.fd, <char *>octets, size, MSG_PEEK)
        if got < 0:
            raise OSError(errno, "recv")
        return bytes(octets[:got])

    def skip(self, Py_ssize_t size):
        """Take octets from the client that `peek` has returned; raise OSError if they are gone.

        Those behind them cause no further edge, and are read later.
        """
        octets = bytearray(size)
        cdef Py_ssize_t taken
        while size > 0:
            taken = recv(self._client.watch.fd, <char *>octets, size, 0)
            if taken > 0:
                size -= taken
            elif taken == 0 or errno != EINTR:
                raise OSError(ECONNRESET, "recv")
        self._client.readable = True

    # -- the end

    cpdef ends(self, Py_ssize_t cell):
        """Count the reason of the end in a counter of the service."""
        self.tcp.count(cell)
        self.why = cell

    cpdef close(self, bint reset=False):
        """End both sides, with FINs or with RSTs; idempotent."""
        cdef Streams tcp = self.tcp
        cdef Traffic service = tcp.service
        if self._state == CLOSED:
            return
        try:
            if tcp.log is not None:
                tcp.log.connection(self)
            if tcp.followed is not None:
                tcp.followed.connection(self)
        except Exception as error:
            tcp.poller.fault(error)
        self._state = CLOSED
        tcp.poller.timers.unset(&self._timer)
        if tcp.queue is not None:
            tcp.queue.leave(self)
        self._close_half(&self._client, reset)
        self._release(reset)
        if self.sticky and service.keeper is not None:
            service.keeper.release(self.sticky, tcp.poller.now)
        if self.counted:
            tcp.parted(self)
        tcp.over(self)

    cdef int _release(self, bint reset) except -1:
        """Give the backend back."""
        cdef Target target = self.target
        self._close_half(&self._backend, reset)
        self._backend.readable = self._backend.eof = self._backend.near = self._backend.urgent = False
        self._backend.bulk = self._backend.prompt = self._backend.tuned = 0
        if target is not None:
            self.target = None
            target.connections.discard(self)
            self.tcp.service.gave_back(target)
        return 0

    cdef int _close_half(self, Half *half, bint reset) except -1:
        if half.watch.fd >= 0:
            if reset:
                arm_reset(half.watch.fd)
            self.tcp.poller.close_watched(&half.watch)
        lose(self.tcp.admission, half)
        return 0

    # -- time

    cpdef expect(self, double when):
        """Look at this connection at `when`, or sooner if that was planned."""
        cdef Poller poller = self.tcp.poller
        if isinf(when) or (self._timer.place >= 0 and self._timer.when <= when):
            return
        poller.timers.set(&self._timer, when)
        if not poller._pumping:
            poller.arm()


cdef Py_ssize_t _waiting(const Half *half) noexcept:
    return half.piped if half.pipe != NULL else half.end - half.start
