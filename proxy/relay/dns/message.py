"""The few facts of a DNS message that a relay needs (RFC 1035, section 4.1).  Pure.

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

HEADER = 12
QR = 0x80  # in octet 2
OPCODE = 0x78
TC = 0x02
RD = 0x01
CD = 0x10  # in octet 3
RCODE = 0x0F
SERVFAIL = 2
LONGEST_NAME = 255
LONGEST_LABEL = 63
_NAME_LIMIT = HEADER + LONGEST_NAME  # where the last octet of the longest name has been

Message = bytes | bytearray | memoryview


def question_end(message: Message, size: int) -> int:
    """Where the question section of a query ends, 0 if it is not one question (or none at all) in `size` octets.

    A query's name cannot be compressed: there is nothing before it to point to.  Without a question (a cookie
    request, RFC 7873 section 5.4) the section ends where it begins.
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


def same_question(reply: Message, size: int, question: bytes) -> bool:
    """Whether `reply` repeats `question` (from octet 12 on), names compared without case.

    A reply without question counts only if it tells an error (or if none was asked): RFC 1035 leaves out of a
    FORMERR what could not be read.
    """
    if reply[4] == 0 and reply[5] == 0:
        return not question or reply[3] & RCODE != 0
    end = HEADER + len(question)
    if size < end or not question or reply[4] != 0 or reply[5] != 1:
        return False
    echoed = bytes(reply[HEADER:end])
    if echoed == question:
        return True
    # Only the name is without case; a type of 65 is not one of 97.  Length octets are below 64, so lower() spares them.
    return echoed[-4:] == question[-4:] and echoed[:-4].lower() == question[:-4].lower()


def servfail(query: Message, end: int) -> bytes:
    """A SERVFAIL to `query` whose question ends at `end`: same ID, opcode, RD and CD, the question, nothing else.

    Never larger than the query (RFC 1035, section 4.1.1 for the flags; RFC 4035, section 3.1.6 for CD).
    """
    return _answer(query, end, 0, SERVFAIL)


def truncated(query: Message, end: int) -> bytes:
    """An answer with TC and nothing in it, which sends who asked to TCP (RFC 7766, section 5); else as `servfail`."""
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
