"""Addresses as leases of a real kernel: installed, refreshed, lapsed, put back, never missed and never left."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bed import Bed
from tests.e2e.watch import addresses_now
from vrrp.address import Lease
from vrrp.kernel import Kernel
from vrrp.netlink import AddressChanged, IncompleteDumpError, LinkChanged

V4, V6 = "198.51.100.10/24", "2001:db8:1::10/64"


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make one host on a LAN, and another beside it, with addresses of its own."""
    with Bed() as made:
        made.lan("wire")
        for number, name in enumerate(("a", "b"), 2):
            made.host(name)
            made.attach(name, "wire", f"198.51.100.{number}/24", f"2001:db8:1::{number}/64")
        yield made


class Site:
    """A kernel's mirror in host a, and a lease of addresses on its interface."""

    def __init__(self, addresses, every=0.5):
        self.told = []
        self.changes = []
        self.kernel = Kernel(self.changed)
        self.lease = Lease(
            self.kernel,
            addresses,
            every,
            on_refreshed=lambda: None,
            on_restored=lambda which: self.told.append(("restored", which)),
            on_lapsed=lambda: self.told.append("lapsed"),
            on_problem=self.told.append,
        )

    def changed(self, change):
        """Note a change, and let the lease follow it."""
        self.changes.append(change)
        if isinstance(change, AddressChanged):
            self.lease.changed(change, time.monotonic())

    @property
    def index(self):
        """The index of the interface."""
        return self.kernel.link("eth0").index

    async def __aenter__(self):
        await self.kernel.open()
        return self

    async def __aexit__(self, *_):
        await self.lease.close()
        await self.kernel.close()

    async def install(self):
        """Hold the addresses."""
        self.lease.want(self.index)
        await self.lease.install()


def detect_duplicates():
    """Turn on what the bed turns off: an address without `nodad` has to wait for a second."""
    for name in ("all", "eth0"):
        Path("/proc/sys/net/ipv6/conf", name, "accept_dad").write_text("1")


async def shown(bed, *options):
    return (await asyncio.to_thread(bed.run, "a", ["ip", "-o", *options, "addr", "show", "dev", "eth0"])).stdout


