"""A listening TCP socket: accepts clients while there is room.

Clients that find none stay in the kernel's queue.  The listener is then in its service's `stalled` set, and is called
again when there may be room.
"""

from libc.errno cimport EAGAIN, EINTR, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, errno
from libc.stdint cimport uint32_t

from proxy.relay.native.address cimport Address, host_of
from proxy.relay.native.linux cimport EPOLLET, EPOLLIN, SOCK_CLOEXEC, SOCK_NONBLOCK, accept4, close as close_fd
from proxy.relay.native.tcp_connection cimport Connection
from proxy.relay.native.tcp_half cimport Room, arm_reset
from proxy.relay.native.tcp_pair cimport INTRODUCING
from proxy.stats import layout

ACCEPTS = 64  # connections accepted in one turn

cdef int _ACCEPTS = ACCEPTS
cdef Py_ssize_t SERVICE_ACCEPT_FAILED = layout.SERVICE_ACCEPT_FAILED


cdef class TcpListener:
    """One listening socket of a service."""

    needed = False
    """Connections have sockets of their own."""

    def __cinit__(self):
        self._watch.fd = -1

    def __init__(self, Streams tcp, member, sock):
        """Take the clients of this member's socket."""
        self.tcp = tcp
        self.member = member
        self.sock = sock
        self.route = member.text.encode()
        self._fd = sock.fileno()
        tcp.poller.prepare(&self._watch, _ready, <void *>self)

    def listen(self):
        """Poll the socket; clients that are queued in it already cause an edge.  Whoever calls keeps the listener."""
        self.tcp.poller.watch(&self._watch, self._fd, EPOLLIN | EPOLLET)

    def again(self):
        """Accept in the next round."""
        self.tcp.poller.call_again(&self._watch)

    def stop(self):
        """Stop polling, and take what has arrived already."""
        self.tcp.poller.drop(&self._watch)
        self.tcp.poller.call_again(&self._watch)

    def close(self):
        """Stop polling at once, and leave the socket open: whoever polls it next accepts the waiting clients."""
        self.tcp.poller.drop(&self._watch)
        self.tcp.stalled.discard(self)

    @property
    def reading(self):
        """Return True if there may be more to take, or clients wait for room."""
        return self._watch.again.next != NULL or self in self.tcp.stalled

    cdef int _accept(self) except -1:
        """Accept waiting clients while there is room."""
        cdef Streams tcp = self.tcp
        cdef Room room = tcp.admission
        cdef Address source
        cdef int fd, number
        for _ in range(_ACCEPTS):
            if room.open >= room.most or room.paused or (tcp.gate is not None and not tcp.gate.enter(self)):
                return self._stall()
            source.size = sizeof(source.name)
            fd = accept4(self._fd, &source.name.any, &source.size, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                self._begin(fd, &source)
                continue
            number = errno
            if number == EAGAIN:
                return 0
            if number == EINTR:
                continue
            if number == EMFILE or number == ENFILE or number == ENOBUFS or number == ENOMEM or number == ENOSPC:
                self._stall()
                room.pause(tcp, number)
                return 0
            # The connection died in the queue (accept(2): accept returns errors of the new socket).
            tcp.count(SERVICE_ACCEPT_FAILED)
            if number == EINVAL:
                return 0  # the listening socket itself was destroyed
        tcp.poller.call_again(&self._watch)
        return 0

    cdef int _begin(self, int fd, void *source) except -1:
        """Begin a connection.  Its socket inherits the options of the listening socket."""
        cdef Streams tcp = self.tcp
        cdef Connection conn = Connection.__new__(Connection)
        try:
            conn.begin(tcp, self, fd, <Address *>source)
        except OSError as error:
            arm_reset(fd)
            close_fd(fd)
            tcp.admission.pause(tcp, error.errno)
            return 0
        tcp.began(conn)
        try:
            if tcp.introduced and tcp.is_introducer(host_of(<Address *>source)):
                conn._state = INTRODUCING
                conn.deadline = conn.accepted + tcp.connect_timeout
                conn.expect(conn.deadline)
            else:
                conn.admit()
        except BaseException:
            conn.close(reset=True)
            raise
        return 0

    cdef int _stall(self) except -1:
        self.tcp.stalled.add(self)
        self.tcp.admission.crowded = True
        return 0


cdef int _ready(Watch *watch, uint32_t mask) except -1:
    listener = <TcpListener>watch.again.owner
    listener._accept()
    if listener.tcp.gate is not None:
        listener.tcp.gate.settle()
    return 0
