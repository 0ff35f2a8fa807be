"""The watcher of the beds reads messages, adverts and times correctly."""

import math
import re
import socket
import struct

import pytest

from tests.e2e.bed import Bed
from tests.e2e.process import until
from tests.e2e.watch import Seen, Told, Watch, addresses_now, addresses_told, advert_seen, changes, first, gaps

TOLD = [
    Told(1.0, "a", True),
    Told(1.5, "a", True),
    Told(2.25, "b", True),
    Told(3.0, "a", False),
]


def message(kind: int, address: str) -> bytes:
    """Return one message of rtnetlink about an address, with an attribute before it that has an odd length."""
    attributes = struct.pack("=HH", 9, 3) + b"eth0\0" + bytes(3)
    attributes += struct.pack("=HH", 8, 2) + socket.inet_aton(address)
    body = struct.pack("=BBBBI", 2, 24, 0, 0, 7) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_messages_of_the_kernel():
    """Each message about an address is read, whatever comes before, between and after them."""
    data = message(20, "192.0.2.1") + message(16, "192.0.2.9") + message(21, "192.0.2.2") + b"\0" * 5
    assert addresses_told(data) == [(True, "192.0.2.1"), (False, "192.0.2.2")]


def test_times_until_a_host_has_it():
    """The time is 0 for an earlier change, the time of the change for a later one, and None if there was none."""
    assert first(TOLD, "a", True, 2.0) == 0.0
    assert first(TOLD, "b", True, 2.0) == 0.25
    assert first(TOLD, "a", False, 2.0) == 1.0
    assert first(TOLD, "b", False, 2.5) is None
    assert first([], "a", False, 2.0) == 0.0


def test_a_refresh_is_no_change():
    """The refresh of a lease does not count as a change."""
    assert [(one.host, one.present) for one in changes(TOLD)] == [("a", True), ("b", True), ("a", False)]


def test_gaps_reach_to_the_ends():
    """Silence before the first and after the last answer counts, within the watched time."""
    assert gaps([1.0, 1.5, 3.0]) == [0.5, 1.5]
    assert gaps([2.0], 1.0, 5.0) == [1.0, 3.0]
    assert gaps([], 1.0, 5.0) == [4.0]
    assert gaps([], math.inf, -math.inf) == []


def test_an_advert():
    """The sender and the priority of an advert are read; a packet that is too short is not an advert."""
    packet = bytes([0x45, *bytes(11), 192, 0, 2, 1, 224, 0, 0, 18, 0x31, 51, 150, 1, 0, 10, 0, 0])
    assert advert_seen(packet, 5.0) == Seen(5.0, "192.0.2.1", 150)
    assert advert_seen(packet[:27], 5.0) is None
    assert advert_seen(b"", 5.0) is None


def test_what_an_interface_has_now():
    """An interface's addresses of both families are those that ip(8) shows; another interface's and another host's are not among them."""
    with Bed() as bed:
        bed.lan("wire")
        for number, name in enumerate(("a", "b"), 2):
            bed.host(name)
            bed.attach(name, "wire", f"198.51.100.{number}/24", f"2001:db8:1::{number}/64")
        own = {"198.51.100.2", "2001:db8:1::2"}
        shown = bed.run("a", ["ip", "-o", "addr", "show", "dev", "eth0"], check=True).stdout
        assert addresses_now(bed, "a") == set(re.findall(r" inet6? ([0-9a-f.:]+)/", shown)) >= own
        bed.ip("a", "addr add 198.51.100.10/32 dev eth0", "addr add 192.0.2.1/32 dev lo")
        assert addresses_now(bed, "a") - addresses_now(bed, "b") >= own | {"198.51.100.10"}
        assert "192.0.2.1" not in addresses_now(bed, "a")
        bed.ip("a", "addr del 198.51.100.10/32 dev eth0")
        assert "198.51.100.10" not in addresses_now(bed, "a")
        with pytest.raises(OSError, match="no interface with this name"):
            addresses_now(bed, "a", "eth7")


def test_a_real_kernel():
    """Changes of a host's addresses are reported with their times, and an advert has the kernel's time of arrival."""
    with Bed() as bed:
        bed.lan("wire")
        for number, name in enumerate(("a", "b", "client"), 2):
            bed.host(name)
            bed.attach(name, "wire", f"198.51.100.{number}/24")
        with Watch(bed, "198.51.100.10", adverts="client") as watch:
            bed.ip("b", "addr add 198.51.100.10/32 dev eth0", "addr add 198.51.100.11/32 dev eth0")
            until(lambda: watch.holders() == ["b"], 2, "b to have it", every=0.01)
            bed.ip("b", "addr del 198.51.100.10/32 dev eth0")
            until(lambda: watch.holders() == [], 2, "b to have it no more", every=0.01)
            sender = bed.socket("a", socket.AF_INET, socket.SOCK_RAW, 112)
            sender.sendto(bytes([0x31, 51, 150, 1, 0, 10, 0, 0]), ("198.51.100.4", 0))
            until(lambda: watch.adverts, 2, "the advert", every=0.01)
            assert (watch.adverts[0].source, watch.adverts[0].priority) == ("198.51.100.2", 150)
