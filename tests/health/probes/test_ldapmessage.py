"""LDAP messages: requests as RFC 4511 writes them, answers of OpenLDAP and Active Directory, and any bytes."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.probes import ldapmessage as wire
from health.probes.ldapmessage import Aside, Entry, Malformed, Result

BOUND = bytes.fromhex("300c02010261070a010004000400")
BASE = "dc=example,dc=net"


def long_form(data: bytes) -> bytes:
    """Return one element with its length in four octets, as Active Directory writes all of them."""
    return data[:1] + b"\x84" + len(data[2:]).to_bytes(4, "big") + data[2:]


def element(tag: int, *parts: bytes) -> bytes:
    """Return a BER element."""
    data = b"".join(parts)
    size = len(data)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + data


def result(tag: int, code: int, text: bytes = b"", *rest: bytes, ident: int = 1) -> bytes:
    """Return a message with a result."""
    operation = element(tag, element(0x0A, bytes([code])), element(4), element(4, text), *rest)
    return element(0x30, element(2, bytes([ident])), operation)


def test_bind() -> None:
    """H9: an anonymous bind has neither name nor password, a simple one both, the password as it is."""
    assert wire.bind(1) == bytes.fromhex("300c020101600702010304008000")
    bound = wire.bind(1, "cn=a", "pä".encode())
    assert bound == element(0x30, b"\2\1\1", element(0x60, b"\2\1\3", element(4, b"cn=a"), element(0x80, b"p\xc3\xa4")))


def test_start_tls_and_unbind() -> None:
    """H9: StartTLS is an extended request with its OID, an unbind an empty one."""
    assert wire.start_tls(1) == element(0x30, b"\2\1\1", element(0x77, element(0x80, b"1.3.6.1.4.1.1466.20037")))
    assert wire.unbind(5) == bytes.fromhex("3005020105 4200".replace(" ", ""))


def test_search() -> None:
    """H9: a search carries base, scope, limit, filter and attributes; without any it asks for none ("1.1")."""
    read = wire.search(3, BASE, "(objectClass=*)", (), below=False, most=1)
    head = element(4, BASE.encode())
    tail = element(0x87, b"objectClass") + element(0x30, element(4, b"1.1"))
    fixed = b"\x0a\1\0\x0a\1\0\2\1\1\2\1\0\1\1\0"
    assert read == element(0x30, b"\2\1\3", element(0x63, head, fixed, tail))
    below = wire.search(3, BASE, "(&(uid=p*)(!(cn=a\\2ab)))", ("contextCSN",), below=True, most=7)
    assert b"\x0a\1\2\x0a\1\0\2\1\7" in below
    assert b"a*b" in below
    assert below.endswith(element(0x30, element(4, b"contextCSN")))


@pytest.mark.parametrize("text", ["uid=a", "(uid=a", "()", "(&)(", "(uid)", ""])
def test_filter_that_is_none(text: str) -> None:
    """H9: a text that is not a filter is refused, with a reason, before any probe runs."""
    with pytest.raises(ValueError, match="is not an LDAP filter"):
        wire.search(3, BASE, text, (), below=True, most=1)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", None),
        (b"\x30", None),
        (BOUND, 14),
        (BOUND[:5], 14),
        (b"\x30\x84\x00\x00", None),
        (b"\x30\x84\x00\x00\x00\x10", 22),
        (b"\x30\x83\xff\xff\xff", 5 + 0xFFFFFF),
    ],
)
def test_size(data: bytes, size: int | None) -> None:
    """The size of a message is known from its first bytes, in the short form and in Active Directory's long one."""
    assert wire.size(data) == size


@pytest.mark.parametrize("data", [b"220 mail", b"\x16\x03", b"\x30\x80", b"\x30\x85\0\0\0\0\1", b"\x30\xff"])
def test_size_of_what_is_no_message(data: bytes) -> None:
    """H4: other protocols, indefinite lengths and lengths beyond four octets are no LDAP."""
    with pytest.raises(Malformed):
        wire.size(data)


