"""The DNS messages of a probe: builds the query and reads the reply.  Pure.

dnspython reads names and record data, but this module walks over the records itself.  `dns.message.from_wire` reads the
whole message: 64 KiB of chained compression pointers keep it busy for seconds, and a hostile server must not delay the
probes of other backends.  This module reads at most `MAX_RECORDS` records, and only the data of the queried records.
"""

import contextlib
import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.wire

HEADER = 12  # bytes (RFC 1035, section 4.1.1)
MAX_RECORDS = 256  # records that are read of one message at most

_QR, _OPCODE, _AA, _TC, _RCODE = 0x8000, 0x7800, 0x0400, 0x0200, 0x000F


class Malformed(Exception):  # noqa: N818 - named for what the message is
    """A message that breaks RFC 1035; the text says where."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of class IN; names compare without case."""

    name: dns.name.Name
    rdtype: dns.rdatatype.RdataType
    wire: bytes
    """The question in wire format, uncompressed and in lower case."""

    @classmethod
    def parse(cls, name: str, rdtype: str) -> "Question":
        """Return the question for a name and a record type in text; raises ValueError."""
        try:
            asked, kind = dns.name.from_text(name), dns.rdatatype.from_text(rdtype)
            return cls(asked, kind, asked.to_digestable() + struct.pack("!HH", kind, dns.rdataclass.IN))
        except dns.exception.DNSException as error:
            raise ValueError(f"{name} {rdtype} cannot be asked: {error}") from None

    def __str__(self) -> str:
        return f"{self.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(self.rdtype)}"

    def query(self, *, recurse: bool) -> bytes:
        """Return the bytes of the query with ID 0, without EDNS, so that every server understands it."""
        flags = dns.flags.RD if recurse else dns.flags.Flag(0)
        return dns.message.make_query(self.name, self.rdtype, flags=flags, id=0).to_wire()


@dataclass(frozen=True, slots=True)
class Reply:
    """The relevant content of a reply: `answers` is the data of the records of the queried type under the queried name.

    `referral` is the name server that a reply without answer points to, "" if none.  A truncated reply has neither.
    """

    rcode: int
    authoritative: bool
    truncated: bool
    answers: tuple[dns.rdata.Rdata, ...] = ()
    referral: str = ""

    @property
    def rcode_text(self) -> str:
        """The response code's name: "NOERROR"."""
        return _rcode_text(self.rcode)


@functools.cache  # there are sixteen codes
def _rcode_text(rcode: int) -> str:
    return dns.rcode.to_text(dns.rcode.Rcode(rcode))


def stranger(data: bytes, ident: int, question: Question) -> str:
    """Return why `data` is not a reply to our query, "" if it is one; raises `Malformed` if the question is malformed.

    An error reply may lack the question, because a server that could not read our question cannot repeat it.
    """
    if len(data) < HEADER:
        return "too short for a DNS message"
    found, flags, questions = (int.from_bytes(data[at : at + 2], "big") for at in (0, 2, 4))
    why = ""
    if found != ident:
        why = "with a wrong ID"
    elif not flags & _QR:
        why = "that is a query"
    elif flags & _OPCODE:
        why = "with a wrong opcode"
    elif questions != 1 and (questions or not flags & _RCODE):
        why = f"with {questions} questions"
    elif questions and not _repeats(data, question):
        with _read("the question"):
            parser = dns.wire.Parser(data, HEADER)
            name = dns.name.from_wire_parser(parser)
            rdtype, rdclass = parser.get_struct("!HH")
        if (name, rdtype, rdclass) != (question.name, question.rdtype, dns.rdataclass.IN):
            why = "to another question"
    return why


def _repeats(data: bytes, question: Question) -> bool:
    """Returns True if `data` repeats the question uncompressed, as nearly every reply does: then no parsing is needed."""
    end = HEADER + len(question.wire)
    return data[HEADER : end - 4].lower() == question.wire[:-4] and data[end - 4 : end] == question.wire[-4:]


