"""Subnets in queries and out of answers; dnspython, which reads and writes such messages itself, is the judge."""

import ipaddress

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.dns.client_subnet import OPTION, RECORD, add, option, undo
from proxy.relay.dns.message import question_end

HOSTS = st.ip_addresses().map(str)
NAMES = st.lists(st.text("abcxyz019-", min_size=1, max_size=20), min_size=0, max_size=5).map(
    lambda labels: ".".join([*labels, ""])
)
OTHERS = st.lists(
    st.tuples(st.sampled_from([12, 65001, 65002, 65534]), st.binary(max_size=30)).map(
        lambda one: dns.edns.GenericOption(*one)
    ),
    max_size=4,
)
TAILS = st.binary(max_size=20)


def subnet_of(host):
    """Return the option as dnspython makes it."""
    address = ipaddress.ip_address(host)
    return dns.edns.ECSOption(host, 24 if address.version == 4 else 56)


def make(name="www.example.net.", kind="A", edns=None, options=(), payload=1232):
    """Return a query as it travels."""
    message = dns.message.make_query(name, kind)
    if edns is not None:
        message.use_edns(0, edns, payload, options=list(options))
    return message.to_wire()


def added(message, host="192.0.2.77"):
    """Add a client's subnet."""
    return add(message, question_end(message, len(message)), host)


def subnets(wire):
    """Return the subnets that a message names."""
    return [one for one in dns.message.from_wire(wire, ignore_trailing=True).options if one.otype == dns.edns.ECS]


@pytest.mark.parametrize(
    ("host", "wire"),
    [
        ("192.0.2.77", "0008 0007 0001 18 00 c00002"),
        ("2001:db8:1:2ff::7", "0008 000b 0002 38 00 20010db8000102"),
        ("fe80::7%eth0", "0008 000b 0002 38 00 fe800000000000"),
    ],
)
def test_the_option_as_the_rfc_has_it(host, wire):
    """The option matches RFC 7871 (section 6) octet for octet, with 24 or 56 bits of the address and no more."""
    assert option(host) == bytes.fromhex(wire)


@given(HOSTS)
def test_dnspython_writes_the_same_option(host):
    """Of any address the option is the one that dnspython writes."""
    theirs = subnet_of(host).to_wire()
    assert option(host)[4:] == theirs


@given(NAMES, HOSTS, TAILS)
def test_a_query_without_edns_gains_a_record(name, host, tail):
    """A query without EDNS gains an OPT record of 512 octets with the subnet, and nothing else of it changes."""
    plain = make(name)
    told, gained = added(plain + tail, host)
    assert gained == RECORD
    assert told.endswith(tail)
    read = dns.message.from_wire(told, ignore_trailing=True)
    assert (read.edns, read.payload, read.ednsflags) == (0, 512, 0)
    assert [one.to_wire() for one in read.options] == [subnet_of(host).to_wire()]
    assert told[:10] == plain[:10]
    assert told[12 : len(plain)] == plain[12:]
    assert bytes(undo(told, RECORD)) == plain + tail


@given(NAMES, HOSTS, OTHERS, st.sampled_from([0, dns.flags.DO]), st.integers(512, 4096), TAILS)
def test_a_query_with_edns_gains_an_option(name, host, others, flags, payload, tail):
    """A query with EDNS gains the option behind its own ones; size, flags and these stay, and all comes off again."""
    plain = make(name, "AAAA", flags, others, payload)
    told, gained = added(plain + tail, host)
    assert gained == OPTION
    read = dns.message.from_wire(told, ignore_trailing=True)
    before = dns.message.from_wire(plain)
    assert (read.payload, read.ednsflags, read.question) == (before.payload, before.ednsflags, before.question)
    assert [one.to_wire() for one in read.options[:-1]] == [one.to_wire() for one in before.options]
    assert read.options[-1].to_wire() == subnet_of(host).to_wire()
    assert bytes(undo(told, OPTION)) == plain + tail


@given(HOSTS, st.integers(0, 24))
def test_a_clients_own_subnet_is_kept(host, prefix):
    """A query that names a subnet, of no bits too, goes as it is: so its client wants it (RFC 7871, section 7.1.2)."""
    own = dns.edns.ECSOption(host, prefix)
    assert added(make(edns=0, options=[dns.edns.GenericOption(10, b"12345678"), own])) is None