def test_results() -> None:
    """H9: results of a bind, a search and an extended request are read, with text, referrals and name."""
    assert wire.read(BOUND) == Result(2, wire.BIND_RESPONSE, 0)
    uri = b"ldap://192.0.2.7/"
    referred = element(0xA3, element(4, uri))
    for tag in (wire.BIND_RESPONSE, wire.SEARCH_DONE, wire.EXTENDED_RESPONSE):
        assert wire.read(result(tag, 10, b"no", referred)) == Result(1, tag, 10, b"no", (uri,))
    named = element(0x8A, wire.DISCONNECTION.encode())
    farewell = wire.read(result(wire.EXTENDED_RESPONSE, 52, b"bye", named, ident=0))
    assert farewell == Result(0, wire.EXTENDED_RESPONSE, 52, b"bye", (), wire.DISCONNECTION)


def test_entries_and_asides() -> None:
    """H9: entries with their attributes, references and intermediate answers are told apart."""
    csn = element(0x30, element(4, b"contextCSN"), element(0x31, element(4, b"a"), element(4, b"b")))
    entry = element(0x30, b"\2\1\3", element(0x64, element(4, BASE.encode()), element(0x30, csn)))
    assert wire.read(entry) == Entry(3, BASE.encode(), {"contextcsn": (b"a", b"b")})
    bare = element(0x30, b"\2\1\3", element(0x64, element(4, BASE.encode()), element(0x30)))
    assert wire.read(bare) == Entry(3, BASE.encode(), {})
    assert wire.read(element(0x30, b"\2\1\3", element(0x73, element(4, b"ldap://x")))) == Aside(3, (b"ldap://x",))
    assert wire.read(element(0x30, b"\2\1\3", element(0x79))) == Aside(3)


def test_active_directory() -> None:
    """H9: Active Directory writes every length in four octets (haproxy issue 1390), which reads the same."""
    operation = long_form(bytes.fromhex("61070a010004000400"))
    message = long_form(b"\x30\0" + b"\2\1\1" + operation)
    assert message.hex() == "308400000010020101618400000007" + "0a010004000400"
    assert wire.size(message) == len(message)
    assert wire.read(message) == Result(1, wire.BIND_RESPONSE, 0)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """S9: of any bytes whatever, size and read make a message or say that they are none."""
    for step in (wire.size, wire.read):
        with contextlib.suppress(Malformed):
            step(data)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 59), st.integers(0, 255))
def test_any_damage(tail: bytes, at: int, byte: int) -> None:
    """S9: a message damaged anywhere is read or refused, never anything else."""
    whole = bytearray(result(wire.SEARCH_DONE, 10, b"text", element(0xA3, element(4, tail))))
    whole[at % len(whole)] = byte
    with contextlib.suppress(Malformed):
        wire.read(bytes(whole))


def test_parts_beyond_the_whole() -> None:
    """S9: a part that claims to be longer than its message is refused, not cut."""
    whole = bytearray(result(wire.SEARCH_DONE, 0, b"text"))
    whole[6] += 1
    with pytest.raises(Malformed, match="its parts are longer than the whole"):
        wire.read(bytes(whole))


def test_deep_nesting() -> None:
    """H4: nesting without end is refused, not followed."""
    data = b""
    for _ in range(3000):
        data = element(0x30, data)[:16000]
    with pytest.raises(Malformed):
        wire.read(element(0x30, b"\2\1\1", element(0x65, data)))


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (b"19700101000001.000000Z#000000#000#000000", 1.0),
        (b"20261122184512.500000Z#000000#001#000000", 1795373112.5),
        (b"20261122184512Z#000000#00#000000", 1795373112.0),
    ],
)
def test_csn(value: bytes, time: float) -> None:
    """H9: a contextCSN begins with its time in UTC, to the microsecond."""
    assert wire.csn_time(value) == time


@pytest.mark.parametrize(
    "value", [b"", b"20261122184512Z", b"20261322184512.5Z#000000#001#000000", b"x#y#z", b"2026112218451\xb2Z#0#0#0"]
)
def test_csn_that_is_none(value: bytes) -> None:
    """H9: a value that is not a change sequence number is refused."""
    with pytest.raises(Malformed):
        wire.csn_time(value)
