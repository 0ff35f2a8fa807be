"""Plain UDP without sessions: each datagram is balanced by itself, without answers (syslog, RFC 5426; metrics).

Laws:
- A datagram goes unchanged to one backend, picked for it alone; the relay remembers nothing about its client.
- Each backend and port has one connected socket for all clients.
- Datagrams from backends are read, counted and dropped: no client waits for them.
- The last datagram to each backend is kept, because an ICMP error may be about it; earlier ones are lost.
- Each datagram is a system call of its own: sendmmsg(2) hides the error of all but its first datagram.

The usual datagram (no PROXY header, no transparent socket, no closed port) reaches its backend here, and only its pick is
a call of Python.  What else there is to decide does `proxy.relay.udp.one_way.PerDatagramService`, which extends
`Datagrams`.
"""

cimport cython
from libc.errno cimport EAGAIN, ECONNREFUSED, EINTR, EMSGSIZE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from proxy.relay.native.address cimport Address, read_client, write_client
from proxy.relay.native.datagrams cimport BATCH, CONNECTED, inbox_of
from proxy.relay.native.linux cimport (
    CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_SPACE, MSG_DONTWAIT, MSG_NOSIGNAL, close, cmsghdr, iovec, sendmsg,
)
from proxy.relay.native.udp_listener cimport is_admitted

from proxy.relay.native.poller import DATAGRAM
from proxy.stats import layout

cdef enum:
    ANCILLARY_ROOM = 64

cdef uint32_t _DATAGRAM = DATAGRAM
cdef Py_ssize_t BACKEND_BYTES_IN = layout.BACKEND_BYTES_IN
cdef Py_ssize_t BACKEND_PORT_UNREACHABLE = layout.BACKEND_PORT_UNREACHABLE
cdef Py_ssize_t BACKEND_SEND_FAILED = layout.BACKEND_SEND_FAILED
cdef Py_ssize_t SERVICE_NO_SOURCE_ADDRESS = layout.SERVICE_NO_SOURCE_ADDRESS
cdef Py_ssize_t SERVICE_UNWANTED_REPLY = layout.SERVICE_UNWANTED_REPLY


cdef class PerDatagramListener(Receiver):
    """One UDP socket that clients send to."""

    needed = False
    """Nothing is answered."""

    def __init__(self, Datagrams udp not None, member, sock):
        """Poll a member's socket, which the caller owns; raises OSError."""
        self.udp = udp
        self._outlets = {}
        Receiver.__init__(self, udp.poller, member, sock)

    def forget_outlets(self):
        """Look the sockets to the backends up again."""
        self._outlets.clear()

    cdef int _got(self, const char *data, Py_ssize_t size, const Client *client) except -1:
        return self.udp._take(self, data, size, client)


