"""The parts of a DNS message that a relay needs (RFC 1035, section 4.1) [pure].

 0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
|                      ID                       |  0
|QR|   Opcode  |AA|TC|RD|RA| Z|AD|CD|   RCODE   |  2
|                    QDCOUNT                    |  4
|            ANCOUNT, NSCOUNT, ARCOUNT          |  6
+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
|   QNAME: labels of 1..63 octets, then a zero  | 12
|                QTYPE, QCLASS                  |
"""

import struct
from typing import NamedTuple

HEADER = 12
QR = 0x80  # in octet 2
OPCODE = 0x78
TC = 0x02
RD = 0x01
CD = 0x10  # in octet 3
RCODE = 0x0F
FORMERR = 1
SERVFAIL = 2
LONGEST_NAME = 255
LONGEST_LABEL = 63
OPT = 41
_NAME_LIMIT = HEADER + LONGEST_NAME  # the offset behind the longest name
FIXED = struct.Struct("!HHIH")  # a record's type, class, TTL, length
POINTER = 0xC0

Message = bytes | bytearray | memoryview


class Record(NamedTuple):
    """One record: its type, the offsets of its start, data and end, and whether it is in the additional section."""

    kind: int
    start: int
    data: int
    end: int
    additional: bool


def question_end(message: Message, size: int) -> int:
    """Return the offset at which the question section ends; 0 if it is incomplete or has more than one question.

    A query's name cannot be compressed: there is no name before it.  Without a question (a cookie request, RFC 7873
    section 5.4) the section ends where it begins.
    """
    if message[4]:
        return 0
    count = message[5]
    if count != 1:
        return HEADER if count == 0 else 0
    at = HEADER
    limit = size - 4 if size < _NAME_LIMIT + 4 else _NAME_LIMIT
    while at < limit:
        length = message[at]
        if length == 0:
            return at + 5
        if length > LONGEST_LABEL:
            return 0
        at += length + 1
    return 0


def walk(message: Message, at: int) -> list[Record] | None:
    """Return the records behind the question section, which ends at `at`; None if a record is incomplete."""
    if not at:
        return None
    answers, authorities, additional = struct.unpack_from("!HHH", message, 6)
    size = len(message)
    found: list[Record] = []
    for number in range(answers + authorities + additional):
        start = at
        at = _skip_name(message, at, size)
        if not at or at + FIXED.size > size:
            return None
        kind, _, _, length = FIXED.unpack_from(message, at)
        at += FIXED.size
        if at + length > size:
            return None
        found.append(Record(kind, start, at, at + length, number >= answers + authorities))
        at += length
    return found


def _skip_name(message: Message, at: int, size: int) -> int:
    """Return the offset at which a name ends; 0 if it does not end."""
    while at < size:
        length = message[at]
        if length >= POINTER:
            return at + 2
        if length & POINTER:
            return 0
        at += length + 1
        if not length:
            return at
    return 0


def is_answer(reply: Message, query: Message, end: int) -> bool:
    """Return True if a reply with the right ID from the right socket answers `query`.

    The reply must repeat the question, which ends at `end` (RFC 5452, section 9.1); names are compared without case.  A
    reply without a question counts only if it carries no data that could belong to another question:

    - an error, by the extended RCODE (RFC 6891, section 6.1.3): a FORMERR omits a question that the server could not
      read;
    - a truncated answer, which only makes the client use TCP;
    - an answer that repeats an opcode other than QUERY: an answer to UPDATE has no zone (RFC 2136, section 3.8);
    - the answer to a query without a question.
    """
    question = query[HEADER:end]
    if reply[4] == 0 and reply[5] == 0:
        opcode = query[2] & OPCODE
        done = not question or (opcode and reply[2] & OPCODE == opcode) or reply[2] & TC
        return bool(done) or extended_rcode(reply) != 0
    if len(reply) < end or not question or reply[4] != 0 or reply[5] != 1:
        return False
    echoed = bytes(reply[HEADER:end])
    if echoed == question:
        return True
    # Only names ignore case: type 65 is not type 97.  Length octets are below 64, so lower() does not change them.
    return echoed[-4:] == question[-4:] and echoed[:-4].lower() == bytes(question[:-4]).lower()


def extended_rcode(reply: Message) -> int:
    """Return the RCODE of a reply without a question, with the upper eight bits from its OPT record if there is one."""
    upper = [reply[one.data - 6] for one in walk(reply, HEADER) or () if one.kind == OPT and one.additional]
    return (upper[0] << 4 if upper else 0) | reply[3] & RCODE


def servfail(query: Message, end: int) -> bytes:
    """Return a SERVFAIL to `query`, whose question ends at `end`: its ID, opcode, RD, CD and question, and nothing else.

    It is never larger than the query (RFC 1035, section 4.1.1 for the flags; RFC 4035, section 3.1.6 for CD).
    """
    return _answer(query, end, 0, SERVFAIL)


def formerr(query: Message) -> bytes:
    """Return a FORMERR to `query`, of which only the header can be read: like `servfail`, without a question."""
    return _answer(bytes(query[:4]) + bytes(8), HEADER, 0, FORMERR)


def truncated(query: Message, end: int) -> bytes:
    """Return an empty answer with TC, which makes the client use TCP (RFC 7766, section 5); otherwise like `servfail`."""
    return _answer(query, end, TC, 0)


def _answer(query: Message, end: int, flags: int, rcode: int) -> bytes:
    return b"".join(
        (
            bytes(query[0:2]),
            bytes((QR | flags | query[2] & (OPCODE | RD), query[3] & CD | rcode)),
            bytes(query[4:6]),
            b"\0\0\0\0\0\0",
            bytes(query[HEADER:end]),
        ),
    )
