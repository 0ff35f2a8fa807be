"""What the connections of one TCP service share: timers, counters, and the ways to its backends.

`proxy.relay.tcp.service.TcpService` adds the policy.  A connection calls it only where the configuration asks for it:

- `introduce(conn, near)` reads the PROXY header of a listed source;
- `refusal(conn)` returns the counter for why a client is refused, or -1;
- `pick(conn, key, avoid)` chooses a backend where places are limited or clients keep theirs;
- `open(conn, target)` returns (descriptor, errno) of a connect from a chosen source address;
- `header(conn, version)` returns the PROXY header for a backend;
- `unserved(conn, dry)` decides what becomes of a client for which no backend is left;
- `tune(fd)` sets the options of a connection that has lasted, and `parted(conn)` notes the end of a counted one.
"""

from os import urandom

from libc.math cimport INFINITY

from proxy.relay.native.address cimport write_address
from proxy.relay.sockets.address import sockaddr
from proxy.stats import layout

cdef Py_ssize_t SERVICE_ACCEPTED = layout.SERVICE_ACCEPTED
cdef Py_ssize_t SERVICE_CONNECTIONS = layout.SERVICE_CONNECTIONS
cdef Py_ssize_t SERVICE_SESSIONS = layout.SERVICE_SESSIONS


cdef class Way:
    """How a backend is reached: its address, and whether `open` must choose a local one."""


cdef class Streams:
    """The base of a TCP service in one worker."""

    def __init__(self, Traffic service, Poller poller, Room admission):
        """Relay for this service; `admission` is shared by all TCP services of the worker."""
        self.service = service
        self.poller = poller
        self.admission = admission
        self.at = service.at
        self.base = service.cell
        self.connections = set()
        self.stalled = set()  # listeners that wait for room
        self.max_lifetime = self.quiet = INFINITY
        self._dice = int.from_bytes(urandom(8), "little")
        self._ways = {}

    @property
    def cells(self):
        """The worker's column."""
        return self.service.cells

    cdef Way way(self, Target target, Py_ssize_t port):
        """Return how `target` is reached; `port` is the listener's, for a backend without one.  Raises OSError."""
        cdef Way way = self._ways.get(target)
        if way is not None and way.address is target.address and way.port is target.port:
            return way
        way = Way.__new__(Way)
        way.address, way.port = target.address, target.port
        way.special = bool(target.sources)
        way.alone = (target,)
        if not way.special:
            write_address(&way.where, sockaddr(target.address, target.port or port))
        # The number of an interface may change, and the listener's port is not the same for all.
        if way.special or (target.port and "%" not in target.address):
            self._ways[target] = way
        return way

    cpdef forget_ways(self):
        """Look again how backends are reached: the configuration has changed."""
        self._ways.clear()

    cdef double jitter(self) noexcept:
        """Return a number from 0.9 to 1.1: connections that began together are not to end together."""
        self._dice = self._dice * 6364136223846793005ULL + 1442695040888963407ULL  # Knuth's MMIX
        return 0.9 + 0.2 * (<double>(self._dice >> 32) / 4294967296.0)

    cdef int count(self, Py_ssize_t cell) except -1:
        """Add one to a counter of the service."""
        self.at[self.base + cell] += 1
        return 0

    cdef int began(self, conn) except -1:
        """Count the beginning of a connection."""
        self.connections.add(conn)
        self.admission.open += 1
        self.count(SERVICE_ACCEPTED)
        self.count(SERVICE_SESSIONS)
        self.at[self.base + SERVICE_CONNECTIONS] = len(self.connections)
        return 0

    cdef int over(self, conn) except -1:
        """Count the end of a connection, and accept a waiting client."""
        self.connections.discard(conn)
        self.at[self.base + SERVICE_SESSIONS] -= 1
        self.at[self.base + SERVICE_CONNECTIONS] = len(self.connections)
        self.admission.open -= 1
        if self.admission.paused or self.admission.crowded:
            self.admission.freed()
        return 0
