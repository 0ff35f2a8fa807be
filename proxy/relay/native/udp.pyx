"""Plain UDP sessions: each client address has its own connected socket to a backend.

Laws:
- A datagram is passed on unchanged, even an empty one; answers leave from the address that the client sent to.
- A client's datagrams reach its backend in order, each by a system call of its own: sendmmsg(2) hides the error of all
  but its first datagram, and a refused one must go elsewhere.  Answers of all sessions leave together after a round.
- A session ends after `idle_timeout` without a datagram in either direction.
- An error that the backend's host reports is read before answers that arrived earlier; these are still relayed.
- Nothing here chooses a backend, opens a socket or decides about a failure: that is policy, in the methods of
  `proxy.relay.udp.sessions.UdpService`, which extends `Sessions`.
"""

import os
import socket

cimport cython

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, ECONNREFUSED, EINTR, EMSGSIZE, ENOBUFS, ENOMEM, errno
from libc.math cimport INFINITY, isinf
from libc.string cimport memcpy, memset

from proxy.relay.native.address cimport Address, read_address, read_client, write_client
from proxy.relay.native.datagrams cimport BATCH, CONNECTED, Parcel, inbox_of, post_of
from proxy.relay.native.linux cimport (
    MSG_DONTWAIT, MSG_NOSIGNAL, close, getsockname, iovec, msghdr, send, sendmsg, sockaddr,
)
from proxy.relay.native.timers cimport prepare_deadline
from proxy.relay.native.udp_listener cimport is_admitted
from proxy.relay.target cimport Target

from proxy.relay.native.poller import DATAGRAM
from proxy.stats import layout

HEARD = 1.0  # s without an answer, after which a session's local address is checked
GRAIN = 0.25  # s: sessions that expire within it share a timer
EXPIRED_AT_ONCE = 500
EXPIRED_PAUSE = 0.005  # s between two lots of that size

cdef double _HEARD = HEARD
cdef double _GRAIN = GRAIN
cdef double _EXPIRED_PAUSE = EXPIRED_PAUSE
cdef int _EXPIRED_AT_ONCE = EXPIRED_AT_ONCE
cdef uint32_t _DATAGRAM = DATAGRAM
cdef int _AF_INET6 = socket.AF_INET6
cdef Py_ssize_t BACKEND_BYTES_IN = layout.BACKEND_BYTES_IN
cdef Py_ssize_t BACKEND_BYTES_OUT = layout.BACKEND_BYTES_OUT
cdef Py_ssize_t BACKEND_PORT_UNREACHABLE = layout.BACKEND_PORT_UNREACHABLE
cdef Py_ssize_t BACKEND_REPLIES = layout.BACKEND_REPLIES
cdef Py_ssize_t BACKEND_SEND_FAILED = layout.BACKEND_SEND_FAILED
cdef Py_ssize_t SERVICE_EXPIRED = layout.SERVICE_EXPIRED
cdef Py_ssize_t SERVICE_MOVED = layout.SERVICE_MOVED
cdef Py_ssize_t SERVICE_NO_MEMORY = layout.SERVICE_NO_MEMORY
cdef Py_ssize_t SERVICE_REPLIES = layout.SERVICE_REPLIES
cdef Py_ssize_t SERVICE_SESSIONS = layout.SERVICE_SESSIONS
cdef Py_ssize_t SERVICE_UNSENT_REPLIES = layout.SERVICE_UNSENT_REPLIES


@cython.no_gc_clear
cdef class UdpListener(Receiver):
    """A UDP socket that clients of a service with sessions send to."""

    def __init__(self, Sessions udp not None, member, sock):
        """Poll a member's socket, which the caller owns; raises OSError."""
        self.udp = udp
        self._post = udp._post
        self._post.open(&self._box, sock.fileno(), _answer_left, <void *>self, True)
        Receiver.__init__(self, udp.poller, member, sock)

    def __dealloc__(self):
        if self._post is not None:
            self._post.close(&self._box)

    def leave(self):
        """Stop polling."""
        Receiver.leave(self)
        self._post.flush(&self._box)

    @property
    def needed(self):
        """True if a session answers through this socket."""
        return self.sessions > 0

    cdef int _got(self, const char *data, Py_ssize_t size, const Client *client) except -1:
        return self.udp._take(self, data, size, client)