@cython.no_gc_clear
cdef class Outlet:
    """The connected socket to one backend at one port, opened when it is needed."""

    def __cinit__(self, *_, **__):
        self._fd = self._watch.fd = -1
        self._last.size = -1

    def __init__(self, Datagrams udp not None, Target target not None, Py_ssize_t port):
        """Begin without a socket."""
        self.udp = udp
        self.target = target
        self.port = port
        self.born = 0.0
        self.barred = 0.0  # it is not opened before this time
        self._poller = udp.poller
        udp.poller.prepare(&self._watch, _outlet_ready, <void *>self)

    def __dealloc__(self):
        self._close()
        free(self._last.data)

    def fileno(self):
        """Return the descriptor of its socket; -1 if it has none."""
        return self._fd

    def use(self, sock, double now):
        """Own a connected socket, in place of the present one; if it cannot be watched, close it and raise OSError."""
        cdef int fd = sock.detach()
        cdef Watch former = self._watch
        former.again.previous = former.again.next = NULL
        try:
            self._poller.watch(&self._watch, fd, _DATAGRAM)
        except OSError:
            close(fd)
            raise
        self._poller.drop(&former)
        if self._fd >= 0:
            close(self._fd)
        self._fd = fd
        self.born = now

    def close(self):
        """Close the socket."""
        self._close()

    def send(self, bytes head, bytes data, source):
        """Send a datagram behind a header, from the client's address if `source` names it; False: try another backend.

        `source` is None, or the control message (level, type, octets) that names the address.
        """
        cdef iovec parts[2]
        cdef msghdr message
        cdef char[ANCILLARY_ROOM] control
        cdef cmsghdr *ancillary
        memset(&message, 0, sizeof(message))
        message.msg_iov, message.msg_iovlen = parts, 2
        parts[0].iov_base, parts[0].iov_len = <char *>head, len(head)
        parts[1].iov_base, parts[1].iov_len = <char *>data, len(data)
        if source is not None:
            level, kind, octets = source
            memset(control, 0, sizeof(control))
            message.msg_control = control
            message.msg_controllen = CMSG_SPACE(len(octets))
            if message.msg_controllen > sizeof(control):
                raise ValueError("too long a control message")
            ancillary = CMSG_FIRSTHDR(&message)
            ancillary.cmsg_level, ancillary.cmsg_type, ancillary.cmsg_len = level, kind, CMSG_LEN(len(octets))
            memcpy(CMSG_DATA(ancillary), <char *><bytes>octets, len(octets))
        return self._send(&message, len(data), source) == 1

    def keep(self, PerDatagramListener listener not None, bytes data, tuple client, told, tuple refused):
        """Keep the datagram that was sent last, and what is needed to send it to another backend."""
        cdef Client source
        write_client(&source, client)
        self._keep(listener, data, len(data), &source, told, refused)

    def take_last(self):
        """Forget the last datagram; return (listener, data, client, header, who had refused it, when), or None."""
        if self._last.size < 0:
            return None
        last = (
            self._listener, self._last.data[:self._last.size], read_client(&self._last.client), self._told,
            self._refused, self._last.at,
        )
        self._last.size = -1
        self._listener = self._told = self._refused = None
        return last

    cdef int _send(self, const msghdr *message, Py_ssize_t size, source) except -1:
        """Send a datagram of this size; return 0 if another backend is to be tried, 1 if it was sent or is lost."""
        cdef Datagrams udp = self.udp
        cdef int error, attempts = 0
        if self._fd < 0 or self._poller.now - self.born >= udp.lifetime:
            udp.open(self)
            if self._fd < 0:
                return 0
        while attempts < 2:
            if sendmsg(self._fd, message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0:
                udp.service.took(self.target)
                udp.service.gave_back(self.target)
                udp._at[self.target.cell + BACKEND_BYTES_IN] += size
                return 1
            if errno == EMSGSIZE:
                # Perhaps an ICMP error about an earlier datagram (RFC 1191): this one was not sent, and the path is known now.
                attempts += 1
            elif errno == EAGAIN or errno == ENOBUFS or errno == ENOMEM:
                break
            elif errno != EINTR:
                error = errno
                if source is not None and udp.is_the_clients(error, source):
                    udp._at[udp.service.cell + SERVICE_NO_SOURCE_ADDRESS] += 1
                    udp.service.unclaim(self.target)
                    return 1
                self._broke(error)
                return 0
        udp._at[self.target.cell + BACKEND_SEND_FAILED] += 1
        udp.service.unclaim(self.target)
        return 1

    cdef void _keep(
        self, PerDatagramListener listener, const char *data, Py_ssize_t size, const Client *client, told, tuple refused,
    ) noexcept:
        """Keep a copy of a datagram; without memory for it, none is kept."""
        cdef char *room
        self._last.size = -1
        if size > self._last.room or self._last.data == NULL:
            room = <char *>realloc(self._last.data, max(size, 512))
            if room == NULL:
                return
            self._last.data, self._last.room = room, max(size, 512)
        memcpy(self._last.data, data, size)
        self._last.size = size
        self._last.client = client[0]
        self._last.at = self._poller.now
        self._listener, self._told, self._refused = listener, told, refused

    cdef int _ready(self) except -1:
        """Drop datagrams from the backend, and read ICMP errors."""
        cdef Datagrams udp = self.udp
        cdef int left = BATCH
        cdef int count
        while left > 0 and self._fd >= 0:
            count = udp._inbox.receive(self._fd, CONNECTED)
            if count < 0:
                if count == -EAGAIN:
                    return 0
                left -= 1
                self._broke(-count)
                continue
            self._last.size = -1  # the backend's port is open, so the last datagram arrived
            udp._at[udp.service.cell + SERVICE_UNWANTED_REPLY] += count
            if count < BATCH:
                return 0
            left -= count
        if self._fd >= 0:
            self._poller.call_again(&self._watch)
        return 0

    cdef int _broke(self, int error) except -1:
        """Count an ICMP error about an earlier datagram, or close the socket after another error: a new one may help."""
        cdef Datagrams udp = self.udp
        cdef bint refusal = error == ECONNREFUSED
        udp._at[self.target.cell + (BACKEND_PORT_UNREACHABLE if refusal else BACKEND_SEND_FAILED)] += 1
        udp.service.failed(self.target)
        if refusal:
            udp.refused(self)
        else:
            self._close()
        return 0

    cdef void _close(self) noexcept:
        if self._fd >= 0:
            # A transparent one comes from the master, which may not have closed its own descriptor yet: drop it first.
            self._poller.drop(&self._watch)
            close(self._fd)
            self._fd = -1


cdef class Datagrams:
    """The datagrams of one service in one worker."""

    def __init__(self, Traffic service not None, Poller poller not None):
        """Begin."""
        self.service = service
        self.poller = poller
        self._at = service.at
        self._inbox = inbox_of(poller)

    def admit(self, PerDatagramListener listener not None, bytes data, tuple client, told=None):
        """Send one datagram of a client to a backend; `told` is its PROXY header."""
        cdef Client source
        write_client(&source, client)
        self._admit(listener, data, len(data), &source, told)

    cdef int _take(
        self, PerDatagramListener listener, const char *data, Py_ssize_t size, const Client *client,
    ) except -1:
        """Take one datagram as it arrived, with its PROXY header if there is one."""
        if self.introduced:
            self.introduce(listener, data[:size], read_client(client))
        else:
            self._admit(listener, data, size, client, None)
        return 0

    cdef int _admit(
        self, PerDatagramListener listener, const char *data, Py_ssize_t size, const Client *client, told,
    ) except -1:
        cdef Address address
        if not is_admitted(self.service, client, told, &address):
            return 0
        if self.service.too_fast(True, &address, self.poller.now):
            return 0
        if told is not None or self.headed or self.avoiding:
            self.send(listener, data[:size], read_client(client), told)
            return 0
        return self._offer(listener, data, size, client)

    cdef int _offer(
        self, PerDatagramListener listener, const char *data, Py_ssize_t size, const Client *client,
    ) except -1:
        """Send a datagram without a header to the backend that is picked for it."""
        cdef iovec part
        cdef msghdr message
        cdef Outlet outlet
        cdef Target target
        cdef uint64_t key = 0
        if self.service.needs_key:
            key = self.service.source_key(listener.route, &client.address, None)
        if self.service.capacity is None:
            target = self.service._selector.pick(key, ())
        else:
            target = self.service.pick(key, ())
        if target is None:
            self._at[self.service.cell + <Py_ssize_t>self.service.why_nobody()] += 1
            return 0
        outlet = self._outlet(listener, target)
        memset(&message, 0, sizeof(message))
        message.msg_iov, message.msg_iovlen = &part, 1
        part.iov_base, part.iov_len = <void *>data, size
        if outlet._send(&message, size, None):
            outlet._keep(listener, data, size, client, None, ())
        else:
            self.send_elsewhere(listener, data[:size], read_client(client), None, (), key, target, ())
        return 0

    cdef Outlet _outlet(self, PerDatagramListener listener, Target target):
        outlet = listener._outlets.get(target)
        if outlet is None:
            outlet = listener._outlets[target] = self.outlet_of(listener, target)
        return outlet


cdef int _outlet_ready(Watch *watch, uint32_t mask) except -1:
    outlet = <Outlet>watch.again.owner
    return outlet._ready()
