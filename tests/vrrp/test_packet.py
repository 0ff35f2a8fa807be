"""Adverts: bytes to values and back, and that no bytes at all do harm."""

import dataclasses
import struct
from ipaddress import ip_address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrrp import packet
from vrrp.packet import Advert, Datagram, Drop

SOURCE4, SOURCE6 = ip_address("192.0.2.1"), ip_address("fe80::1")
VIRTUAL4, VIRTUAL6 = ip_address("198.51.100.10"), ip_address("2001:db8::10")
ONE_SECOND = Advert(3, 51, 100, (VIRTUAL4,), 1.0)
V2 = bytes.fromhex("21336401 0001508c c633640a 0000000000000000")
V3_PSEUDO = bytes.fromhex("31336401 00649d98 c633640a")
V3_PLAIN = bytes.fromhex("31336401 00644029 c633640a")
RANDOM_PACKETS = 60_000


def ends(family):
    return (SOURCE4, packet.GROUP4) if family == 4 else (SOURCE6, packet.GROUP6)


def parse(data, family=4, ttl=255, **options):
    return packet.parse(data, *ends(family), ttl, **options)


def slow_checksum(data):
    """RFC 1071 word by word."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def repaired(data, family=4):
    """The same packet with the right checksum, so that what else is wrong with it counts."""
    data = bytearray(data)
    data[6:8] = bytes(2)
    source, destination = ends(family)
    pseudo = data[0] >> 4 == 3 or family == 6
    header = packet.pseudo_header(source, destination, len(data), 112) if pseudo else b""
    data[6:8] = slow_checksum(header + bytes(data)).to_bytes(2, "big")
    return bytes(data)


def changed(data, offset, value, family=4):
    return repaired(data[:offset] + bytes((value,)) + data[offset + 1 :], family)


@pytest.mark.parametrize(
    ("advert", "checksum", "wire"),
    [
        (dataclasses.replace(ONE_SECOND, version=2), "pseudo", V2),
        (ONE_SECOND, "pseudo", V3_PSEUDO),
        (ONE_SECOND, "plain", V3_PLAIN),
    ],
)
def test_octets(advert, checksum, wire):
    """V2: adverts are, to the octet, what was worked out by hand from the RFCs, and parse back; both checksums of v3 count."""
    assert packet.build(advert, *ends(4), checksum=checksum) == wire
    assert parse(wire) == advert


@pytest.mark.parametrize("checksum", ["pseudo", "plain"])
def test_ipv6_checksum(checksum):
    """V2: over IPv6 the pseudo-header is always in the checksum, whatever is configured, and the plain form does not count."""
    wire = packet.build(dataclasses.replace(ONE_SECOND, addresses=(VIRTUAL6,)), *ends(6), checksum=checksum)
    header = SOURCE6.packed + packet.GROUP6.packed + struct.pack("!II", len(wire), 112)
    assert slow_checksum(header + wire) == 0
    plain = wire[:6] + slow_checksum(wire[:6] + bytes(2) + wire[8:]).to_bytes(2, "big") + wire[8:]
    assert parse(plain, 6).reason == "checksum"


def test_v2_over_ipv6_is_keepaliveds():
    """V2: version 2 over IPv6 has a pseudo-header and no authentication data; with such data it counts, too."""
    advert = Advert(2, 51, 100, (VIRTUAL6,), 1.0)
    wire = packet.build(advert, *ends(6))
    assert len(wire) == 8 + 16
    assert parse(wire, 6) == advert
    assert parse(repaired(wire + bytes(8), 6), 6) == advert


@given(
    version=st.sampled_from([2, 3]),
    family=st.sampled_from([4, 6]),
    vrid=st.integers(1, 255),
    priority=st.integers(0, 255),
    numbers=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=255),
    units=st.integers(1, 255),
    checksum=st.sampled_from(["pseudo", "plain"]),
)
def test_round_trip(version, family, vrid, priority, numbers, units, checksum):
    """V2: whatever an advert can say comes back equal, the addresses in their order, the interval exact."""
    offset = 0 if family == 4 else 0x20010DB8 << 96
    addresses = tuple(ip_address(number + offset) for number in numbers) if offset else tuple(map(ip_address, numbers))
    advert = Advert(version, vrid, priority, addresses, units / 100 if version == 3 else float(units))
    assert parse(packet.build(advert, *ends(family), checksum=checksum), family) == advert


def test_longest_interval():
    """V2: version 3 carries up to 40.95 s in 12 bits, version 2 up to 255 s; the reserved bits above are ignored."""
    for version, interval in packet.MAX_INTERVAL.items():
        wire = packet.build(dataclasses.replace(ONE_SECOND, version=version, interval=interval), *ends(4))
        assert parse(wire).interval == interval
        assert parse(changed(wire, 4, wire[4] | 0xF0)).interval == interval


@pytest.mark.parametrize(
    "fields",
    [
        {"interval": 40.96},
        {"interval": 0.001},
        {"interval": 0.0},
        {"version": 2, "interval": 0.5},
        {"version": 2, "interval": 256.0},
        {"vrid": 0},
        {"vrid": 256},
        {"priority": 256},
        {"addresses": ()},
        {"addresses": (VIRTUAL6,)},
        {"addresses": (VIRTUAL4,) * 256},
    ],
)
def test_build_refuses(fields):
    """V2: what the wire cannot carry is an error of ours, and never sent as something else."""
    with pytest.raises(ValueError):
        packet.build(dataclasses.replace(ONE_SECOND, **fields), *ends(4))


DROPS = {
    "ttl": (V3_PSEUDO, {"ttl": 254}),
    "version": (changed(V3_PSEUDO, 0, 0x41), {}),
    "version not ours": (V2, {"version": 3}),
    "type": (changed(V3_PSEUDO, 0, 0x32), {}),
    "truncated header": (V3_PSEUDO[:7], {}),
    "truncated nothing": (b"", {}),
    "truncated addresses": (V3_PSEUDO[:-1], {}),
    "truncated count": (changed(V3_PSEUDO, 3, 2), {}),
    "truncated authentication data": (V2[:-1], {}),
    "length": (repaired(V3_PSEUDO + b"\0\0"), {}),
    "length of another address": (repaired(V3_PSEUDO + VIRTUAL4.packed), {}),
    "length v2": (repaired(V2 + b"\0\0"), {}),
    "checksum": (V3_PSEUDO[:-1] + b"\x0b", {}),
    "checksum v2": (V2[:-1] + b"\x01", {}),
    "vrid": (changed(V3_PSEUDO, 1, 0), {}),
    "address_count": (changed(V3_PSEUDO, 3, 0), {}),
    "interval": (repaired(V3_PSEUDO[:4] + b"\xf0\0" + V3_PSEUDO[6:]), {}),
    "interval v2": (changed(V2, 5, 0), {}),
}


@pytest.mark.parametrize("case", DROPS)
def test_drops(case):
    """V1: each cause of the RFC is dropped under its own stable name."""
    data, options = DROPS[case]
    drop = parse(data, **options)
    assert isinstance(drop, Drop)
    assert drop.reason == case.split()[0]


def test_every_truncation_drops():
    """V1: no prefix of an advert counts."""
    for wire, family in ((V2, 4), (V3_PSEUDO, 4), (packet.build(Advert(3, 1, 1, (VIRTUAL6,), 1.0), *ends(6)), 6)):
        assert all(isinstance(parse(wire[:length], family), Drop) for length in range(len(wire)))


def test_reserved_and_authentication_ignored():
    """V1: the reserved bits of version 3, the authentication type and data of version 2 change nothing."""
    assert parse(changed(V3_PSEUDO, 4, 0xF0)) == ONE_SECOND
    assert parse(changed(changed(V2, 4, 1), 19, 0x41)) == dataclasses.replace(ONE_SECOND, version=2)


def test_ttl_in_unicast():
    """V1: only multicast demands TTL 255."""
    assert parse(V3_PSEUDO, ttl=64, multicast=False) == ONE_SECOND


def test_ipv4_header():
    """V1: the header is taken off by its own length, and one that contradicts itself is truncated."""
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x46, 0, 24 + len(V3_PSEUDO), 0, 0, 255, 112, 0, SOURCE4.packed, b"\xe0\0\0\x12"
    )
    whole = header + bytes(4) + V3_PSEUDO
    expected = Datagram(SOURCE4, packet.GROUP4, 255, V3_PSEUDO)
    assert packet.parse_ipv4(whole) == expected
    assert packet.parse_ipv4(whole + b"padding") == expected
    for wrong in (
        whole[:-1],
        whole[:10],
        b"",
        b"\x44" + whole[1:],
        b"\x66" + whole[1:],
        whole[:2] + b"\0\x17" + whole[4:],
    ):
        assert packet.parse_ipv4(wrong).reason == "truncated"


def test_big_number_checksum():
    """V2: the checksum by one division is the one of RFC 1071."""
    random = Random(3)
    for _ in range(2000):
        data = random.randbytes(2 * random.randrange(1, 40))
        assert packet.internet_checksum(data) % 0xFFFF == slow_checksum(data) % 0xFFFF
    assert packet.internet_checksum(bytes(8)) in {0, 0xFFFF}


def test_random_packets():
    """V1: random and mutated packets, 60,000 of them, give an advert or a drop; an advert is the same when built and parsed again."""
    random = Random(20)
    seeds = [
        (packet.build(Advert(version, 51, 100, addresses, 1.0), *ends(family)), family)
        for version in (2, 3)
        for family, addresses in ((4, (VIRTUAL4,) * 3), (6, (VIRTUAL6,) * 3))
    ]
    randbytes, randrange, parse_packet = random.randbytes, random.randrange, packet.parse
    found, adverts = set(), 0
    for number in range(RANDOM_PACKETS):
        seed, family = seeds[number & 3]
        kind = number % 5
        if kind == 0:
            data = randbytes(randrange(64))
        elif kind == 1:
            at = randrange(len(seed))
            data = seed[:at] + randbytes(1) + seed[at + 1 :]
        elif kind == 2:
            data = seed[: randrange(len(seed))] + randbytes(randrange(4))
        elif kind == 3:  # a plausible first octet and a short list
            data = seed[:1] + randbytes(2) + bytes((randrange(5),)) + randbytes(randrange(40))
        else:
            data = repaired(seed[:1] + randbytes(2) + bytes((randrange(5),)) + randbytes(4) + seed[8:], family)
        got = parse_packet(data, *ends(family), 255)
        if type(got) is Drop:
            found.add(got.reason)
        else:
            adverts += 1
            assert parse_packet(packet.build(got, *ends(family)), *ends(family), 255) == got
    assert found == {"version", "type", "truncated", "length", "checksum", "vrid", "address_count", "interval"}
    assert adverts > 1_500
