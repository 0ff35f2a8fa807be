"""What the data path does with DNS messages [pure]; `proxy.relay.dns.message` draws one."""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy, memset

cdef enum:
    HEADER = 12
    QR = 0x80
    OPCODE = 0x78
    TC = 0x02
    RD = 0x01
    CD = 0x10
    LONGEST_LABEL = 63
    NAME_LIMIT = HEADER + 255  # the offset behind the longest name


cdef Py_ssize_t end_of_question(const uint8_t *message, Py_ssize_t size) noexcept:
    cdef Py_ssize_t at = HEADER, limit = size - 4 if size < NAME_LIMIT + 4 else NAME_LIMIT
    cdef int length
    if message[4]:
        return 0
    if message[5] != 1:
        return 0 if message[5] else HEADER
    while at < limit:
        length = message[at]
        if length == 0:
            return at + 5
        if length > LONGEST_LABEL:
            return 0
        at += length + 1
    return 0


cdef void write_answer(uint8_t *reply, const uint8_t *query, Py_ssize_t end, int flags, int rcode) noexcept:
    """Write an answer of `end` octets: ID, opcode, RD, CD, question.  `end` 0: FORMERR, a header without a question."""
    reply[0] = query[0]
    reply[1] = query[1]
    reply[2] = QR | flags | query[2] & (OPCODE | RD)
    reply[3] = query[3] & CD | rcode
    memset(reply + 4, 0, 8)
    if end:
        memcpy(reply + 4, query + 4, 2)
        memcpy(reply + HEADER, query + HEADER, end - HEADER)


cdef bint repeats_question(const uint8_t *reply, Py_ssize_t size, const uint8_t *query, Py_ssize_t end) noexcept:
    """Return True if a reply repeats the query's question octet by octet, as nearly every answer does."""
    return size >= end and not reply[4] and reply[5] == query[5] and memcmp(reply + HEADER, query + HEADER, end - HEADER) == 0


def question_end(message, Py_ssize_t size):
    """Return the offset at which the question section ends; 0 if it is incomplete or has more than one question.

    A query's name cannot be compressed: there is no name before it.  Without a question (a cookie request, RFC 7873
    section 5.4) the section ends where it begins.  The message has a whole header.
    """
    cdef const uint8_t[:] octets = message
    return end_of_question(&octets[0], size)


def servfail(query, Py_ssize_t end):
    """Return a SERVFAIL to `query`, whose question ends at `end`: its ID, opcode, RD, CD and question, and nothing else.

    It is never larger than the query (RFC 1035, section 4.1.1 for the flags; RFC 4035, section 3.1.6 for CD).
    """
    return _answer(query, end, 0, 2)


def formerr(query):
    """Return a FORMERR to `query`, of which only the header can be read: like `servfail`, without a question."""
    return _answer(query, 0, 0, 1)


def truncated(query, Py_ssize_t end):
    """Return an empty answer with TC, which makes the client use TCP (RFC 7766, section 5); otherwise like `servfail`."""
    return _answer(query, end, TC, 0)


cdef bytes _answer(query, Py_ssize_t end, int flags, int rcode):
    cdef const uint8_t[:] octets = query
    reply = bytearray(end or HEADER)
    cdef uint8_t[:] place = reply
    write_answer(&place[0], &octets[0], end, flags, rcode)
    return bytes(reply)
