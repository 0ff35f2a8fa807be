"""The demo's embedded servers."""

import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.backend import _named, answer


def test_the_name_of_the_server_is_its_answer() -> None:
    """A query below the demo's zone is answered with a TXT record that names the server."""
    query = dns.message.make_query("host1.demo.example", "TXT")
    wire = answer(query.to_wire(), "ns1")
    assert wire is not None
    reply = dns.message.from_wire(wire)
    assert reply.id == query.id
    assert str(reply.answer[0][0]) == '"ns1"'


@pytest.mark.parametrize(
    ("name", "told"), [("ns1", "ns1"), ("{peer}", "10.0.0.2"), ("ns1 to {peer}", "ns1 to 10.0.0.2")]
)
def test_a_name_may_tell_who_asked(name: str, told: str) -> None:
    """{peer} in a server's name stands for the address that the query came from."""
    assert _named(name, ("10.0.0.2", 4711)) == told


def test_other_zones_are_refused() -> None:
    """A query for anything else is REFUSED, as an authoritative server does."""
    wire = answer(dns.message.make_query("www.example.net", "A").to_wire(), "ns1")
    assert wire is not None
    assert dns.message.from_wire(wire).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("wire", [b"", b"\0" * 11, b"\0" * 12])
def test_what_is_no_query_gets_no_answer(wire: bytes) -> None:
    """Short datagrams and messages without a question are dropped."""
    assert answer(wire, "ns1") is None


@given(st.binary(max_size=512))
def test_random_bytes_are_harmless(wire: bytes) -> None:
    """Whatever bytes come, there is an answer or none, never an exception."""
    reply = answer(wire, "ns1")
    assert reply is None or reply[:2] == wire[:2]
