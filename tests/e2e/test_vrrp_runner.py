"""The runner inside another process: the input from its owner, and its reports."""

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.e2e.bed import Bed
from tests.e2e.process import until
from tests.e2e.vrrp import VIP, Capture, Ours, holders, owner_settles, pair
from vrrp.runner import Runner
from vrrp.settings import NotifySettings, RouterSettings, Settings

ADDRESS = VIP[4].partition("/")[0]
FAST = {"advert_interval": 0.1}


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make two hosts and a client on a LAN."""
    with pair() as made:
        yield made


class Owner:
    """A runner in host a, and its reports."""

    def __init__(self, bed, notify=(), check=None, store=None, **router):
        self.moves, self.told = [], []
        values = {"name": "outside", "interface": "eth0", "vrid": 51, "addresses": (VIP[4],), "advert_interval": 0.1}
        settings = Settings((RouterSettings(**(values | router)),), {}, notify)
        self.inside = bed.inside("a")
        self.inside.__enter__()
        self.runner = Runner(settings, self.moves.append, lambda name, words: self.told.append(words), check, store)

    @property
    def states(self):
        """Return the reported states, in order."""
        return [one.state for one in self.moves]

    async def __aenter__(self):
        await self.runner.start()
        return self

    async def __aexit__(self, *_):
        try:
            await self.runner.shutdown(hand_over=False)
        finally:
            self.inside.__exit__(None, None, None)


async def is_true(condition, patience=4.0):
    """Wait for a condition with the loop free to run."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_the_next_process_adopts(bed):
    """V14: a process that replaces a killed one adopts its address and state within the lease; no host moves."""
    first = Ours(bed, "a", FAST | {"priority": 150, "addresses": list(VIP.values()), "advert_interval": 0.3})
    other = Ours(bed, "b", FAST | {"priority": 100, "addresses": list(VIP.values()), "advert_interval": 0.3})
    first.wait("active")
    assert owner_settles(bed, ADDRESS) == "a"
    handover = first.report()["handover"]
    first.proc.kill()
    owner = Owner(bed, addresses=tuple(VIP.values()), priority=150, advert_interval=0.3)
    owner.runner.adopt(handover)
    async with owner:
        assert owner.states == ["active"]
        assert owner.moves[0].reason == "taken over from the previous process"
        for _ in range(50):
            assert await asyncio.to_thread(holders, bed, ADDRESS) == ["a"]
            await asyncio.sleep(0.05)
        assert owner.states == ["active"]
        assert other.moves() == ["backup"]


async def test_an_old_handover_is_none(bed):
    """V15: a state that was handed over longer than a lease ago is not adopted."""
    owner = Owner(bed)
    owner.runner.adopt({"outside": ["active", time.monotonic() - 2.1, 0]})
    async with owner:
        assert owner.states == ["backup"]


async def test_leftovers_go_at_the_start(bed):
    """A process that starts as backup removes at once an address that a killed process left."""
    bed.ip("a", f"addr add {ADDRESS}/32 dev eth0 valid_lft 2 preferred_lft 0")
    async with Owner(bed, advert_interval=1.0) as owner:
        await is_true(lambda: owner.told, 0.5)
        assert holders(bed, ADDRESS) == []


async def test_leftovers_of_another_interface_stay(bed):
    """V25: a link-local address belongs to its interface: the same leased address on another interface is another router's."""
    bed.lan("second")
    bed.attach("a", "second", "203.0.113.2/24")
    for name in ("eth0", "eth1"):
        bed.ip("a", f"addr add fe80::10/128 dev {name} valid_lft 2 preferred_lft 0 nodad")
    async with Owner(bed, addresses=("fe80::10/64",), advert_interval=1.0) as owner:
        await is_true(lambda: owner.told, 0.5)
        left = bed.run("a", ["ip", "-o", "-6", "addr", "show", "to", "fe80::10"]).stdout
        assert [line.split()[1] for line in left.splitlines()] == ["eth1"]


