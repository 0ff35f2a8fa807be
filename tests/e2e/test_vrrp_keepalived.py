"""Real keepalived as the other host: each accepts the other's adverts, whichever is active."""

import re
from collections.abc import Iterator

import pytest

from tests.e2e.bed import Bed
from tests.e2e.vrrp import Capture, Keepalived, Ours, addresses_of, host_addresses, owner_settles, pair

UNICAST = {4: ("198.51.100.2", "198.51.100.3"), 6: ("fe80::2", "fe80::3")}


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make two hosts on a LAN."""
    with pair(client=False) as made:
        yield made


@pytest.mark.parametrize("cast", ["multicast", "unicast"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("version", [3, 2])
def test_each_side_active_and_backup(bed, version, family, cast):
    """V9: with keepalived, the lower priority yields to the higher and takes over from it; no advert is malformed."""
    interval = 0.1 if version == 3 else 1.0
    ours_at, theirs_at = UNICAST[family]
    unicast = cast == "unicast"
    router = {
        "priority": 150,
        "version": version,
        "advert_interval": interval,
        "addresses": addresses_of(family),
        "peers": [theirs_at] if unicast else None,
    }
    keepalived = {
        "family": family,
        "version": version,
        "interval": interval,
        "peers": (theirs_at, ours_at) if unicast else None,
    }
    address = addresses_of(family)[-1].partition("/")[0]
    if family == 6:  # the only link-local address, so that both ends know it
        for name in ("a", "b"):
            bed.ip(name, "link set eth0 addrgenmode none", "addr flush dev eth0 scope link")
            bed.ip(name, f"addr add {host_addresses(2 if name == 'a' else 3)[2]} dev eth0 nodad")
    wire = Capture(bed, "b", "ip proto 112 or ip6 proto 112")
    ours = Ours(bed, "a", router)
    ours.wait("active")
    lower = Keepalived(bed, "b", priority=100, **keepalived)
    assert owner_settles(bed, address) == "a"
    ours.proc.terminate()
    lower.wait("active")
    assert owner_settles(bed, address) == "b"
    ours.start()
    ours.wait("active", 8)
    lower.wait("backup")
    assert lower.complaints() == []
    lower.proc.terminate()
    higher = Keepalived(bed, "b", priority=200, **keepalived)
    higher.wait("active", 8)
    ours.wait("backup")
    counters = ours.report()["counters"]
    higher.proc.terminate()
    ours.wait("active")
    assert owner_settles(bed, address) == "a"
    assert higher.complaints() == []
    assert counters["outside/4" if family == 4 else "outside/6"]["adverts_received"] > 3
    bad = {"checksum", "length", "version", "interval", "address_count", "addresses_differ", "truncated", "vrid", "ttl"}
    assert not bad & {name for one in counters.values() for name in one}
    packets = wire.packets()
    if (version, family) == (2, 6):  # no RFC has it; keepalived's checksum has a pseudo-header, tcpdump expects none
        packets = [one.replace("bad vrrp cksum", "") for one in packets]
    assert len(packets) > 10
    assert [one for one in packets if re.search(r"bad|malformed|trunc|\[\|", one)] == []
