"""Announcements as frames."""

import struct
from ipaddress import ip_address
from random import Random

import pytest

from vrrp import arp
from vrrp.arp import GratuitousArp, NeighbourAdvertisement

MAC = bytes.fromhex("020000000001")
IPV4, IPV6 = ip_address("198.51.100.10"), ip_address("2001:db8::10")
ARP = bytes.fromhex("ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 c633640a 000000000000 c633640a")


def slow_checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_gratuitous_arp():
    """V8: a gratuitous ARP is, to the octet, an ARP request to everybody of the address for itself (RFC 5227)."""
    assert arp.build(GratuitousArp(IPV4, MAC)) == ARP


def test_neighbour_advertisement():
    """V8: an unsolicited advertisement goes to all nodes with hop limit 255, R=1 S=0 O=1, its MAC and a right checksum."""
    frame = arp.build(NeighbourAdvertisement(IPV6, MAC))
    group = ip_address("ff02::1").packed
    assert frame[:14].hex() == "333300000001" + MAC.hex() + "86dd"
    assert frame[14:22].hex() == "60000000" + "0020" + "3a" + "ff"
    assert frame[22:54] == IPV6.packed + group
    message = frame[54:]
    assert (message[:2] + message[4:]).hex() == "8800" + "a0000000" + IPV6.packed.hex() + "0201" + MAC.hex()
    assert slow_checksum(IPV6.packed + group + struct.pack("!II", len(message), 58) + message) == 0


@pytest.mark.parametrize("flags", range(8))
def test_round_trip(flags):
    """V8: announcements come back equal, padded by an Ethernet or not, whatever their flags."""
    advertisement = NeighbourAdvertisement(IPV6, MAC, bool(flags & 1), bool(flags & 2), bool(flags & 4))
    for one in (GratuitousArp(IPV4, MAC), advertisement):
        assert arp.parse(arp.build(one)) == arp.parse(arp.build(one) + bytes(18)) == one


def test_reply_form():
    """V8: others announce in replies, and those are read as well; an ordinary question is no announcement."""
    assert arp.parse(ARP[:21] + b"\2" + ARP[22:]) == GratuitousArp(IPV4, MAC)
    assert arp.parse(ARP[:-1] + b"\x0b") is None


def test_virtual_mac():
    """V8: the virtual MAC ends in the VRID, with 01 before it for IPv4 and 02 for IPv6."""
    assert arp.virtual_mac(51, 4).hex("-") == "00-00-5e-00-01-33"
    assert arp.virtual_mac(255, 6).hex("-") == "00-00-5e-00-02-ff"


def test_random_frames():
    """V8: truncated, changed and random frames give an announcement or nothing; a changed advertisement is nothing."""
    random = Random(8)
    frames = [ARP, arp.build(NeighbourAdvertisement(IPV6, MAC))]
    for frame in frames:
        assert all(arp.parse(frame[:length]) is None for length in range(len(frame)))
    for at in range(14, len(frames[1])):
        changed = frames[1][:at] + bytes((frames[1][at] ^ 0x10,)) + frames[1][at + 1 :]
        assert arp.parse(changed) is None or at in {15, 16, 17}  # the flow label is nobody's business
    for _ in range(20_000):
        frame = random.choice(frames)
        noise = frame[: random.randrange(len(frame))] + random.randbytes(random.randrange(80))
        assert arp.parse(noise) is None or len(noise) >= 42