async def test_a_lost_master_is_the_last_resort(bed):
    """V18: without its master it sends priority 0 at once, is backup at 1, takes back what no host takes, and yields to all."""
    async with Owner(bed, priority=150) as owner:
        await is_true(lambda: owner.states == ["backup", "active"])
        wire = Capture(bed, "client", "ip proto 112")
        before = time.monotonic()
        owner.runner.master_lost("the master was killed")
        assert owner.moves[-1].state == "backup"
        assert "master was killed" in owner.moves[-1].reason
        await is_true(lambda: any("prio 0" in one for one in wire.packets()), 0.5)
        await is_true(lambda: owner.states[-1] == "active", 1.5)
        assert time.monotonic() - before >= 0.3
        assert owner.runner.status()[0]["effective_priority"] == 1
        other = Ours(bed, "b", FAST)
        await is_true(lambda: owner.states[-1] == "backup", 2)
        owner.runner.master_back()
        await is_true(lambda: owner.states[-1] == "active", 2)
        await is_true(lambda: other.moves() == ["backup", "active", "backup"], 2)


async def test_penalties_and_faults(bed):
    """V11: the owner's penalties lower the priority, clamped at 1, and a fault without one ends it; both are explained."""
    async with Owner(bed, priority=100) as owner:
        await is_true(lambda: owner.runner.is_active("outside"))
        owner.runner.set_priority_parts("outside", {"service dns": -60, "probe gateway": -60})
        status = owner.runner.status()[0]
        assert (status["priority"], status["effective_priority"], status["state"]) == (100, 1, "active")
        assert ["service dns", -60] in status["priority_parts"]
        owner.runner.set_priority_parts("outside", {})
        assert owner.runner.status()[0]["effective_priority"] == 100
        owner.runner.set_fault("outside", "service mysql", failed=True)
        assert owner.moves[-1].state == "fault"
        assert "service mysql" in owner.moves[-1].reason
        await is_true(lambda: holders(bed, ADDRESS) == [], 1)
        owner.runner.set_fault("outside", "service mysql", failed=False)
        await is_true(lambda: owner.runner.is_active("outside"))


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        (4, "the interface has no IPv4 address of this host to send from"),
        (6, "the interface has no link-local IPv6 address of this host to send from"),
    ],
)
async def test_the_reason_is_the_ill_ones(bed, family, reason):
    """V12: of IPv4 and IPv6 under one name, the router in fault gives the reason, at the start and later."""
    flush = "-4 addr flush dev eth0" if family == 4 else "-6 addr flush dev eth0 scope link"
    async with Owner(bed, addresses=tuple(VIP.values())) as owner:
        await is_true(lambda: owner.runner.is_active("outside"))
        bed.ip("a", flush)
        await is_true(lambda: owner.states[-1] == "fault", 1)
        assert owner.moves[-1].reason == reason
    async with Owner(bed, addresses=tuple(VIP.values())) as owner:
        assert owner.moves[-1].reason == reason


async def test_what_another_process_took_comes_back(bed):
    """A router that another process of the host has taken is in fault, names that process, and returns when it is gone."""
    async with Owner(bed) as owner:
        await is_true(lambda: owner.runner.is_active("outside"))
        other = Ours(bed, "a", FAST)
        await is_true(lambda: owner.states[-1] == "fault", 1)
        assert owner.moves[-1].reason == f"taken over by process {other.proc.pid} of this host"
        assert owner.runner.taken
        await is_true(lambda: other.state == "active")
        other.proc.terminate()
        await is_true(lambda: owner.runner.is_active("outside"))
        assert await asyncio.to_thread(owner_settles, bed, ADDRESS) == "a"


async def test_no_election_before_the_first_verdicts(bed):
    """V24: a router that tracks services takes part in no election before their first verdicts, and then at once."""
    async with Owner(bed, awaits_verdicts=True) as owner:
        await asyncio.sleep(0.8)
        assert owner.states == []
        owner.runner.first_verdicts("outside")
        await is_true(lambda: owner.states == ["backup", "active"], 0.6)


