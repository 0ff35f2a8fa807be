"""Many addresses and many routers: each is held, moved and announced without delaying an advert."""

import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.e2e.bed import Bed
from tests.e2e.process import until
from tests.e2e.vrrp import VIP, VRID, Ours, holders, pair
from tests.e2e.watch import addresses_now
from vrrp.packet import Advert, build

pytestmark = pytest.mark.load

ADDRESS = VIP[4].partition("/")[0]
INTERVAL = 0.3
LATE = 3 * INTERVAL  # a gap that costs the address
AT_REST = 0.10  # of a processor


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make two hosts and a client on a LAN."""
    with pair() as made:
        yield made


def fours(count: int) -> list[str]:
    """Return IPv4 addresses beside those of the hosts."""
    return [f"198.51.100.{20 + number}/24" for number in range(count)]


def sixes(count: int) -> list[str]:
    """Return IPv6 addresses beside those of the hosts."""
    return [f"2001:db8:1::1:{number:x}/64" for number in range(count)]


def routers(count: int, **more) -> list[dict]:
    """Return the settings of routers with one address each."""
    return [
        {"name": f"r{n}", "vrid": n + 1, "addresses": [fours(count)[n]], "advert_interval": INTERVAL} | more
        for n in range(count)
    ]


def held(bed: Bed, host: str, addresses: list[str]) -> int:
    """Return how many of these addresses a host has."""
    return len({one.partition("/")[0] for one in addresses} & addresses_now(bed, host))


def busy(pid: int, seconds: float) -> float:
    """Return the share of a processor that a process takes."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before, began = ticks(), time.monotonic()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)


class Wire:
    """The packets at the client's interface: times of adverts, by source and VRID, and the number of announcements."""

    def __init__(self, bed: Bed) -> None:
        with bed.inside("client"):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            self._socket.bind(("eth0", 0x0003))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self._socket.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        self._socket.settimeout(0.2)
        self.adverts: dict[tuple[str, int], list[float]] = {}
        self.announced: list[str] = []
        self._ended = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._ended = True
        self._thread.join(2)
        self._socket.close()

    def _follow(self) -> None:
        while not self._ended:
            with contextlib.suppress(TimeoutError):
                frame, ancillary, _, _ = self._socket.recvmsg(2000, 128)
                seconds, nanoseconds = struct.unpack_from("=qq", ancillary[0][2])
                self._note(frame, seconds + nanoseconds * 1e-9)

    def _note(self, frame: bytes, at: float) -> None:
        kind = struct.unpack_from("!H", frame, 12)[0]
        if kind == 0x0806 and frame[28:32] == frame[38:42]:
            self.announced.append(socket.inet_ntoa(frame[28:32]))
        elif kind == 0x86DD and frame[20] == 58 and frame[54] == 136:
            self.announced.append(socket.inet_ntop(socket.AF_INET6, frame[62:78]))
        elif kind == 0x0800 and frame[23] == 112:
            key = socket.inet_ntoa(frame[26:30]), frame[14 + 4 * (frame[14] & 15) + 1]
            self.adverts.setdefault(key, []).append(at)

    def longest_gap(self, source: str) -> float:
        """Return the longest time between two adverts of one router of a host, in seconds."""
        found = [times for (host, _), times in self.adverts.items() if host == source]
        assert found
        return max(later - earlier for times in found for earlier, later in itertools.pairwise(times))


def states(ours: Ours) -> dict[str, str]:
    """Return the last reported state of each router by name."""
    return {one["name"]: one["state"] for one in ours.events("state")}


def all_are(ours: Ours, state: str, count: int) -> bool:
    """Return True if all routers are in a state."""
    found = states(ours)
    return len(found) == count and set(found.values()) == {state}


def total(ours: Ours, name: str) -> int:
    """Return a counter of all routers of a host together."""
    return sum(counted.get(name, 0) for counted in ours.report()["counters"].values())


def test_five_hundred_addresses(bed):
    """V6, V14, V17: 500 addresses of a router are installed, held at a tenth of a processor, and move, with no late advert."""
    addresses = [*(f"203.0.113.{number}/32" for number in range(1, 246)), *sixes(255)]
    router = {"addresses": addresses, "advert_interval": INTERVAL}
    with Wire(bed) as wire:
        a = Ours(bed, "a", router | {"priority": 150})
        until(lambda: held(bed, "a", addresses) == 500, 8, "all addresses to be there", every=0.1)
        began = time.monotonic()
        assert busy(a.proc.pid, 4) <= AT_REST
        while time.monotonic() < began + 6:
            assert held(bed, "a", addresses) == 500
            time.sleep(0.1)
        assert (total(a, "lease_lost"), total(a, "address_removed")) == (0, 0)
        assert wire.longest_gap("198.51.100.2") < LATE
        b = Ours(bed, "b", router)
        time.sleep(1)
        a.proc.signal(signal.SIGTERM, whole=False)
        until(lambda: held(bed, "b", addresses) == 500, 5, "all addresses to move", every=0.1)
        until(lambda: not held(bed, "a", addresses), 3, "a to have none of them", every=0.1)
        time.sleep(1)
        assert wire.longest_gap("198.51.100.3") < LATE
        assert {one.partition("/")[0] for one in addresses} <= set(wire.announced)
    assert b.moves() == ["backup", "active"]


