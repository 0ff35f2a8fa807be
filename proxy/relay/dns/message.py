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

from proxy.relay.native.dns_message import formerr, question_end, servfail, truncated

__all__ = [
    "Message", "Record", "extended_rcode", "formerr", "is_answer", "question_end", "servfail", "truncated", "walk",
]  # fmt: skip

HEADER = 12
QR = 0x80  # in octet 2
OPCODE = 0x78
TC = 0x02
RCODE = 0x0F  # in octet 3
SERVFAIL = 2
OPT = 41
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
