"""Tests of the first look at a connection, without a network."""
# ruff: noqa: D102 - the methods of a transport

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.web import gate
from proxy.web.gate import HEAD_SIZE, Gate


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, peer):
        super().__init__()
        self.peer, self.written, self.closed, self.aborted = peer, b"", False, False

    def get_extra_info(self, name, default=None):
        return self.peer if name == "peername" else default

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = self.aborted = True

    def is_closing(self):
        return self.closed


class Inner(asyncio.Protocol):
    """Keeps what is read."""

    def __init__(self):
        self.data = b""

    def data_received(self, data):
        self.data += data


@pytest.fixture
async def made():
    return []


@pytest.fixture
async def doors(made):
    def inner():
        made.append(Inner())
        return made[-1]

    return Gate(inner, ["10.0.0.0/8", "fe80::/10"])


def enter(doors, peer=("10.0.0.1", 1)):
    door, transport = doors(), Transport(peer)
    door.connection_made(transport)
    return door, transport


@pytest.mark.parametrize(
    ("peer", "let_in"),
    [(("10.1.2.3", 1), True), (("11.0.0.1", 1), False), (("fe80::1%eth0", 1, 0, 2), True), (("::1", 1, 0, 0), False), (None, False), ("", False)],
)  # fmt: skip
async def test_whoever_is_allowed(doors, peer, let_in):
    """S3: an address is let in if a network of its version has it, also a link-local one; without an address nobody is."""
    door, transport = enter(doors, peer)
    assert (doors.refused["not_allowed"] == 0) is let_in
    door.data_received(b"x")
    assert transport.closed is not let_in
    door.connection_lost(None)
    assert (doors.open.total(), doors.turned_away, doors.doors) == (0, 0, set())


async def test_bounds_of_refusals(monkeypatch, doors):
    """S3: strangers that are only to be told 403 are told within a bound, and cut without a word beyond it."""
    monkeypatch.setattr(gate, "MOST_REFUSED", 3)
    entered = [enter(doors, ("192.0.2.1", 1)) for _ in range(5)]
    assert [transport.aborted for _, transport in entered] == [False, False, False, True, True]
    for door, _ in entered:
        door.connection_lost(None)


async def test_one_address_cannot_have_all(monkeypatch, doors):
    """S3: one client has a share of the connections, so that others have room."""
    monkeypatch.setattr(gate, "MOST_OF_ONE", 2)
    entered = [enter(doors) for _ in range(3)] + [enter(doors, ("10.0.0.2", 1))]
    assert doors.refused["too_many"] == 1
    assert doors.open.total() == 3
    for door, _ in entered:
        door.connection_lost(None)


async def test_what_follows_the_head(doors, made):
    """S3: a body is not passed on, and one that is long ends the connection."""
    door, transport = enter(doors)
    door.data_received(b"GET / HTTP/1.1\r\n\r\nbody")
    door.data_received(b"more")
    assert made[0].data == b"GET / HTTP/1.1\r\n\r\n"
    assert not transport.closed
    door.data_received(b"x" * gate.REST)
    assert transport.aborted
    assert doors.refused["body"] == 1
    door.connection_lost(None)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=5000), max_size=8))
def test_any_octets(parts):
    """Invariant: any octets in any parts give the library at most one head of bounded size, or an answer, never an exception."""

    async def feed():
        made = []

        def inner():
            made.append(Inner())
            return made[-1]

        door, transport = enter(Gate(inner, ["10.0.0.0/8"]))
        for part in parts:
            if not transport.closed:
                door.data_received(part)
        assert len(made) <= 1
        if made:
            assert made[0].data.endswith(b"\r\n\r\n")
            assert made[0].data in b"".join(parts)
            assert len(made[0].data) <= HEAD_SIZE + 4
        door.connection_lost(None)

    asyncio.run(feed())
