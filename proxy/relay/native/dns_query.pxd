"""A DNS query in flight, as C sees it, and the hash of its tables.

The tables are keyed: a client that knows the code cannot choose messages that fall into one bucket.  The hash is
SipHash-1-3, as Python uses it for its dictionaries.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy

from proxy.relay.native.address cimport Address, Client


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
    uint64_t hash  # of the message and the backend
    Attempt *chain  # in the bucket, of the first twin
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
    uint64_t hash  # of listener, client and datagram
    Query *chain
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


cdef struct Secret:
    uint64_t zero
    uint64_t one


cdef inline uint64_t _turned(uint64_t word, int bits) noexcept nogil:
    return word << bits | word >> (64 - bits)


cdef inline void _stir(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = _turned(v[1], 13) ^ v[0]
    v[3] = _turned(v[3], 16) ^ v[2]
    v[0] = _turned(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = _turned(v[1], 17) ^ v[2]
    v[3] = _turned(v[3], 21) ^ v[0]
    v[2] = _turned(v[2], 32)


cdef inline uint64_t keyed_hash(const Secret *secret, uint64_t before, const void *data, size_t size) noexcept nogil:
    """Return the hash of a word, `before`, and of `size` octets after it."""
    cdef const uint8_t *at = <const uint8_t *>data
    cdef uint64_t v[4]
    cdef uint64_t word = before
    cdef size_t left = size
    v[0] = secret.zero ^ <uint64_t>0x736F6D6570736575
    v[1] = secret.one ^ <uint64_t>0x646F72616E646F6D
    v[2] = secret.zero ^ <uint64_t>0x6C7967656E657261
    v[3] = secret.one ^ <uint64_t>0x7465646279746573
    while True:
        v[3] ^= word
        _stir(v)
        v[0] ^= word
        if left < 8:
            break
        memcpy(&word, at, 8)
        at += 8
        left -= 8
    word = 0
    memcpy(&word, at, left)
    word |= <uint64_t>(size + 8) << 56
    v[3] ^= word
    _stir(v)
    v[0] ^= word
    v[2] ^= 0xFF
    _stir(v)
    _stir(v)
    _stir(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
