"""The connection between two hosts, on loopback addresses."""

import asyncio
import datetime as dt
import itertools
import socket
import ssl

import pytest

from proxy.peer import tls, transport
from proxy.peer.certificates import make
from proxy.peer.framing import LARGEST, frame
from proxy.peer.transport import Ends, Events, Transport

NOW = dt.datetime.now(dt.UTC)
CERTIFICATES = {name: make(name, NOW) for name in ("lb1", "lb2", "strange")}
ADDRESSES = {"lb1": "127.0.0.61", "lb2": "127.0.0.62"}
NUMBERS = itertools.count()


class Host:
    """One host: its transport, and what it reports."""

    def __init__(self, node: str, port: int, own: str | None = None, peer: str | None = None) -> None:
        other = "lb2" if node == "lb1" else "lb1"
        self.ups: list[int] = []
        self.downs: list[tuple[str, bool]] = []
        self.got: list[bytes] = []
        self.busy = False
        self.number = 0
        self.listener = socket.create_server((ADDRESSES[node], port))
        ends = Ends(
            node, other, ADDRESSES[node], ADDRESSES[other], port, CERTIFICATES[own or node].secret,
            CERTIFICATES[peer or other].public,
        )  # fmt: skip
        self.transport = Transport(
            ends, self.listener, Events(self._up, self._down, self._message, lambda: self.busy, self._broken)
        )

    def _up(self, number: int) -> None:
        self.ups.append(number)
        self.number = number

    def _down(self, number: int, why: str, refused: bool) -> None:
        self.downs.append((why, refused))
        if number:
            self.number = 0

    def _broken(self, error: BaseException) -> None:
        raise error

    def _message(self, number: int, payload: bytes) -> None:
        assert number == self.number
        self.got.append(payload)


@pytest.fixture
async def start(monkeypatch):
    """Return a function that starts a host; it is ended afterwards."""
    monkeypatch.setattr("proxy.peer.link.FIRST_PAUSE", 0.05)
    monkeypatch.setattr(transport, "PATIENCE", 0.3)
    hosts = []
    with socket.create_server(("127.0.0.61", 0)) as probe:
        port = probe.getsockname()[1]

    def begin(node, **certificates):
        hosts.append(Host(node, port, **certificates))
        hosts[-1].transport.start()
        return hosts[-1]

    yield begin
    for host in hosts:
        await host.transport.close()
        host.listener.close()


