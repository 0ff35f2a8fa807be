"""Connections of an address that is given up are reset while the RST can still leave."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.e2e.bed import Bed
from vrrp import reset
from vrrp.reset import Resets, reset_connections

PLACES = (("198.51.100.10", "198.51.100.2"), ("2001:db8:1::10", "2001:db8:1::2"))  # the virtual address, the host's own


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make a server with a virtual and an own address, and a client."""
    with Bed() as made:
        made.lan("wire")
        made.host("server")
        made.attach("server", "wire", *(f"{one}/{64 if ':' in one else 24}" for pair in PLACES for one in pair))
        made.host("client")
        made.attach("client", "wire", "198.51.100.3/24", "2001:db8:1::3/64")
        yield made


def listen(bed, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = bed.socket("server", family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind((address, 53))
    server.listen(64)
    return server


def connect(bed, server, address):
    client = bed.socket("client", socket.AF_INET6 if ":" in address else socket.AF_INET)
    client.settimeout(3)
    client.connect((address, 53))
    accepted, _ = server.accept()
    return client, accepted


@pytest.mark.parametrize(("virtual", "own"), PLACES)
async def test_reset_and_no_other(bed, virtual, own):
    """V22: clients of the address get an RST; clients of another address and the listening socket are not affected."""
    server, other = listen(bed, virtual), listen(bed, own)
    pairs = [connect(bed, server, virtual) for _ in range(20)]
    kept, kept_here = connect(bed, other, own)
    with bed.inside("server"):
        assert await reset_connections(virtual) == 20
    for client, accepted in pairs:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with contextlib.suppress(OSError):
            accepted.close()
    kept_here.sendall(b"x")
    assert kept.recv(1) == b"x"
    client, accepted = connect(bed, server, virtual)
    accepted.sendall(b"y")
    assert client.recv(1) == b"y"
    accepted.close()
    kept_here.close()


async def test_a_link_local_address_is_of_one_interface(bed):
    """V22, V25: if two interfaces have the same link-local address, only the connections through one of them are reset."""
    bed.lan("second")
    for number, host in ((2, "server"), (3, "client")):
        bed.attach(host, "second", f"203.0.113.{number}/24")
    pairs = []
    for name in ("eth0", "eth1"):
        bed.ip("server", f"addr add fe80::10/64 dev {name} nodad")
        index = {host: interface(bed, host, name) for host in ("server", "client")}
        server = bed.socket("server", socket.AF_INET6)
        server.bind(("fe80::10", 53, 0, index["server"]))
        server.listen(8)
        client = bed.socket("client", socket.AF_INET6)
        client.settimeout(3)
        client.connect(("fe80::10", 53, 0, index["client"]))
        pairs.append((client, server.accept()[0], index["server"]))
        server.close()
    (gone, there, index), (kept, here, _) = pairs
    with bed.inside("server"):
        assert await reset_connections("fe80::10", index) == 1
    with pytest.raises(ConnectionResetError):
        gone.recv(1)
    here.sendall(b"x")
    assert kept.recv(1) == b"x"
    with contextlib.suppress(OSError):
        there.close()
    here.close()


def interface(bed, host, name):
    with bed.inside(host):
        return socket.if_nametoindex(name)


async def test_ipv4_on_a_dual_socket(bed):
    """V22: an IPv4 connection that an IPv6 socket has accepted counts for the IPv4 address."""
    virtual = PLACES[0][0]
    server = listen(bed, "::")
    client, accepted = connect(bed, server, virtual)
    with bed.inside("server"):
        assert await reset_connections("198.51.100.2") == 0
        assert await reset_connections(virtual) == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    accepted.close()


async def test_many_hold_nobody_up(bed):
    """V17, V22: while 2,000 connections are reset, other tasks run after every 128 of them."""
    virtual = PLACES[0][0]
    server = listen(bed, virtual)
    pairs = [connect(bed, server, virtual) for _ in range(2000)]
    turns = 0

    async def watch():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    with bed.inside("server"):
        assert await reset_connections(virtual) == 2000
    watcher.cancel()
    assert turns >= 2000 // 128
    for _, accepted in pairs:
        accepted.close()


async def test_many_routers_share_one_listing(bed, monkeypatch):
    """V17, V22: routers that leave together have their connections reset together; one that returns keeps its own."""
    addresses = [f"198.51.100.{number}" for number in range(20, 40)]
    bed.ip("server", *(f"addr add {one}/32 dev eth0" for one in addresses))
    pairs = {one: connect(bed, listen(bed, one), one) for one in addresses}
    kept = addresses[0]
    listings = []

    async def counting(family, places):
        listings.append(family)
        return await real(family, places)

    real = reset._connections
    monkeypatch.setattr(reset, "_connections", counting)
    resets = Resets()
    with bed.inside("server"):
        counts = await asyncio.gather(
            *(resets.of([ip_address(one)], 2, lambda one=one: one != kept) for one in addresses)
        )
    assert counts == [0] + [1] * 19
    assert len(listings) == 2
    for one, (client, accepted) in pairs.items():
        if one == kept:
            accepted.sendall(b"x")
            assert client.recv(1) == b"x"
        else:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        with contextlib.suppress(OSError):
            accepted.close()