@pytest.mark.parametrize("together", [False, True])
def test_two_hundred_and_fifty_routers(bed, together):
    """V6, V12, V17: 230 routers hold their addresses at a tenth of a processor, and move, with no late advert, alone or as a group."""
    count = 230
    sync = {"sync_groups": {"all": [f"r{n}" for n in range(count)]}} if together else {}
    addresses = fours(count)
    with Wire(bed) as wire:
        a = Ours(bed, "a", *routers(count, priority=150, advert_interval=1.0), **sync)
        until(lambda: held(bed, "a", addresses) == count, 10, "all addresses to be there", every=0.1)
        time.sleep(1)
        assert busy(a.proc.pid, 5) <= AT_REST
        assert held(bed, "a", addresses) == count
        assert total(a, "lease_lost") == 0
        assert wire.longest_gap("198.51.100.2") < 2
        b = Ours(bed, "b", *routers(count, advert_interval=1.0), **sync)
        until(lambda: all_are(b, "backup", count), 5, "b to be backup", every=0.1)
        time.sleep(1.5)
        a.proc.signal(signal.SIGTERM, whole=False)
        until(lambda: all_are(b, "active", count), 6, "b to take over", every=0.1)
        until(lambda: held(bed, "b", addresses) == count and not held(bed, "a", addresses), 4, "all to move", every=0.1)
        time.sleep(2)
        assert wire.longest_gap("198.51.100.3") < 2
    assert total(b, "lease_lost") == 0


def test_a_storm_of_losing_adverts(bed):
    """V5, V8, V17: 4,000 losing adverts in two seconds cost no lease, and make a bounded number of announcements."""
    addresses = fours(20)
    a = Ours(bed, "a", {"addresses": addresses, "advert_interval": 0.1, "priority": 150})
    a.wait("active")
    until(lambda: held(bed, "a", addresses) == 20, 3, "all addresses to be there")
    time.sleep(1)
    loser = bed.socket("client", socket.AF_INET, socket.SOCK_RAW, 112)
    loser.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    loser.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("198.51.100.4"))
    group = ip_address("224.0.0.18")
    source = ip_address("198.51.100.4")
    data = build(Advert(3, VRID, 1, tuple(ip_address(one.partition("/")[0]) for one in addresses), 0.1), source, group)
    with Wire(bed) as wire:
        began = time.monotonic()
        for number in range(4000):
            loser.sendto(data, (str(group), 0))
            time.sleep(max(0.0, began + number / 2000 - time.monotonic()))
        took = time.monotonic() - began
        time.sleep(1)
        # In full at once, and then at most four times a second.
        assert 20 * 5 <= len(wire.announced) <= 20 * (5 + 4 * (took + 1) + 5)
    assert a.moves() == ["backup", "active"]
    counters = a.report()["counters"]["outside/4"]
    assert counters["conflicts"] >= 3000
    assert counters.get("lease_lost", 0) == 0


def test_all_addresses_flushed_at_once(bed):
    """V23: 300 addresses that are removed at once are back within a second, and announced; no advert is late."""
    addresses = [*fours(100), *sixes(200)]
    with Wire(bed) as wire:
        a = Ours(bed, "a", {"addresses": addresses, "advert_interval": INTERVAL})
        until(lambda: held(bed, "a", addresses) == 300, 8, "all addresses to be there", every=0.1)
        time.sleep(1)
        wire.announced.clear()
        lines = [f"addr del {one.partition('/')[0]}/{128 if ':' in one else 32} dev eth0" for one in addresses]
        (bed.dir / "batch").write_text("\n".join(lines))
        bed.run("a", ["ip", "-force", "-batch", str(bed.dir / "batch")])
        until(lambda: held(bed, "a", addresses) == 300, 3, "all addresses to be back", every=0.05)
        time.sleep(1)
        assert {one.partition("/")[0] for one in addresses} <= set(wire.announced)
        assert wire.longest_gap("198.51.100.2") < LATE
    assert a.state == "active"
    assert total(a, "address_removed") >= 290


def test_an_interface_that_went_away_and_came_back(bed):
    """V8, V13: an interface that returns with its old number announces again and receives adverts."""
    bed.host("elsewhere")
    host, elsewhere = (bed.hosts[name].holder.pid for name in ("a", "elsewhere"))
    bed.ip("a", "link set eth0 down", "link set eth0 name moving", "link set moving up")
    index = index_of(bed, "a", "moving")
    a = Ours(bed, "a", {"interface": "moving", "advert_interval": 0.1})
    a.wait("active")
    until(lambda: ADDRESS in addresses_now(bed, "a", "moving"), 2, "the address")
    for _ in range(2):
        bed.ip("a", f"link set moving netns {elsewhere}")
        a.wait("fault")
        time.sleep(0.2)
        with Wire(bed) as wire:
            bed.ip("elsewhere", f"link set moving netns {host}")
            bed.ip("a", "addr add 198.51.100.2/24 dev moving", "link set moving up")
            assert index_of(bed, "a", "moving") == index
            a.wait("active")
            until(lambda: wire.announced.count(ADDRESS) >= 5, 2, "announcements")
    b = Ours(bed, "b", {"priority": 200, "advert_interval": 0.1})
    b.wait("active")
    a.wait("backup")
    assert holders(bed, ADDRESS, ("b",)) == ["b"]


def index_of(bed: Bed, host: str, interface: str) -> int:
    """Return the kernel's number of an interface."""
    return json.loads(bed.run(host, ["ip", "-j", "link", "show", "dev", interface]).stdout)[0]["ifindex"]