async def eventually(condition, patience=3.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_installed_as_a_lease(bed):
    """V14, V25: an address is a /32 or /128 that lives 2 s, is usable at once and never preferred as a source."""
    with bed.inside("a"):
        detect_duplicates()
        async with Site([V4, V6]) as site:
            await site.install()
            text = await shown(bed)
            assert "inet 198.51.100.10/32" in text
            assert "inet6 2001:db8:1::10/128" in text
            for line in text.splitlines():
                if "::10/" in line or ".10/" in line:
                    assert "deprecated" in line
                    assert "preferred_lft 0sec" in line
                    assert "valid_lft 2sec" in line or "valid_lft 1sec" in line
                    assert "tentative" not in line
            route = (await asyncio.to_thread(bed.run, "a", ["ip", "-6", "route", "get", "2001:db8:1::3"])).stdout
            assert "src 2001:db8:1::2" in route


async def test_refreshed_never_absent(bed):
    """An address that is refreshed never leaves for a moment, though it lives for 2 s only."""
    with bed.inside("a"):
        async with Site([V4, V6]) as site:
            await site.install()
            await asyncio.sleep(3.2)
            assert "198.51.100.10/32" in (text := await shown(bed))
            assert "2001:db8:1::10/128" in text
            gone = [one for one in site.changes if isinstance(one, AddressChanged) and not one.present]
            assert gone == site.told == []


async def test_removed_and_closed(bed):
    """Removing takes the addresses away, and nothing brings them back."""
    with bed.inside("a"):
        async with Site([V4, V6], every=0.05) as site:
            await site.install()
            assert addresses_now(bed, "a") >= {"198.51.100.10", "2001:db8:1::10"}
            site.lease.unwant()
            await site.lease.remove()
            await asyncio.sleep(0.2)
            assert not addresses_now(bed, "a") & {"198.51.100.10", "2001:db8:1::10"}
            assert site.told == []


async def test_put_back_when_removed_by_others(bed):
    """V23: an address that another program removes is back within 0.2 s, with an event."""
    with bed.inside("a"):
        async with Site([V4, V6]) as site:
            await site.install()
            for address in ("198.51.100.10/32", "2001:db8:1::10/128"):
                site.told.clear()
                await asyncio.sleep(0.25)
                await asyncio.to_thread(bed.ip, "a", f"addr del {address} dev eth0")
                await eventually(lambda: site.told, 0.2)
                assert address in await shown(bed)
            assert site.told == [("restored", [V6])]


async def test_lapsed_when_nobody_refreshed(bed):
    """V14, V15, V23: after a pause longer than the lease the address is gone, is not put back, and that is reported."""
    with bed.inside("a"):
        async with Site([V4]) as site:
            await site.install()
            time.sleep(2.5)  # noqa: ASYNC251 - the pause is the point
            assert site.lease.lapsed(time.monotonic())
            await eventually(lambda: site.told)
            await asyncio.sleep(0.7)
            assert site.told == ["lapsed"]
            assert "198.51.100.10/" not in await shown(bed)


async def test_other_addresses_stay(bed):
    """V25: without another address of the host in the subnet, the subnet's prefix is used; removing one leaves the others."""
    bed.ip("a", "addr flush dev eth0 scope global")
    with bed.inside("a"):
        async with Site(["203.0.113.10/24", "203.0.113.11/24"]) as site, Site(["203.0.113.12/24"]) as other:
            await site.install()
            await other.install()
            assert "203.0.113.10/24" in (text := await shown(bed))
            assert "203.0.113.11/32" in text
            bed.ip("a", "addr add 203.0.113.77/24 dev eth0")  # the host's own, secondary to ours
            site.lease.unwant()
            await site.lease.remove()
            text = await shown(bed)
            assert "203.0.113.10/" not in text
            assert "203.0.113.77/24" in text
            assert "203.0.113.12/32" in text
            assert other.told == []


async def test_what_is_not_ours_is_left_alone(bed):
    """A permanent address of the host is neither shortened to a lease nor removed, and that is reported once."""
    with bed.inside("a"):
        async with Site(["198.51.100.2/24"], every=0.05) as site:
            await site.install()
            await asyncio.sleep(0.2)
            site.lease.unwant()
            await site.lease.remove()
            assert len(site.told) == 1
            line = next(line for line in (await shown(bed)).splitlines() if "198.51.100.2/" in line)
            assert "valid_lft forever" in line


async def test_leftovers_are_removed(bed):
    """A lease that an earlier run left is removed at the start; the host's own addresses are not."""
    with bed.inside("a"):
        bed.ip("a", "addr add 198.51.100.10/32 dev eth0 valid_lft 2 preferred_lft 0")
        async with Site([V4, "198.51.100.2/24"]) as site:
            assert await site.lease.clean() == 1
            assert "198.51.100.10/" not in (text := await shown(bed))
            assert "198.51.100.2/24" in text


async def test_the_mirror_follows(bed):
    """V13: changes of links and addresses are reported at once, by name, and shown by the mirror."""
    with bed.inside("a"):
        async with Site([V4]) as site:
            assert site.kernel.link("eth0").up
            await asyncio.to_thread(bed.link, "a", "wire", up=False)
            await eventually(lambda: not site.kernel.link("eth0").up, 0.3)
            await asyncio.to_thread(bed.link, "a", "wire", up=True)
            await eventually(lambda: site.kernel.link("eth0").up, 0.3)
            await asyncio.to_thread(bed.ip, "a", "link del eth0")
            await eventually(lambda: site.kernel.link("eth0") is None, 0.3)
            names = [(one.name, one.link and one.link.up) for one in site.changes if isinstance(one, LinkChanged)]
            assert ("eth0", False) in names
            assert names[-1] == ("eth0", None)


async def test_five_hundred_are_never_missed(bed):
    """V14: 500 IPv6 addresses of one lease are installed, and none is missing for a moment while they are refreshed."""
    addresses = [f"2001:db8:1::1:{number:x}/64" for number in range(500)]
    with bed.inside("a"):
        async with Site(addresses) as site:
            await site.install()
            wanted = {one.partition("/")[0] for one in addresses}
            assert wanted <= await asyncio.to_thread(addresses_now, bed, "a")
            await asyncio.sleep(4)
            assert wanted <= await asyncio.to_thread(addresses_now, bed, "a")
            assert [one for one in site.changes if isinstance(one, AddressChanged) and not one.present] == []
            assert site.told == []
            site.lease.unwant()
            await site.lease.remove()
            assert not wanted & await asyncio.to_thread(addresses_now, bed, "a")


def mirrored(site):
    """Return the addresses of the interface as the mirror has them."""
    return {one.address for one in site.kernel.addresses(site.index)}


async def settled(bed, site):
    """Wait until the mirror equals the kernel's state."""
    there = await asyncio.to_thread(addresses_now, bed, "a")
    await eventually(lambda: mirrored(site) == there, 3)


async def test_lost_changes_are_made_good(bed):
    """V23: if changes of addresses are lost many times, the mirror is right in the end, and counts the losses."""
    lines = []
    for number in range(1500):
        address = f"10.9.{number // 250}.{number % 250 + 1}/32"
        lines.append(f"addr add {address} dev eth0")
        if number % 3:
            lines.append(f"addr del {address} dev eth0")
    (bed.dir / "batch").write_text("\n".join(lines))
    with bed.inside("a"):
        async with Site([V4]) as site:
            site.kernel._events.setsockopt(1, 8, 4096)  # SO_RCVBUF
            for _ in range(6):
                await asyncio.to_thread(bed.run, "a", ["ip", "-batch", str(bed.dir / "batch")], check=True)
                await settled(bed, site)
                await asyncio.to_thread(bed.ip, "a", "addr flush dev eth0 to 10.9.0.0/16")
                await settled(bed, site)
            assert site.kernel.counters["overruns"] > 0


async def test_the_mirror_is_audited(bed, monkeypatch):
    """V23: the audit finds an error of the mirror that no change would correct, and reports and counts it."""
    monkeypatch.setattr("vrrp.kernel.AUDIT", 0.2)
    with bed.inside("a"):
        async with Site([V4]) as site:
            await asyncio.to_thread(bed.ip, "a", "addr add 10.9.0.1/32 dev eth0")
            await eventually(lambda: "10.9.0.1" in mirrored(site))
            lost = next(one for one in site.kernel.addresses(site.index) if one.address == "10.9.0.1")
            site.kernel._apply(AddressChanged(lost, present=False))
            await eventually(lambda: "10.9.0.1" in mirrored(site))
            assert site.kernel.counters["audit_corrections"] == 1


async def test_a_dump_that_fails_is_repeated(bed, monkeypatch):
    """V23: if an error interrupts a complete reading, the mirror repeats it."""
    with bed.inside("a"):
        async with Site([V4]) as site:
            real, failures = site.kernel._dump, [OSError(12, "no memory"), IncompleteDumpError("changed meanwhile")]

            async def dump():
                if failures:
                    raise failures.pop()
                return await real()

            monkeypatch.setattr(site.kernel, "_dump", dump)
            await asyncio.to_thread(bed.ip, "a", "addr add 10.9.0.1/32 dev eth0")
            await eventually(lambda: "10.9.0.1" in mirrored(site))
            lost = next(one for one in site.kernel.addresses(site.index) if one.address == "10.9.0.1")
            site.kernel._apply(AddressChanged(lost, present=False))
            site.kernel._wrong.set()
            await eventually(lambda: "10.9.0.1" in mirrored(site))
            assert failures == []


async def test_lost_messages_are_made_good(bed):
    """A mirror whose socket has overflowed reads everything again, and reports the changes that it missed."""
    with bed.inside("a"):
        async with Site([V4]) as site:
            lines = [f"addr add 10.9.{n // 250}.{n % 250 + 1}/32 dev eth0" for n in range(3000)]
            (bed.dir / "batch").write_text("\n".join(lines))
            site.kernel._events.setsockopt(1, 8, 2048)  # SO_RCVBUF
            bed.run("a", ["ip", "-batch", str(bed.dir / "batch")], check=True)  # nothing is read meanwhile
            await eventually(lambda: len(site.kernel.addresses(site.index)) >= 3000, 10)
            bed.ip("a", "addr flush dev eth0 to 10.9.0.0/16")
            await eventually(lambda: len(site.kernel.addresses(site.index)) < 10, 10)