cdef class Session(Holder):
    """One client's datagrams to and from one backend."""

    def __cinit__(self, *_, **__):
        self._fd = -1

    def __init__(self, UdpListener listener not None, tuple client, End end, sock, told=None, bytes head=b""):
        """Begin a session that is in no table yet, and own its connected socket.

        `told` is the PROXY header that names the client; `head` stands before each datagram to the backend.
        """
        Holder.__init__(self, end)
        self.listener = listener
        self.told = told
        self.sticky = 0  # the key of the client's template if the service has persistence
        self.epoch = listener.udp.service.epoch
        self._head = head if head else None
        self._more = _more_of(told)
        memset(&self._node, 0, sizeof(Node))
        write_client(&self._node.key.client, client)
        self._node.key.listener = listener.ident
        self._node.owner = <void *>self
        listener.udp.poller.prepare(&self._watch, _session_ready, <void *>self)
        # Only an IPv6 address can leave this host unnoticed; a transparent session has the client's own.
        self._roams = end.target.family == _AF_INET6 and listener.udp.service.stock is None
        self._fd = sock.detach()

    def __dealloc__(self):
        if self._fd >= 0:  # it has never been in the table, so nothing watches its socket
            close(self._fd)

    def fileno(self):
        """Return the descriptor of its socket."""
        return self._fd

    def send(self, data, tuple tried=()):
        """Send a datagram, which the backends in `tried` have refused; return False if it must go to another backend."""
        cdef bytes copy = bytes(data)
        return self._send(copy, len(copy), tried) == 1

    @property
    def present(self):
        """True until it ends."""
        return self._node.present

    @property
    def target(self):
        """Its backend."""
        return self.end.target

    @property
    def client(self):
        """The source of its datagrams."""
        return read_client(&self._node.key.client)

    @property
    def who(self):
        """The client's own address: from the PROXY header if there is one."""
        return self.client if self.told is None or self.told.client is None else self.told.client

    @property
    def local(self):
        """The address of its socket; raises OSError."""
        cdef Address address
        memset(&address, 0, sizeof(Address))
        address.size = sizeof(address.name)
        if getsockname(self._fd, <sockaddr *>&address.name, &address.size) < 0:
            raise OSError(errno, os.strerror(errno))
        return read_address(&address)

    cdef int _send(self, const char *data, Py_ssize_t size, tuple tried) except -1:
        """Send a datagram; return 0 if it must go to another backend, 1 if it was sent or is lost."""
        cdef Sessions udp = self.listener.udp
        cdef Py_ssize_t cell = self.end.target.cell
        cdef iovec parts[2]
        cdef msghdr message
        cdef int attempts = 0
        cdef Py_ssize_t sent
        while attempts < 2:
            if self._head is None:
                sent = send(self._fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            else:
                parts[0].iov_base, parts[0].iov_len = <char *>self._head, len(self._head)
                parts[1].iov_base, parts[1].iov_len = <void *>data, size
                memset(&message, 0, sizeof(message))
                message.msg_iov, message.msg_iovlen = parts, 2
                sent = sendmsg(self._fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent >= 0:
                udp._at[cell + BACKEND_BYTES_IN] += size
                self.bytes_in += size
                if not udp.unanswered.put(self, data, size, tried, udp.poller.now):
                    udp._at[udp.service.cell + SERVICE_NO_MEMORY] += 1
                return 1
            if errno == EMSGSIZE:
                # Perhaps an ICMP error about an earlier datagram (RFC 1191): this one was not sent, and the path is known now.
                attempts += 1
            elif errno == EAGAIN or errno == ENOBUFS or errno == ENOMEM:
                break
            elif errno != EINTR:
                self._broke(errno)
                return 0
        udp._at[cell + BACKEND_SEND_FAILED] += 1
        return 1

    cdef int _ready(self) except -1:
        """Send the backend's datagrams to the client."""
        cdef Sessions udp = self.listener.udp
        cdef Inbox inbox = udp._inbox
        cdef int left = BATCH
        cdef int count, at
        udp._post.relieve()
        while left > 0 and self._fd >= 0:
            count = inbox.receive(self._fd, CONNECTED)
            if count < 0:
                if count == -EAGAIN:
                    break
                left -= 1
                # The kernel reports it before datagrams that arrived earlier, and no further edge follows for them.
                if count != -EMSGSIZE:
                    self._broke(-count)
                continue
            for at in range(count):
                try:
                    self._answer(inbox.data(at), inbox.size(at))
                except Exception as error:
                    udp.poller.fault(error)
            if count < BATCH:
                break
            left -= count
        else:
            if self._fd >= 0:
                udp.poller.call_again(&self._watch)
            return 0
        if self.refused and self._node.present:
            udp.resend(self)
        return 0

    cdef int _answer(self, const char *data, Py_ssize_t size) except -1:
        """Send one datagram of the backend to the client, with those of other sessions at the end of the round."""
        cdef Sessions udp = self.listener.udp
        cdef Target target = self.end.target
        cdef char *room
        udp._touch(self)
        self.heard = self.touched
        if not self.refused:  # else it answers an earlier datagram
            udp.unanswered.drop(self)
        if self.asked != 0.0:
            udp.service.took_time(target, self.heard - self.asked)
            self.asked = 0.0
        target.failures = 0
        udp._at[target.cell + BACKEND_REPLIES] += 1
        udp._at[target.cell + BACKEND_BYTES_OUT] += size
        self.bytes_out += size
        room = udp._post.put(&self.listener._box, size, &self._node.key.client, NULL, 0)
        if room == NULL:
            udp._at[udp.service.cell + SERVICE_NO_MEMORY] += 1
            udp._at[udp.service.cell + SERVICE_UNSENT_REPLIES] += 1
        else:
            memcpy(room, data, size)
        return 0

    cdef int _broke(self, int error) except -1:
        """Count an ICMP error or a broken route; the next datagram gets a new socket, and another backend if possible."""
        cdef Sessions udp = self.listener.udp
        cdef Target target = self.end.target
        cdef bint refusal = error == ECONNREFUSED
        udp._at[target.cell + (BACKEND_PORT_UNREACHABLE if refusal else BACKEND_SEND_FAILED)] += 1
        udp.service.failed(target)
        self.refused = True
        if refusal:
            udp.closed(self)
        return 0

    cdef void _close(self) noexcept:
        # Its socket may have come from a predecessor that has not closed its own descriptor yet: drop it first.
        self.listener.udp.poller.drop(&self._watch)
        close(self._fd)
        self._fd = -1


cdef class Sessions:
    """The sessions of one service in one worker, the longest idle one first."""

    def __init__(self, Traffic service not None, Poller poller not None):
        """Begin without sessions."""
        self.service = service
        self.poller = poller
        self.unanswered = Unanswered()
        self.idle_timeout = INFINITY
        self._table = Table()
        self._inbox = inbox_of(poller)
        self._post = post_of(poller)
        self._at = service.at
        prepare_deadline(&self._expiry, _expiry_rings, <void *>self)

    # -- the table

    @property
    def size(self):
        """The number of sessions."""
        return self._table.buckets.count

    @property
    def sessions(self):
        """A list of all sessions, the longest idle one first."""
        cdef Node *node = self._table.oldest()
        found = []
        while not self._table.is_end(node):
            found.append(<Session>node.owner)
            node = node.newer
        return found

    @property
    def oldest(self):
        """The session that has been idle longest; None if there is none."""
        cdef Node *node = self._table.oldest()
        return None if self._table.is_end(node) else <Session>node.owner

    def newest(self, UdpListener listener=None):
        """Return the session with the last datagram, of this listener if one is given; None if there is none."""
        cdef Node *node = self._table.newest()
        while not self._table.is_end(node):
            if listener is None or (<Session>node.owner).listener is listener:
                return <Session>node.owner
            node = node.older
        return None

    def find(self, UdpListener listener not None, tuple client, told=None):
        """Return a client's session with a listener; None if there is none.

        With a PROXY header each client that the source names has its own.
        """
        cdef Key key
        write_client(&key.client, client)
        key.listener = listener.ident
        return self._found(&key, _more_of(told))

    def insert(self, Session session not None, *, oldest=False):
        """Watch a new session's socket, and count it; raises OSError after closing the socket.

        There is no session with its key.  It is the newest one, unless it is to be the `oldest`.
        """
        try:
            self.poller.watch(&session._watch, session._fd, _DATAGRAM)
        except OSError:
            session._close()
            raise
        session._node.more = NULL if session._more is None else <void *>session._more
        if oldest:
            self._table.insert_oldest(&session._node)
        else:
            self._table.insert(&session._node)
        Py_INCREF(session)  # the table's own reference, until it ends
        session.listener.sessions += 1
        self._at[self.service.cell + SERVICE_SESSIONS] += 1
        if self._expiry.place < 0:
            self._arm(session.touched + self.idle_timeout)

    def put_aside(self, Session session not None):
        """Let a session only wait for its last answers, as its client has another one; an earlier such one ends."""
        cdef bytes more = (session._more or b"") + b" aside"
        earlier = self._found(&session._node.key, more)
        if earlier is not None:
            self._end(earlier, SERVICE_MOVED)
        self._table.remove(&session._node)
        session._more = more
        session._node.more = <void *>more
        self._table.insert(&session._node)

    cdef Session _found(self, const Key *key, bytes more):
        cdef Node *node = self._table.find(key, more)
        return None if node == NULL else <Session>node.owner

    # -- ends

    def end(self, Session session not None, Py_ssize_t why):
        """End a session; the counter `why` gives the reason.  Harmless if it has ended."""
        self._end(session, why)

    def give(self, Session session not None):
        """Forget a session without an end; return its descriptor, which the caller owns."""
        cdef int fd = session._fd
        self._table.remove(&session._node)
        self.poller.drop(&session._watch)
        session._fd = -1
        self._let_go(session)
        return fd

    def hand_on(self, UdpListener old not None, UdpListener new not None):
        """Let sessions that answer through one socket of a listener answer through another."""
        cdef Node *node = self._table.oldest()
        cdef Session session
        if not old.sessions:
            return
        while not self._table.is_end(node):
            session = <Session>node.owner
            if session.listener is old:
                session.listener = new
            node = node.newer
        new.sessions += old.sessions
        old.sessions = 0
        self._post.flush(&old._box)

    def arm_anew(self):
        """Set the timer for the session that is first now, or by another `idle_timeout`."""
        cdef Node *node = self._table.oldest()
        self.poller.timers.unset(&self._expiry)
        if not self._table.is_end(node):
            self._arm(max((<Session>node.owner).touched + self.idle_timeout, self.poller.now))

    cdef int _end(self, Session session, Py_ssize_t why) except -1:
        if not session._node.present:
            return 0
        self._table.remove(&session._node)
        try:
            if self.log is not None:
                self.log.session(session, why)
            if self.followed is not None:
                self.followed.session(session, why)
        finally:
            session._close()
            self._let_go(session)
        return 0

    cdef int _let_go(self, Session session) except -1:
        """Give back what a session has taken, and the table's reference to it."""
        self.unanswered.drop(session)
        session.listener.sessions -= 1
        if not session.listener.sessions:
            self._post.flush(&session.listener._box)  # nothing needs its socket any more, which may be closed now
        self._at[self.service.cell + SERVICE_SESSIONS] -= 1
        if self._table.buckets.count == 0:
            self.poller.timers.unset(&self._expiry)
        Py_DECREF(session)  # the caller has another reference
        self.service.gave_back(session.end.target)
        if session.sticky and self.service.keeper is not None:
            self.service.keeper.release(session.sticky, session.touched)
        return 0

    cdef int _arm(self, double when) except -1:
        if not isinf(when):
            self.poller.timers.set(&self._expiry, when)
            if not self.poller._pumping:
                self.poller.arm()
        return 0

    cdef int _expire(self, double now) except -1:
        """End sessions that have been idle for `idle_timeout`; the longest idle one comes first."""
        cdef double when
        cdef Session session
        for _ in range(_EXPIRED_AT_ONCE):
            if self._table.buckets.count == 0:
                return 0
            session = <Session>self._table.oldest().owner
            when = session.touched + self.idle_timeout
            if when > now:
                self._arm(max(when, now + _GRAIN))
                return 0
            self._at[self.service.cell + SERVICE_EXPIRED] += 1
            self._end(session, SERVICE_EXPIRED)
        self._arm(now + _EXPIRED_PAUSE)
        return 0

    # -- datagrams

    def admit(self, UdpListener listener not None, data, tuple client, told=None):
        """Take one datagram of a client and send it to a backend; `told` is its PROXY header."""
        cdef bytes copy = bytes(data)
        cdef Key key
        write_client(&key.client, client)
        self._admit(listener, copy, len(copy), &key.client, told)

    def touch(self, Session session not None):
        """Note traffic in either direction, which keeps a session from expiring."""
        self._touch(session)

    cdef void _touch(self, Session session) noexcept:
        session.touched = self.poller.now
        self._table.touch(&session._node)

    cdef int _take(self, UdpListener listener, const char *data, Py_ssize_t size, const Client *client) except -1:
        """Take one datagram as it arrived, with its PROXY header if there is one."""
        if self.introduced:
            self.introduce(listener, data[:size], read_client(client))
        else:
            self._admit(listener, data, size, client, None)
        return 0

    cdef int _admit(
        self, UdpListener listener, const char *data, Py_ssize_t size, const Client *client, told,
    ) except -1:
        cdef Key key
        cdef Session session, moved
        cdef Address address
        if not is_admitted(self.service, client, told, &address):
            return 0
        key.client = client[0]
        key.listener = listener.ident
        session = self._found(&key, None if told is None else _more_of(told))
        if session is None:
            if not self.service.too_fast(True, &address, self.poller.now):
                self.begin(listener, read_client(client), data[:size], (), told)
            return 0
        if (
            not session.refused
            and (session.epoch == self.service.epoch or self.still_good(session))
            and (not session._roams or self.poller.now - session.heard < _HEARD or self.is_at_home(session))
        ):
            self._touch(session)
            if session._send(data, size, ()):
                return 0
            moved = self.resend(session)  # the earlier datagram goes first
            if moved is not None:
                if moved._send(data, size, ()):
                    return 0
                session = moved
        self.begin_anew(session, listener, data[:size], told)
        return 0


cdef bytes _more_of(told):
    """Return what a PROXY header adds to the key of a session."""
    return None if told is None else repr((told.client, told.asked)).encode()


cdef int _answer_left(Box *box, Parcel *parcel, int error) except -1:
    cdef Sessions udp = (<UdpListener>box.owner).udp
    udp._at[udp.service.cell + (SERVICE_UNSENT_REPLIES if error else SERVICE_REPLIES)] += 1
    return 0


cdef int _session_ready(Watch *watch, uint32_t mask) except -1:
    session = <Session>watch.again.owner
    return session._ready()


cdef int _expiry_rings(void *owner, double now) except -1:
    udp = <Sessions>owner
    return udp._expire(now)