def test_what_is_not_touched():
    """Other opcodes, no question, a signed query, two OPT records and one that is not the last go as they are."""
    plain, edns = make(), make(edns=0)
    assert added(bytes([*plain[:2], plain[2] | 5 << 3, *plain[3:]])) is None
    assert added(plain[:4] + bytes(8)) is None
    tsig = b"\0" + bytes.fromhex("00fa 00ff 00000000 0000")
    assert added(plain[:11] + b"\1" + plain[12:] + tsig) is None
    assert added(edns[:11] + b"\2" + edns[12:] + tsig) is None
    assert added(edns[:11] + b"\2" + edns[12:] + edns[-11:]) is None
    other = bytes.fromhex("c00c 0001 0001 00000000 0004 c0000201")
    assert added(edns[:11] + b"\2" + edns[12:] + other) is None
    assert added(plain[:11] + b"\1" + plain[12:]) is None  # the record that is announced is not there
    assert added(plain[:7] + b"\1" + plain[8:] + edns[-11:]) is None  # an OPT record where answers stand
    assert added(edns[:-2] + b"\0\3" + b"\0\3\0") is None  # options that do not fill it


@given(NAMES, st.lists(st.ip_addresses(v=4).map(str), max_size=12), OTHERS, st.booleans(), HOSTS, st.integers(0, 24))
def test_answers_lose_what_the_query_gained(name, addresses, others, edns, host, scope):
    """After `undo` an answer equals the one to a query without the subnet: records, flags and other options."""
    plain = make(name or ".", edns=0 if edns else None, options=[])
    asked = dns.message.from_wire(plain)
    reply = dns.message.make_response(asked, recursion_available=True)
    if addresses:
        reply.answer = [dns.rrset.from_text(asked.question[0].name, 60, "IN", "A", *addresses)]
        reply.additional = [dns.rrset.from_text(asked.question[0].name, 60, "IN", "AAAA", "2001:db8::1")]
    option_ = subnet_of(host)
    reply.use_edns(0, 0, 1232, options=[*others, dns.edns.ECSOption(host, option_.srclen, min(scope, option_.srclen))])
    wire = reply.to_wire()
    left = bytes(undo(memoryview(bytearray(wire)), OPTION if edns else RECORD))
    read = dns.message.from_wire(left)
    assert subnets(left) == []
    assert (read.question, read.answer, read.additional) == (reply.question, reply.answer, reply.additional)
    assert (read.id, read.flags) == (reply.id, reply.flags)
    if edns:
        assert [one.to_wire() for one in read.options] == [one.to_wire() for one in others]
        assert read.payload == 1232
    else:
        assert read.edns == -1
    assert len(left) < len(wire)


def test_records_behind_the_opt_record():
    """Addresses behind the OPT record move up where they point at nothing that moves; else the answer stays as it is."""
    query = make(edns=0)
    reply = dns.message.make_response(dns.message.from_wire(query))
    reply.use_edns(0, 0, 1232, options=[subnet_of("192.0.2.7")])
    wire = bytearray(reply.to_wire())
    wire[11] = 2
    fine = bytes.fromhex("c00c 0001 0001 0000003c 0004 c0000201")
    left = bytes(undo(wire + fine, RECORD))
    assert dns.message.from_wire(left).additional[0].to_text() == "www.example.net. 60 IN A 192.0.2.1"
    for odd in (
        (0xC000 | len(wire)).to_bytes(2, "big") + fine[2:],  # at itself
        bytes.fromhex("c00c 000f 0001 0000003c 0004 0001 c00c"),  # MX: a name in the data
    ):
        assert bytes(undo(wire + odd, RECORD)) == bytes(wire + odd)


def test_an_extended_rcode_is_not_made_a_success():
    """An answer whose RCODE lies in the record that is taken out (BADVERS) becomes SERVFAIL for a client without EDNS."""
    reply = dns.message.make_response(dns.message.from_wire(make(edns=0)))
    reply.use_edns(0, 0, 1232)
    reply.set_rcode(dns.rcode.BADVERS)
    assert dns.message.from_wire(bytes(undo(reply.to_wire(), RECORD))).rcode() == dns.rcode.SERVFAIL


@given(st.one_of(st.binary(min_size=12, max_size=200), st.tuples(st.just(make(edns=0)), st.integers(0, 43), st.binary(max_size=9)).map(lambda one: one[0][: one[1]] + one[2] + one[0][one[1] :]).filter(lambda one: len(one) >= 12)), HOSTS)  # fmt: skip
def test_any_message_is_harmless(message, host):
    """U13: no octets raise an exception; an addition can be removed again, and removal never makes a message longer."""
    told = added(message, host)
    if told is not None:
        assert bytes(undo(told[0], told[1])) == message
    for gained in (RECORD, OPTION):
        left = undo(message, gained)
        assert len(left) <= len(message)
        if len(left) == len(message):
            assert bytes(left) == message or gained == OPTION
