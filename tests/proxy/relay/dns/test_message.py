"""What the relay reads of a DNS message, and the SERVFAIL that it writes."""

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.dns.message import HEADER, extended_rcode, formerr, is_answer, question_end, servfail
from tests.proxy.relay.dnsbed import EDNS, name_of, query

QUESTION = name_of("www.example.net") + b"\0\x01\0\x01"
labels = st.lists(st.binary(min_size=1, max_size=63), max_size=6).filter(lambda ls: sum(map(len, ls)) + len(ls) < 255)


def header(ident=7, flags=b"\x01\0", count=1):
    return ident.to_bytes(2, "big") + flags + count.to_bytes(2, "big") + bytes(6)


@given(labels, st.binary(max_size=40))
def test_the_question_ends_after_type_and_class(parts, tail):
    """The end is found whatever octets the labels hold, zeros too, and whatever follows the question."""
    name = b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    message = header() + name + b"\0\x01\0\x01"
    assert question_end(message + tail, len(message + tail)) == len(message)


@given(st.binary(max_size=600))
def test_any_bytes_have_an_end_inside_or_none(noise):
    """Of any octets after a header, the end lies inside them or is 0, and dnspython agrees where it is."""
    message = header() + noise
    end = question_end(message, len(message))
    assert end == 0 or HEADER + 5 <= end <= len(message)
    if end:
        # dnspython reads what we found: a whole name, type and class.
        parsed = dns.message.from_wire(message[:end], question_only=True)
        assert len(parsed.question) == 1


@pytest.mark.parametrize("cut", range(len(QUESTION)))
def test_a_cut_question_is_none(cut):
    """U13: a question that ends early is none, at whichever octet, even if its rest lies behind the message in memory."""
    assert question_end(header() + QUESTION, HEADER + cut) == 0


def test_names_of_255_octets_and_no_more():
    """A name of 255 octets is the longest (RFC 1035, section 2.3.4), and labels of 63."""
    longest = b"\x3f" + b"a" * 63
    name = longest * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert len(name) == 255
    message = header() + name + b"\0\x01\0\x01"
    assert question_end(message, len(message)) == len(message)
    message = header() + longest * 3 + b"\x3e" + b"a" * 62 + b"\0" + b"\0\x01\0\x01"
    assert question_end(message, len(message)) == 0
    for bad in (b"\x40" + b"a" * 64 + b"\0", b"\xc0\x0c", b"\x80\0"):
        message = header() + bad + b"\0\x01\0\x01"
        assert question_end(message, len(message)) == 0


def test_one_question_or_none():
    """A query has one question, or none at all (RFC 7873, section 5.4); two are refused."""
    assert question_end(header(count=0), HEADER) == HEADER
    for count in (2, 256, 257, 65535):
        message = header(count=count) + QUESTION * 2
        assert question_end(message, len(message)) == 0


def reply(question=QUESTION, count=1, rcode=0, opcode=0, flags=0):
    return header(flags=bytes([0x81 | opcode << 3 | flags, rcode]), count=count) + question


def asked(question=QUESTION, opcode=0):
    """Return a query, and where its question ends."""
    return header(flags=bytes([opcode << 3 | 1, 0]), count=bool(question)) + question, HEADER + len(question)


def with_opt(upper, rcode=0, opcode=0):
    """Return an answer without question and with nothing but an OPT record, whose upper RCODE bits are these."""
    head = bytearray(reply(b"", 0, rcode, opcode))
    head[11] = 1
    return bytes(head) + b"\0\0\x29\x04\xd0" + bytes([upper]) + b"\0\0\0\0\0"


@pytest.mark.parametrize(
    ("data", "same"),
    [
        (reply(), True),
        (reply(QUESTION + b"more"), True),
        (reply(QUESTION.replace(b"www", b"WwW")), True),
        (reply(QUESTION.replace(b"www", b"wwx")), False),
        (reply(QUESTION[:-3] + b"\x02\0\x01"), False),
        (reply(QUESTION[:-1] + b"\x03"), False),
        (reply(QUESTION[:-1]), False),
        (reply(QUESTION, count=2), False),
        (reply(b"", count=0), False),
        (reply(b"", count=0, rcode=2), True),
        (reply(b"", count=1, rcode=2), False),
        (reply(QUESTION, count=257), False),
    ],
)
def test_same_question(data, same):
    """U2: an answer repeats the question, case of the name aside; an error may leave it out."""
    assert is_answer(data, *asked()) is same


