"""The clients' side of DNS over UDP: a socket, and the datagrams that come and go there."""

cimport cython

from cpython.ref cimport Py_DECREF
from libc.errno cimport EAGAIN

from proxy.relay.native.address cimport read_client
from proxy.relay.native.datagrams cimport BATCH, NAMED, WILDCARD, Parcel
from proxy.relay.native.dns_query cimport ALONE, ANSWER, Query
from proxy.relay.native.linux cimport EPOLLERR, EPOLLET, EPOLLIN

from proxy.relay.sockets.datagram import WILDCARDS
from proxy.stats import layout

cdef Py_ssize_t SERVICE_UNSENT_REPLIES = layout.SERVICE_UNSENT_REPLIES
cdef Py_ssize_t SERVICE_REPLIES = layout.SERVICE_REPLIES


@cython.no_gc_clear
cdef class Listener:
    """One UDP socket that clients send queries to."""

    def __init__(self, Queries dns, member, sock, list peers):
        """Read from a socket; `peers` are the backends', by index."""
        self.dns = dns
        self.member = member
        self.sock = sock
        self.route = member.text.encode()
        self.ident = member.listener
        self._peers = peers
        self._fd = sock.fileno()
        self._names = WILDCARD if member.address in WILDCARDS else NAMED
        dns.poller.prepare(&self._watch, _listener_ready, <void *>self)
        dns._post.open(&self._box, self._fd, _reply_sent, <void *>self, False)
        dns.poller.watch(&self._watch, self._fd, EPOLLIN | EPOLLET)

    def __dealloc__(self):
        # Whatever waits in the box holds a reference.
        if self.dns is not None:
            self.dns.poller.drop(&self._watch)
            self.dns._post.close(&self._box)

    def stop(self):
        """Stop polling, and take what has arrived already."""
        self.dns.poller.drop(&self._watch)
        self.dns.poller.call_again(&self._watch)

    def unlisten(self):
        """Read nothing more; pending queries are still answered."""
        self.dns.poller.drop(&self._watch)
        self.dns._post.flush(&self._box)

    def close(self):
        """Send nothing more."""
        self.unlisten()
        self.dns._post.close(&self._box)

    @property
    def reading(self):
        """True if there may be more to take."""
        return self._watch.again.next != NULL

    @property
    def needed(self):
        """True if a pending query (until give-up) is answered by this socket."""
        return self._owing > 0

    cdef tuple client(self, const Client *client):
        """Return a client as Python's way of reading gives it."""
        source = read_client(client)
        return (*source, b"") if self._names == WILDCARD and not client.local_size else source


cdef int _listener_ready(Watch *watch, uint32_t mask) except -1:
    """Read the queries that have arrived."""
    cdef Listener listener = <Listener>watch.again.owner
    cdef Queries dns = listener.dns
    cdef int count = dns._inbox.receive(listener._fd, listener._names)
    if count == -EAGAIN:
        return 0
    if count == BATCH or count < 0 or mask & EPOLLERR:
        dns.poller.call_again(watch)
    return dns._admit_batch(listener, count)


cdef int _reply_sent(Box *box, Parcel *parcel, int error) except -1:
    """Count a datagram that has left, or could not leave, and release its query."""
    cdef Listener listener = <Listener>box.owner
    cdef Queries dns = listener.dns
    if error:
        dns._at[SERVICE_UNSENT_REPLIES] += 1
    elif parcel.tag == ANSWER:
        dns._at[SERVICE_REPLIES] += 1
    if parcel.tag != ALONE:
        dns._release(<Query *>parcel.owner)
    else:
        listener._owing -= 1
        Py_DECREF(listener)
    return 0
