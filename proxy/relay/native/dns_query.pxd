"""A DNS query in flight, as C sees it."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint64_t

from proxy.relay.native.address cimport Address, Client
from proxy.relay.native.buckets cimport Entry


cdef struct Waiting:
    # The place of a query in its phase.
    Waiting *previous
    Waiting *next
    double started
    double due
    int phase


cdef struct Attempt:
    # A query that was sent over a socket with an ID.  Attempts with equal messages to one backend are a circle of twins.
    Query *query
    Attempt *next  # of the same query, in order
    PyObject *upstream  # owned
    void *peer  # of the socket
    double sent
    Entry entry  # by the message and the backend; of the first twin
    Attempt *twin
    Attempt *former_twin
    int twins  # in the circle, of the first twin
    uint16_t ident


cdef struct Join:
    # `waits` gets the answer to another query, in whose list it is; next is NULL when that query is over.
    Query *waits
    Join *previous
    Join *next
    Join *other  # of the same waiting query


cdef struct Query:
    Waiting turn  # the first member: a turn is a query
    PyObject *listener  # owned
    PyObject *introduction  # the PROXY header, owned; NULL: none
    PyObject *only  # the one backend that was tried, owned; NULL: none or several
    PyObject *tried  # the tuple of several, owned
    int tries  # how many those are
    Entry entry  # by listener, client and datagram
    Py_ssize_t ident  # of the listener
    Client client
    Address who  # the client's: the same, or what the PROXY header names
    char *datagram  # as it came, behind this struct
    Py_ssize_t total
    uint8_t *message  # its end, behind a PROXY header
    Py_ssize_t size
    Py_ssize_t end  # of the question
    const uint8_t *payload  # what backends get behind the ID
    Py_ssize_t payload_size
    const uint8_t *twin  # queries with the same `twin` may share one answer
    Py_ssize_t twin_size
    uint64_t twin_hash
    char *extra  # NULL, or where payload and twin are
    Attempt first
    Attempt *attempts  # NULL: none
    Attempt *last
    int asked  # attempts
    int unanswered  # the number of attempts that were counted as unanswered
    int sends  # to the backend that is being asked
    int subnet  # what `client_subnet.add` put into the query, and must be taken out of the answer
    int slot  # in the journal; -1: none
    int pins  # callers that still use it
    bint done  # it is in no table any more
    bint released  # it ends with its last pin
    Join also  # head of the list of queries that wait for this one's answer
    Join *joins


cdef enum:
    HEADER = 12
    QR = 0x80
    OPCODE = 0x78
    TC = 0x02
    # Tags of the datagrams that a listener sends.
    ALONE = 0  # of no query
    ANSWER = 1
    REFUSAL = 2


cdef inline bint is_owed(const Query *query) noexcept:
    """Return True if every healthy server answers the query: opcode QUERY with a question.

    A server may stay silent on other messages, and is not to blame then.
    """
    return not query.message[2] & OPCODE and query.end > HEADER


cdef inline void append_join(Join *head, Join *join) noexcept:
    join.previous = head.previous
    join.next = head
    head.previous.next = join
    head.previous = join


cdef inline void unlink_join(Join *join) noexcept:
    if join.next != NULL:
        join.previous.next = join.next
        join.next.previous = join.previous
        join.previous = join.next = NULL


cdef inline void take_over_joins(Join *head, Join *other) noexcept:
    """Append all of a list to another one."""
    if head.next != head:
        head.previous.next = other
        head.next.previous = other.previous
        other.previous.next = head.next
        other.previous = head.previous
        head.previous = head.next = head