async def test_moves_are_notified(bed):
    """V20: each move runs the script and reaches the FIFO, with keepalived's arguments."""
    script, out, fifo = bed.dir / "script", bed.dir / "out", bed.dir / "fifo"
    script.write_text(f'#!/bin/sh\necho "$@" >> {out}\n')
    script.chmod(0o755)
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    notify = (NotifySettings(command=(str(script),)), NotifySettings(fifo=str(fifo), to=("active",)))
    async with Owner(bed, notify, lambda path, _: path, priority=150) as owner:
        await is_true(lambda: owner.runner.is_active("outside"))
    wanted = ["INSTANCE outside BACKUP 150", "INSTANCE outside MASTER 150", "INSTANCE outside STOP 150"]
    assert out.read_text().splitlines() == wanted
    assert os.read(reader, 200) == b'INSTANCE "outside" MASTER 150\n'
    os.close(reader)


async def test_an_interface_that_comes_back_is_used(bed):
    """V13: a deleted interface is a fault; a new one with the same name is used again."""
    async with Owner(bed, interface="late") as owner:
        assert owner.states == ["fault"]
        bed.ip("a", "link add late type veth peer name far", "addr add 203.0.113.2/24 dev late")
        bed.ip("a", "link set late up", "link set far up")
        await is_true(lambda: owner.runner.is_active("outside"))
        bed.ip("a", "link del late")
        await is_true(lambda: owner.states[-1] == "fault", 1)
        bed.ip("a", "link add late type veth peer name far", "addr add 203.0.113.2/24 dev late")
        bed.ip("a", "link set late up", "link set far up")
        await is_true(lambda: owner.runner.is_active("outside"))


async def test_what_the_owner_knows_holds_for_new_settings(bed):
    """R3, V11, V18: a lost master and penalties that come with new settings hold for each router, and those that were go."""
    outside = RouterSettings("outside", "eth0", 51, (VIP[4],), advert_interval=0.1)
    second = RouterSettings("second", "eth0", 52, ("198.51.100.11/24",), advert_interval=0.1)
    async with Owner(bed) as owner:
        await is_true(lambda: owner.runner.is_active("outside"))
        runner = owner.runner

        def priorities():
            return {row["name"]: row["effective_priority"] for row in runner.status()}

        await runner.reroute(
            Settings((outside, second), {}), {"outside": {"service dns": -60}, "second": {"service web": -20}}
        )
        assert await runner.rerouted() == []
        assert priorities() == {"outside": 40, "second": 80}
        await runner.reroute(Settings((replace(outside, priority=130), second), {}))
        assert priorities() == {"outside": 70, "second": 80}
        runner.master_lost("the master was killed")
        third = replace(second, name="third", vrid=53, addresses=("198.51.100.12/24",))
        await runner.reroute(Settings((outside, second, third), {}), {"second": {}})
        assert priorities() == {"outside": 1, "second": 1, "third": 1}
        runner.master_back()
        assert priorities() == {"outside": 100, "second": 100, "third": 100}
        await runner.reroute(Settings((outside,), {}))
        assert await runner.rerouted() == []
        assert set(runner.counters()) >= {"outside/4"}
        assert "second/4" not in runner.counters()
        with pytest.raises(KeyError):
            runner.is_active("second")


def test_sync_groups_move_together(bed):
    """V12: two routers of a sync group are on one host, even if only one of their links goes down."""
    bed.lan("second")
    for number, name in enumerate(("a", "b"), 2):
        bed.attach(name, "second", f"203.0.113.{number}/24")
    second = {"name": "inside", "interface": "eth1", "vrid": 52, "addresses": ["203.0.113.10/24"]}
    a, b = (
        Ours(
            bed,
            name,
            FAST | {"priority": priority},
            FAST | second | {"priority": priority},
            sync_groups={"both": ["outside", "inside"]},
        )
        for name, priority in (("a", 150), ("b", 100))
    )
    until(lambda: last_states(a) == {"outside": "active", "inside": "active"}, 5, "a to be active")
    until(lambda: last_states(b) == {"outside": "backup", "inside": "backup"}, 5, "b to be backup")
    bed.ip("a", "link set eth1 down")
    until(lambda: last_states(b) == {"outside": "active", "inside": "active"}, 5, "b to take both over")
    assert owner_settles(bed, ADDRESS) == "b"
    assert last_states(a)["outside"] != "active"


def last_states(ours: Ours) -> dict[str, str]:
    """Return the last reported state of each router by name."""
    return {one["name"]: one["state"] for one in ours.events("state")}
