"""Queries in flight, kept where they outlive their worker."""

import ipaddress
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.dns import journal
from proxy.relay.dns.journal import AREA, ROOM, SIZE, Entry, Journal

CLIENTS = [
    ("192.0.2.1", 5353),
    ("2001:db8::1", 5353, 0, 0),
    ("fe80::1", 5353, 0, 3),
    ("192.0.2.1", 5353, bytes(range(12))),
    ("2001:db8::1", 5353, 0, 0, bytes(20)),
    ("fe80::1", 1, 0, 2, b"\0" * 20),
]


@pytest.fixture
def fd():
    """An empty journal."""
    made = journal.create()
    yield made
    os.close(made)


@pytest.mark.parametrize("client", CLIENTS)
def test_what_is_noted_is_read(fd, client):
    """A query comes back with its listener, its client as the socket names it, and every octet, zeros too."""
    writer = Journal(fd)
    message = b"\0\x01\0zero\0octets\0"
    assert writer.note(3, client, message) >= 0
    assert list(journal.entries(fd)) == [Entry(3, client, message)]
    assert journal.used(fd)
    writer.close()


def test_cleared_is_gone_and_used_again(fd):
    """A cleared slot is free, and the next query takes one without touching the others."""
    writer = Journal(fd)
    slots = [writer.note(0, CLIENTS[0], bytes([number])) for number in range(3)]
    writer.clear(slots[1])
    assert [entry.message for entry in journal.entries(fd)].count(b"\x01") == 0
    writer.note(0, CLIENTS[0], b"new")
    assert sorted(entry.message for entry in journal.entries(fd)) == [b"\0", b"\x02", b"new"]
    for slot in (*slots[::2], slots[1]):
        writer.clear(slot)
    assert not journal.used(fd)
    writer.close()


def test_full_and_too_large_cost_only_safety(fd):
    """A full journal, or a message that does not fit, gives -1, and earlier entries stay."""
    writer = Journal(fd)
    assert writer.note(0, CLIENTS[0], bytes(ROOM + 1)) == -1
    kept = {writer.note(0, CLIENTS[0], number.to_bytes(2, "big")) for number in range(AREA // SIZE)}
    assert len(kept) == AREA // SIZE
    assert min(kept) >= 0
    assert writer.note(0, CLIENTS[0], b"one more") == -1
    assert len(list(journal.entries(fd))) == AREA // SIZE
    writer.close()


def test_it_cannot_shrink_below_its_reader(fd):
    """The memory is sealed: a worker cannot pull it from under the one that reads it."""
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 4096)


@pytest.mark.parametrize("host", ["www.example.net", "192.0.2.1.example", ""])
def test_a_name_is_not_noted(fd, host):
    """Only addresses are noted: a name would have to be looked up, which blocks."""
    writer = Journal(fd)
    with pytest.raises(OSError, match="illegal IP address"):
        writer.note(0, (host, 53), b"x")
    assert not journal.used(fd)
    writer.close()


@pytest.mark.parametrize("client", CLIENTS)
@given(at=st.integers(0, 80), octet=st.integers(0, 255))
def test_a_damaged_slot_is_harmless(client, at, octet):
    """What a dead worker left is not trusted: with any octet changed, a slot gives an address of an IP family, or nothing."""
    made = journal.create()
    writer = Journal(made)
    try:
        writer.note(3, client, b"message")
        os.pwrite(made, bytes([octet]), at)
        for entry in journal.entries(made):
            host, port, *rest = entry.client
            assert ipaddress.ip_address(host)
            assert 0 <= port < 65536
            assert len(rest) <= 3
            assert all(0 <= number < 1 << 32 for number in rest if not isinstance(number, bytes))
            assert len(entry.message) <= ROOM
    finally:
        writer.close()
        os.close(made)


@given(st.binary(max_size=200), st.integers(-(2**63), 2**63 - 1))
def test_any_slot_is_harmless(noise, length):
    """Whatever octets and length a worker left in a slot, reading yields entries or passes over it."""
    made = journal.create()
    try:
        os.pwrite(made, length.to_bytes(8, "little", signed=True) + noise, SIZE)
        for entry in journal.entries(made):
            assert isinstance(entry, Entry)
    finally:
        os.close(made)