@pytest.mark.parametrize(
    ("data", "opcode", "counts"),
    [
        (reply(b"", 0, opcode=5), 5, True),
        (reply(b"", 0, 5, opcode=5), 5, True),
        (reply(b"", 0, opcode=4), 4, True),
        (reply(b"", 0, opcode=2), 2, True),
        (reply(b"", 0, opcode=0), 5, False),
        (reply(b"", 0, opcode=4), 5, False),
        (reply(b"", 0, rcode=4), 2, True),
        (reply(opcode=5), 5, True),
        (reply(QUESTION.replace(b"www", b"wwx"), opcode=5), 5, False),
        (reply(b"", 0, flags=0x02), 0, True),
        (with_opt(0), 0, False),
        (with_opt(1), 0, True),
        (with_opt(1, 7), 0, True),
        (with_opt(0, opcode=5), 5, True),
        (with_opt(1)[:-1], 0, False),
    ],
    ids=["update", "update refused", "notify", "status", "opcode 0", "another opcode", "notimp", "zone", "another zone",
         "truncated", "EDNS", "BADVERS", "BADCOOKIE", "update, EDNS", "cut"],
)  # fmt: skip
def test_answers_without_a_question(data, opcode, counts):
    """U2: in an answer without a question opcode and extended RCODE distinguish success and error (RFC 2136, RFC 6891)."""
    assert is_answer(data, *asked(opcode=opcode)) is counts


@pytest.mark.parametrize(("upper", "rcode", "whole"), [(0, 0, 0), (0, 2, 2), (1, 0, 16), (1, 7, 23), (255, 15, 4095)])
def test_the_extended_rcode(upper, rcode, whole):
    """The OPT record holds the upper eight bits of a response code (RFC 6891, section 6.1.3), and dnspython agrees."""
    data = with_opt(upper, rcode)
    assert extended_rcode(data) == whole == dns.message.from_wire(data).rcode()
    assert extended_rcode(reply(b"", 0, rcode)) == rcode


@pytest.mark.parametrize(("one", "other"), [(65, 97), (97, 65), (0x4100, 0x6100)])
def test_types_have_a_case(one, other):
    """U2: type 65 (HTTPS) is not type 97, though as letters they are one."""
    name = name_of("a.example.net")
    data = reply(name + other.to_bytes(2, "big") + b"\0\x01")
    assert not is_answer(data, *asked(name + one.to_bytes(2, "big") + b"\0\x01"))


def test_no_question_is_answered_without_one():
    """A query without question is answered without, whatever the code; one that comes with a question is another's."""
    assert is_answer(reply(b"", count=0), *asked(b""))
    assert not is_answer(reply(), *asked(b""))


@given(st.binary(max_size=300), st.integers(0, 15))
def test_any_reply_is_an_answer_or_not(noise, opcode):
    """U13: any octets behind a header are an answer or none; nothing else comes of them."""
    for count in (0, 1):
        is_answer(header(count=count) + noise, *asked(opcode=opcode))
        is_answer(header(count=count)[:11] + noise[:1] + noise if noise else header(), *asked(opcode=opcode))


@given(st.binary(min_size=12, max_size=300))
def test_formerr_is_a_header(message):
    """U17: FORMERR has the query's ID, opcode, RD and CD, no question and nothing else, and is never larger (RFC 9619)."""
    told = formerr(message)
    assert told == message[:2] + bytes([0x80 | message[2] & 0x79, message[3] & 0x10 | 1]) + bytes(8)
    assert dns.message.from_wire(told).rcode() == dns.rcode.FORMERR


@given(labels, st.integers(0, 15), st.booleans(), st.booleans(), st.binary(max_size=30))
def test_servfail_fits_its_query(parts, opcode, recursion, checking, tail):
    """U17: SERVFAIL has the query's ID, opcode, RD, CD and question, nothing else, and is never larger."""
    flags = bytes([opcode << 3 | recursion | 0x06, checking << 4 | 0x20])
    name = b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    message = header(0xBEEF, flags) + name + b"\0\x01\0\x01" + tail
    told = servfail(message, question_end(message, len(message)))
    assert len(told) <= len(message)
    assert told == header(0xBEEF, bytes([0x80 | opcode << 3 | recursion, checking << 4 | 2])) + name + b"\0\x01\0\x01"


def test_servfail_is_read_by_dnspython():
    """U17: another implementation reads the relay's answer as a SERVFAIL to a query with EDNS."""
    message = query("www.example.net", 99, tail=EDNS)
    told = dns.message.from_wire(servfail(message, question_end(message, len(message))))
    assert told.rcode() == dns.rcode.SERVFAIL
    assert told.id == 99
    assert told.flags & dns.flags.QR
    assert dns.message.make_query("www.example.net", "A").question == told.question
