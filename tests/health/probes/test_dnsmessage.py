"""DNS messages: what is ours, what it says, and that no bytes do harm."""

import contextlib
import struct

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.probes.dnsmessage import MAX_RECORDS, Malformed, Question, Wanted, read_reply, stranger

SOA = Question.parse("example.net", "SOA")
A = Question.parse("www.example.net.", "A")


def reply(question: Question, *records: str, flags: int = 0, rcode: int = 0, authority: tuple[str, ...] = ()) -> bytes:
    """Return a reply with ID 0 whose records are given as "name ttl class type data"."""
    query = dns.message.from_wire(question.query(recurse=True))
    made = dns.message.make_response(query)
    made.flags |= flags
    made.set_rcode(rcode)
    for section, texts in ((made.answer, records), (made.authority, authority)):
        for text in texts:
            name, ttl, rdclass, rdtype, data = text.split(maxsplit=4)
            section.append(dns.rrset.from_text(name, int(ttl), rdclass, rdtype, data))
    return made.to_wire(max_size=65535)


VALID = reply(A, "www.example.net. 60 IN CNAME web.example.net.", "web.example.net. 60 IN A 192.0.2.1")


def test_query_is_plain() -> None:
    """A query asks one question of class IN, with or without recursion, and without EDNS, so that every server understands it."""
    for recurse in (True, False):
        query = dns.message.from_wire(SOA.query(recurse=recurse))
        assert (query.id, query.edns, bool(query.flags & dns.flags.RD)) == (0, -1, recurse)
        assert query.question[0].to_text() == "example.net. IN SOA"


def test_question_shows_itself() -> None:
    """A question reads like the configuration's, and an impossible one is refused in words."""
    assert str(SOA) == "example.net SOA"
    assert str(Question.parse(".", "NS")) == ". NS"
    with pytest.raises(ValueError, match="cannot be asked"):
        Question.parse("a..b", "A")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (VALID, ""),
        (b"", "too short for a DNS message"),
        (VALID[:11], "too short for a DNS message"),
        (b"\x12\x34" + VALID[2:], "with a wrong ID"),
        (A.query(recurse=True), "that is a query"),
        (VALID[:2] + bytes([VALID[2] | 0x28]) + VALID[3:], "with a wrong opcode"),
        (reply(SOA), "to another question"),
        (reply(Question.parse("www.example.net", "AAAA")), "to another question"),
        (reply(Question.parse("wWw.ExAmPlE.nEt", "A")), ""),
        (VALID[:4] + b"\0\2" + VALID[6:], "with 2 questions"),
        (b"\0\0\x80\0" + bytes(8), "with 0 questions"),
        (b"\0\0\x80\1" + bytes(8), ""),
    ],
)
def test_strangers(data: bytes, why: str) -> None:
    """H7: only a reply with our ID and question is ours, the name without case; an error may lack the question."""
    assert stranger(data, 0, A) == why


def test_answers_follow_aliases() -> None:
    """H7: the answer is what stands under the asked name, or under what it is an alias of, and nothing else."""
    assert [data.to_text() for data in read_reply(VALID, A).answers] == ["192.0.2.1"]
    other = reply(A, "elsewhere.example.net. 60 IN A 192.0.2.1")
    assert read_reply(other, A).answers == ()
    assert [data.to_text() for data in read_reply(VALID, Question.parse("www.example.net", "ANY")).answers] == [
        "web.example.net."
    ]


def test_header_marks() -> None:
    """A reply's code, its authority and its truncation are told; a truncated one is not read further."""
    found = read_reply(reply(A, flags=dns.flags.AA, rcode=dns.rcode.NXDOMAIN), A)
    assert (found.rcode_text, found.authoritative, found.truncated) == ("NXDOMAIN", True, False)
    assert read_reply(reply(A, flags=dns.flags.TC)[:12], A).truncated


