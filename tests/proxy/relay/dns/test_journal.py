"""Queries in flight, kept where they outlive their worker."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.dns import journal
from proxy.relay.dns.journal import ROOM, SLOT_SIZE, SLOTS, Entry, Journal

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
    assert writer.note(0, CLIENTS[0], bytes(ROOM)) == -1
    kept = {writer.note(0, CLIENTS[0], number.to_bytes(2, "big")) for number in range(SLOTS)}
    assert len(kept) == SLOTS
    assert min(kept) >= 0
    assert writer.note(0, CLIENTS[0], b"one more") == -1
    assert len(list(journal.entries(fd))) == SLOTS
    writer.close()


def test_it_cannot_shrink_below_its_reader(fd):
    """The memory is sealed: a worker cannot pull it from under the one that reads it."""
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 4096)


def test_a_name_in_place_of_an_address_is_passed_over(fd):
    """What a dead worker left is not trusted: a host would be looked up, and block; a port beyond all is no port."""
    writer = Journal(fd)
    writer.note(0, ("www.example.net", 53), b"x")
    writer.note(0, ("192.0.2.1", 70000), b"x")
    writer.note(0, ("fe80::1", 53, 0, 1 << 32), b"x")
    writer.note(0, ("192.0.2.1", 53), b"y")
    assert [entry.message for entry in journal.entries(fd)] == [b"y"]
    writer.close()


@given(st.binary(max_size=200), st.integers(-(2**63), 2**63 - 1))
def test_any_slot_is_harmless(noise, length):
    """Whatever octets and length a worker left in a slot, reading yields entries or passes over it."""
    made = journal.create()
    try:
        os.pwrite(made, length.to_bytes(8, "little", signed=True) + noise, SLOT_SIZE)
        for entry in journal.entries(made):
            assert isinstance(entry, Entry)
    finally:
        os.close(made)