async def until(condition):
    """Wait until something is true."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - whatever it is
            await asyncio.sleep(0.01)


async def test_two_hosts_talk(start):
    """Two hosts have one connection, and messages arrive whole and in order in both directions."""
    a, b = start("lb1"), start("lb2")
    await until(lambda: a.number and b.number)
    sent = [b"x", b"y" * LARGEST, b"z"]
    for one in sent:
        a.transport.send(a.number, one)
        b.transport.send(b.number, one)
    a.transport.send(a.number + 7, b"of another connection")
    await until(lambda: len(a.got) == len(b.got) == 3)
    assert a.got == b.got == sent
    await asyncio.sleep(0.5)
    assert (len(a.ups), len(b.ups)) == (1, 1)


async def test_the_greater_name_connects_if_nobody_comes(start, monkeypatch):
    """If the host that connects cannot, as behind a firewall, the other one does after a while."""
    a = start("lb1")
    monkeypatch.setattr(asyncio, "open_connection", _only_from("127.0.0.62", asyncio.open_connection))
    b = start("lb2")
    await until(lambda: a.number and b.number)
    assert a.downs[0] == ("connection refused: no daemon listens there", False)


def _only_from(address, connect):
    async def only(*args, local_addr, **more):
        if local_addr[0] != address:
            raise ConnectionRefusedError
        return await connect(*args, local_addr=local_addr, **more)

    return only


async def test_it_comes_back(start):
    """After the end of a connection there is another one, and a message of the old one goes nowhere."""
    a, b = start("lb1"), start("lb2")
    await until(lambda: a.number and b.number)
    old = b.number
    b.transport.drop(old, "for a test")
    await until(lambda: len(a.ups) == len(b.ups) == 2 and b.number)
    assert ("for a test", False) in b.downs
    b.transport.send(old, b"late")
    b.transport.send(b.number, b"new")
    await until(lambda: a.got)
    assert a.got == [b"new"]


@pytest.mark.parametrize("wrong", ["lb1", "lb2"])
async def test_a_wrong_certificate(start, wrong):
    """A host with another certificate is refused by name, the other one learns why, and no message passes."""
    a, b = (start(node, own="strange" if node == wrong else None) for node in ("lb1", "lb2"))
    right, other = (b, a) if wrong == "lb1" else (a, b)
    await until(lambda: any(refused for _, refused in right.downs) and any(refused for _, refused in other.downs))
    assert ("it has another certificate than peer-certificate", True) in right.downs
    assert any("its peer-certificate is another one" in why for why, _ in other.downs)
    assert a.got == b.got == []
    assert right.ups == []


async def test_a_stranger(start, monkeypatch):
    """A connection from another address is closed before any handshake, and counted."""
    b = start("lb2")
    _, writer = await asyncio.open_connection(*b.listener.getsockname(), local_addr=("127.0.0.63", 0))
    await until(lambda: b.transport.strangers == 1)
    writer.close()
    assert b.ups == []


async def _client(b):
    """Return a connection to b as lb1 would make it."""
    context = tls.context(CERTIFICATES["lb1"].secret, CERTIFICATES["lb2"].public, server=False)
    return await asyncio.open_connection(*b.listener.getsockname(), local_addr=(ADDRESSES["lb1"], 0), ssl=context)


async def test_nonsense(start):
    """A peer with the right certificate that sends nonsense is cut off, with the reason."""
    b = start("lb2")
    _, writer = await _client(b)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: b.downs)
    assert b.downs[0][0].startswith("it sends nonsense: a message of 1195725856 octets")
    assert b.downs[0][1] is True
    writer.close()


async def test_plain_text(start):
    """A client at the peer's address that does not speak TLS is refused."""
    b = start("lb2")
    _, writer = await asyncio.open_connection(*b.listener.getsockname(), local_addr=(ADDRESSES["lb1"], 0))
    writer.write(b"GET / HTTP/1.1\r\n\r\n" * 10)
    await until(lambda: b.downs)
    assert "does not speak our TLS" in b.downs[0][0]
    writer.close()


async def test_silence(start, monkeypatch):
    """A connection on which nothing comes is given up."""
    monkeypatch.setattr(transport, "IDLE", 0.1)
    b = start("lb2")
    _, writer = await _client(b)
    await until(lambda: b.downs)
    assert b.downs[0] == ("no answer", False)
    writer.close()


async def test_a_flood(start, monkeypatch):
    """A peer that sends faster than it may is read more slowly, and not at all while the master is behind."""
    monkeypatch.setattr(transport, "RATE", 50)
    b = start("lb2")
    _, writer = await _client(b)
    await until(lambda: b.number)
    writer.write(frame(b"x") * 1000)
    await asyncio.sleep(0.5)
    assert 20 < len(b.got) < 120
    b.busy = True
    await asyncio.sleep(0.1)
    before = len(b.got)
    await asyncio.sleep(0.2)
    assert len(b.got) <= before + 1
    writer.transport.abort()


async def test_a_peer_that_does_not_read(start, monkeypatch):
    """A peer that does not read is cut off when too much waits for it."""
    monkeypatch.setattr(transport, "UNREAD", 100_000)
    b = start("lb2")
    reader, writer = await _client(b)
    reader._transport.pause_reading()
    await until(lambda: b.number)
    async with asyncio.timeout(5):
        while not b.downs:
            b.transport.send(b.number, b"x" * LARGEST)
            await asyncio.sleep(0)
    assert b.downs[0][0].startswith("it does not read")
    writer.transport.abort()


def test_what_cannot_be_used():
    """A transport is not made from certificates that cannot work."""
    ends = Ends("lb1", "lb2", "127.0.0.1", "127.0.0.2", 1, CERTIFICATES["lb1"].secret, CERTIFICATES["lb1"].public)
    with socket.socket() as listener, pytest.raises((tls.PairCertificateError, ssl.SSLError)):
        Transport(ends, listener, Events(lambda _: None, lambda *_: None, lambda *_: None, lambda: False, print))
    assert "PRIVATE" not in repr(ends)