def test_referral_is_seen() -> None:
    """H7: an answer that only names other servers is a referral."""
    assert read_reply(reply(A, authority=("example.net. 60 IN NS ns9.example.net.",)), A).referral == "ns9.example.net"
    soa = "example.net. 60 IN SOA ns1.example.net. host.example.net. 1 2 3 4 5"
    assert read_reply(reply(A, authority=(soa,)), A).referral == ""


def header(answers: int) -> bytes:
    return struct.pack("!HHHHHH", 0, 0x8000, 1, answers, 0, 0) + A.query(recurse=True)[12:]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (header(1) + b"\xc0" + bytes([len(header(1))]), "a compression loop in the answer"),
        (header(1) + b"\xc0\xff", "a compression loop in the answer"),
        (header(1), "the answer cannot be read"),
        (header(1) + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\5abc", "the answer cannot be read"),
        (header(1) + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\3abc", "the answer cannot be read"),
        (header(1) + b"\x80", "the answer cannot be read"),
    ],
)
def test_malformed_answers(data: bytes, words: str) -> None:
    """H4: compression loops, cut records and lengths that lie are told in words."""
    with pytest.raises(Malformed, match=words):
        read_reply(data, A)


def test_compression_loop_in_the_question() -> None:
    """H4: a question that points at itself is malformed."""
    with pytest.raises(Malformed, match="a compression loop in the question"):
        stranger(header(0)[:12] + b"\xc0\x0c\0\1\0\1", 0, A)


def test_reading_is_bounded() -> None:
    """H4, H5: of a message with thousands of records only so many are read as take no time that others would miss."""
    record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\1"
    assert len(read_reply(header(4000) + record * 4000, A).answers) == MAX_RECORDS


@given(st.binary(max_size=600), st.booleans())
def test_any_bytes_are_harmless(data: bytes, framed: bool) -> None:
    """H4, S9: whatever comes, it is a stranger, malformed, or a reply with a known code."""
    if framed:
        data = header(1)[:4] + data
    with contextlib.suppress(Malformed):
        if not stranger(data, 0, A):
            assert read_reply(data, A).rcode in range(16)


@given(
    st.lists(st.tuples(st.integers(2, len(VALID) - 1), st.integers(0, 255)), max_size=6), st.integers(12, len(VALID))
)
def test_mutated_replies_are_harmless(changes: list[tuple[int, int]], size: int) -> None:
    """H4, S9: a valid reply with any bytes changed, or cut anywhere, raises nothing but `Malformed`."""
    data = bytearray(VALID)
    for at, value in changes:
        data[at] = value
    data = data[:size]
    for question in (A, SOA, Question.parse("www.example.net", "ANY")):
        with contextlib.suppress(Malformed):
            stranger(bytes(data), 0, question)
            read_reply(bytes(data), question)


@pytest.mark.parametrize(
    ("rdtype", "wanted", "found", "same"),
    [
        ("A", "192.0.2.1", "192.0.2.1", True),
        ("A", "192.0.2.1", "192.0.2.2", False),
        ("AAAA", "2001:db8:0:0::1", "2001:db8::1", True),
        ("NS", "NS1.example.net", "ns1.example.net.", True),
        ("MX", "10   mail.example.net.", "10 mail.example.net.", True),
        ("MX", "20 mail.example.net.", "10 mail.example.net.", False),
        ("TXT", "v=spf1 -all", '"v=spf1 -all"', True),
        ("TXT", '"v=spf1 -all"', '"v=spf1 -all"', True),
        ("TXT", "v=spf1 -all", '"v=spf1 " "-all"', True),
        ("TXT", "v=spf1", '"v=spf1 -all"', False),
        ("A", "not an address", "192.0.2.1", False),
    ],
)
def test_wanted_records(rdtype: str, wanted: str, found: str, same: bool) -> None:
    """H7: an expected record is compared as data: case, spacing, quotes and the form of an address do not matter."""
    kind = dns.rdatatype.from_text(rdtype)
    data = dns.rdata.from_text("IN", kind, found, origin=dns.name.root, relativize=False)
    assert Wanted(wanted, kind).matches(data) is same