def read_reply(data: bytes, question: Question) -> Reply:
    """Return the content of a reply that `stranger` has accepted; raises `Malformed`."""
    flags, questions, answers, authorities = (int.from_bytes(data[at : at + 2], "big") for at in (2, 4, 6, 8))
    rcode, authoritative = flags & _RCODE, bool(flags & _AA)
    if flags & _TC:
        return Reply(rcode, authoritative, truncated=True)
    parser = dns.wire.Parser(data, HEADER)
    found: list[dns.rdata.Rdata] = []
    with _read("the answer"):
        if questions == 1 and _repeats(data, question):
            parser.seek(HEADER + len(question.wire))
            questions = 0
        for _ in range(questions):
            dns.name.from_wire_parser(parser)
            parser.get_struct("!HH")
        names = {question.name}
        for _ in range(min(answers, MAX_RECORDS)):
            found += _record(parser, question.rdtype, names)
    referral = ""
    if not found and answers < MAX_RECORDS:
        with _read("the authority section"):
            for _ in range(min(authorities, MAX_RECORDS - answers)):
                referral = referral or _name_server(parser)
    return Reply(rcode, authoritative, False, tuple(found), referral)


def _record(
    parser: dns.wire.Parser, wanted: dns.rdatatype.RdataType, names: set[dns.name.Name]
) -> list[dns.rdata.Rdata]:
    """Read one record and return its data if it answers the question; adds aliases to `names` (RFC 1034, 3.6.2)."""
    owner = dns.name.from_wire_parser(parser)
    rdtype, rdclass, _, size = parser.get_struct("!HHIH")
    answers = wanted in {rdtype, dns.rdatatype.ANY}
    alias = rdtype == dns.rdatatype.CNAME and not answers
    with parser.restrict_to(size):
        if owner not in names or not (answers or alias):
            parser.get_remaining()
            return []
        if alias:
            names.add(dns.name.from_wire_parser(parser))
            return []
        return [dns.rdata.from_wire_parser(rdclass, rdtype, parser)]


def _name_server(parser: dns.wire.Parser) -> str:
    """Read one record of the authority section and return the name server in it, "" if none."""
    dns.name.from_wire_parser(parser)
    rdtype, _, _, size = parser.get_struct("!HHIH")
    with parser.restrict_to(size):
        if rdtype == dns.rdatatype.NS:
            return dns.name.from_wire_parser(parser).to_text(omit_final_dot=True)
        parser.get_remaining()
    return ""


@contextlib.contextmanager
def _read(what: str) -> Iterator[None]:
    """Turn any exception that dnspython raises over bad bytes into `Malformed`, naming `what` is malformed."""
    try:
        yield
    except dns.name.BadPointer:
        raise Malformed(f"a compression loop in {what}") from None
    except (dns.exception.DNSException, ValueError, struct.error) as error:
        raise Malformed(f"{what} cannot be read ({type(error).__name__})") from None


class Wanted:
    """The record data that the configuration expects, to compare with an answer.

    If the text can be parsed, the data is compared, so that case, spacing and IPv6 forms do not matter; else the text is
    compared.  A TXT record may be written without quotes: then its joined strings are compared.
    """

    def __init__(self, text: str, rdtype: dns.rdatatype.RdataType) -> None:
        self.text = text
        self._data: dns.rdata.Rdata | None = None
        with contextlib.suppress(dns.exception.DNSException, ValueError):
            self._data = dns.rdata.from_text(dns.rdataclass.IN, rdtype, text, origin=dns.name.root, relativize=False)

    def matches(self, data: dns.rdata.Rdata) -> bool:
        """Returns True if `data` is the expected data."""
        if data == self._data or data.to_text().casefold() == self.text.casefold():
            return True
        strings: tuple[bytes, ...] = getattr(data, "strings", ())
        return bool(strings) and b"".join(strings) == self.text.encode()
