"""Raw sockets of VRRP between two hosts: which packets leave, and which arrive."""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.bed import Bed
from tests.e2e.process import until
from vrrp.sockets import GROUPS, PROTOCOL, Frames, Port

ADDRESSES = {4: ("198.51.100.2", "198.51.100.3"), 6: ("fe80::2", "fe80::3")}


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make two hosts on a LAN, with known link-local addresses."""
    with Bed() as made:
        made.lan("wire")
        for number, name in enumerate(("a", "b"), 2):
            made.host(name)
            made.attach(name, "wire", f"198.51.100.{number}/24", f"fe80::{number}/64")
        for name in ("a", "b"):  # until the kernel has seen the carrier, IPv6 drops multicast silently
            until(
                lambda name=name: " UP " in made.run(name, ["ip", "-br", "link", "show", "eth0"]).stdout, 5, "a carrier"
            )
        yield made


class Ends:
    """A port on each host, and the packets that each has received."""

    def __init__(self, bed, version):
        self.counters = Counter()
        self.got = {"a": [], "b": []}
        self.ports = {}
        for name in self.got:
            with bed.inside(name):
                self.ports[name] = Port("eth0", version, self.got[name].append, self.counters)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for port in self.ports.values():
            port.close()

    async def arrived(self, name, count=1):
        """Return the received packets, when there are that many."""
        for _ in range(400):
            if len(self.got[name]) < count:
                await asyncio.sleep(0.005)
        return self.got[name]


@pytest.mark.parametrize("version", [4, 6])
async def test_multicast_arrives_with_ttl_255(bed, version):
    """V2: an advert goes to the group from the given address, with TTL or hop limit 255, and not back to its sender."""
    ours, _ = ADDRESSES[version]
    with Ends(bed, version) as ends:
        assert ends.ports["a"].send(b"some advert", ours, GROUPS[version])
        (packet,) = await ends.arrived("b")
        assert (packet.source, packet.destination, packet.ttl, packet.data) == (
            ours,
            GROUPS[version],
            255,
            b"some advert",
        )
        assert packet.multicast
        await asyncio.sleep(0.05)
        assert ends.got["a"] == []


@pytest.mark.parametrize("version", [4, 6])
async def test_unicast_arrives_with_ttl_255(bed, version):
    """V2: a unicast advert arrives at the peer with TTL or hop limit 255, and is recognised as unicast."""
    ours, theirs = ADDRESSES[version]
    with Ends(bed, version) as ends:
        assert ends.ports["a"].send(b"some advert", ours, theirs)
        (packet,) = await ends.arrived("b")
        assert (packet.source, packet.destination, packet.ttl, packet.multicast) == (ours, theirs, 255, False)


@pytest.mark.parametrize("version", [4, 6])
async def test_a_low_ttl_is_seen(bed, version):
    """V1: the TTL or hop limit of a packet is reported unchanged, so that a forwarded packet can be dropped."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    _, theirs = ADDRESSES[version]
    sender = bed.socket("a", family, socket.SOCK_RAW, PROTOCOL)
    level, option = (
        (socket.IPPROTO_IP, socket.IP_TTL) if version == 4 else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
    )
    sender.setsockopt(level, option, 254)
    with bed.inside("a"):
        index = socket.if_nametoindex("eth0")
    with Ends(bed, version) as ends:
        sender.sendto(b"\x31\x01", (theirs, 0) if version == 4 else (theirs, 0, 0, index))
        (packet,) = await ends.arrived("b")
        assert packet.ttl == 254


async def test_bad_checksums_reach_us(bed):
    """V1: the kernel drops no IPv6 advert for its checksum, so the daemon can count it."""
    with Ends(bed, 6) as ends:
        ends.ports["a"].send(bytes(40), "fe80::2", GROUPS[6])
        (packet,) = await ends.arrived("b")
        assert packet.data == bytes(40)


async def test_nothing_blocks_or_raises(bed):
    """A packet that cannot be sent or is too long is counted, whether the source, the link or the size is wrong."""
    with Ends(bed, 4) as ends:
        port = ends.ports["a"]
        assert not port.send(b"x", "198.51.100.99", GROUPS[4])  # not an address of this host
        bed.link("a", "wire", up=False)
        assert not port.send(b"x", "198.51.100.2", GROUPS[4])
        bed.link("a", "wire", up=True)
        assert ends.counters["send_failed"] == 2
        raw = bed.socket("b", socket.AF_INET, socket.SOCK_RAW, PROTOCOL)
        raw.sendto(bytes(9000), ("198.51.100.2", 0))
        port.send(b"still here", "198.51.100.2", "198.51.100.3")
        await ends.arrived("b")
        assert ends.counters["too_long"] == 1


async def test_survives_the_link_going_down_and_up(bed):
    """V13: a port receives multicast again after its link was down."""
    with Ends(bed, 4) as ends:
        bed.link("b", "wire", up=False)
        await asyncio.sleep(0.05)
        bed.link("b", "wire", up=True)
        async with asyncio.timeout(3):
            while not ends.got["b"]:
                ends.ports["a"].send(b"x", "198.51.100.2", GROUPS[4])
                await asyncio.sleep(0.02)


async def test_announcements_leave_as_they_are(bed):
    """V8: the interface sends a frame unchanged."""
    frame = b"\xff" * 6 + b"\x02" * 6 + struct.pack("!H", 0x88B5) + b"some announcement".ljust(46, b"\0")
    with bed.inside("b"):
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    with bed.inside("a"):
        frames = Frames()
    listener.settimeout(0.1)
    for _ in range(50):  # the bridge may not forward yet
        assert frames.send("eth0", frame) == ""
        with contextlib.suppress(TimeoutError):
            assert listener.recv(2000) == frame
            break
    else:
        pytest.fail("no frame arrived")
    bed.link("a", "wire", up=False)
    assert frames.send("eth0", frame) == "send_failed"
    frames.close()
    listener.close()
