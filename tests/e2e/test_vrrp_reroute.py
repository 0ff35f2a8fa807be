"""New settings for virtual routers that run: what is equal does not move, and what differs changes where it stands."""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.bed import Bed
from tests.e2e.process import until
from tests.e2e.vrrp import LINK_LOCAL_VIP, VIP, Adverts, Ours, Pinger, holders, owner_settles, pair
from tests.e2e.watch import addresses_now

ADDRESS, ADDRESS6 = (VIP[family].partition("/")[0] for family in (4, 6))
SECOND = "198.51.100.11"
A, B = "198.51.100.2", "198.51.100.3"
FAST = {"advert_interval": 0.1}
SLOW = {"advert_interval": 0.3}
OTHER = FAST | {"name": "second", "vrid": 52, "addresses": [f"{SECOND}/24"]}


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make two hosts and a client on a LAN."""
    with pair() as made:
        yield made


def both(bed: Bed, *routers: dict, **more: object) -> tuple[Ours, Ours]:
    """Start the routers on both hosts, a with priority 150 and b with 100."""
    a, b = (
        Ours(bed, name, *({"priority": priority} | one for one in routers), **more)
        for name, priority in (("a", 150), ("b", 100))
    )
    until(lambda: states(a) == dict.fromkeys(states(a), "active"), 5, "a to be active", every=0.02)
    until(lambda: set(states(b).values()) == {"backup"}, 5, "b to be backup", every=0.02)
    return a, b


def states(ours: Ours) -> dict[str, str]:
    """Return the last state of each router by name."""
    return {one["name"]: one["state"] for one in ours.events("state")}


def test_priority_changes_without_a_move(bed):
    """R3: another priority is in the next advert, which comes at once, and no router moves."""
    a, b = both(bed, FAST)
    wire = Adverts(bed)
    assert a.reroute(FAST | {"priority": 120}) == []
    until(lambda: any(priority == 120 for _, priority, _ in wire.of(A)), 1, "the new priority on the wire")
    time.sleep(0.5)
    assert (a.moves(), b.moves()) == (["backup", "active"], ["backup"])
    assert wire.longest_gap(A) < 0.15
    assert a.report()["routers"][0]["priority"] == 120
    assert b.reroute(FAST | {"priority": 130}) == []
    b.wait("active")
    assert b.events("state")[-1]["reason"] == f"our priority is higher: 130, {A} has 120"


def test_equal_settings_are_not_touched(bed):
    """R3: settings that are equal send nothing more, announce nothing, and leave each counter as it was."""
    a, _ = both(bed, SLOW)
    until(lambda: a.report()["counters"]["outside/4"]["announced"] == 5, 3, "the announcements")
    before = a.report()
    for _ in range(5):
        assert a.reroute(SLOW | {"priority": 150}) == []
    after = a.report()
    assert after["routers"][0]["since"] == before["routers"][0]["since"]
    assert after["counters"]["outside/4"]["announced"] == before["counters"]["outside/4"]["announced"]
    sent = after["counters"]["outside/4"]["adverts_sent"] - before["counters"]["outside/4"]["adverts_sent"]
    assert sent <= (after["at"] - before["at"]) / 0.3 + 1
    assert "transitions" in after["counters"]["outside/4"]
    assert a.moves() == ["backup", "active"]


@contextmanager
def connected(bed: Bed, address: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make a connection from the client to an address of host a; yield both ends."""
    with bed.inside("a"):
        door = socket.create_server((address, 8080))
    with bed.inside("client"):
        near = socket.create_connection((address, 8080), 2)
    with door, near, door.accept()[0] as far:
        yield near, far


def shown(bed: Bed, *what: str) -> str:
    """Return what `ip` shows on host a."""
    return bed.run("a", ["ip", *what]).stdout


def test_addresses_come_and_go(bed):
    """R3: a new address is installed, announced and advertised; one that is gone is removed, and its connections with it."""
    a, b = both(bed, FAST | {"addresses": [VIP[4], f"{SECOND}/24"]})
    wire = Adverts(bed)
    third = "198.51.100.12"
    with connected(bed, ADDRESS) as (kept, kept_far), connected(bed, SECOND) as (gone, _):
        assert a.reroute(FAST | {"priority": 150, "addresses": [VIP[4], f"{third}/24"]}) == []
        assert {ADDRESS, third} <= set(addresses_now(bed, "a"))
        assert SECOND not in addresses_now(bed, "a")
        gone.settimeout(2)
        with pytest.raises(ConnectionResetError):
            gone.recv(1)
        kept.sendall(b"x")
        assert kept_far.recv(1) == b"x"
    bed.run("client", ["ping", "-c", "1", "-W", "1", third])
    until(lambda: re.search(rf"\b{third}\b", wire.of(A)[-1][2]), 1, "the new address in an advert")
    assert b.reroute(FAST | {"addresses": [VIP[4], f"{third}/24"]}) == []
    time.sleep(0.5)
    assert (a.moves(), b.moves()) == (["backup", "active"], ["backup"])
    assert not {ADDRESS, SECOND, third} & set(addresses_now(bed, "b"))
    a.proc.kill()
    b.wait("active")
    until(lambda: {ADDRESS, third} <= set(addresses_now(bed, "b")), 2, "b to have the new addresses")


def test_another_prefix_changes_in_place(bed):
    """R3: an address with another prefix is never away, and an advert is not missed."""
    a, b = both(bed, FAST | {"addresses": ["203.0.113.10/24"]})
    assert a.reroute(FAST | {"priority": 150, "addresses": ["203.0.113.10/25"]}) == []
    assert re.findall(r"203.0.113.10/\d+", shown(bed, "addr", "show", "dev", "eth0")) == ["203.0.113.10/25"]
    time.sleep(2.5)
    assert holders(bed, "203.0.113.10") == ["a"]
    assert not any("removed" in one["text"] for one in a.events("tell"))
    assert (a.moves(), b.moves()) == (["backup", "active"], ["backup"])


def test_a_router_comes_and_goes_beside_another(bed):
    """R3: a router that is added or removed is no matter of the others: no advert of theirs is late, and none of them moves."""
    a, b = both(bed, FAST)
    wire = Adverts(bed)
    first = FAST | {"priority": 150}
    assert a.reroute(first, OTHER | {"priority": 150}) == []
    assert b.reroute(FAST, OTHER) == []
    until(lambda: states(a).get("second") == "active", 3, "the new router to be active")
    until(lambda: holders(bed, SECOND) == ["a"], 2, "its address", every=0.02)
    assert a.reroute(first) == []
    assert SECOND not in addresses_now(bed, "a")
    until(lambda: states(b)["second"] == "active", 1, "b to take over what a has no longer")
    assert a.events("state")[-1]["name"] == "second"
    assert a.events("state")[-1]["state"] == "init"
    assert wire.of(A, 52)[-1][1] == 0
    assert b.reroute(FAST) == []
    time.sleep(0.3)
    assert holders(bed, SECOND) == []
    assert (a.moves("outside"), b.moves("outside")) == (["backup", "active"], ["backup"])
    assert wire.longest_gap(A) < 0.15


def test_ipv6_joins_ipv4(bed):
    """R3, V12: an IPv6 address that joins an IPv4 router takes nothing away: both are active here, and no name has moved."""
    a, b = both(bed, FAST)
    wire = Adverts(bed)
    addresses = {"addresses": [VIP[4], VIP[6], LINK_LOCAL_VIP]}
    assert a.reroute(FAST | addresses | {"priority": 150}) == []
    until(lambda: holders(bed, ADDRESS6) == ["a"], 3, "the IPv6 address")
    assert b.reroute(FAST | addresses) == []
    time.sleep(0.5)
    assert (a.moves(), b.moves()) == (["backup", "active"], ["backup"])
    assert wire.longest_gap(A) < 0.15
    assert a.reroute(FAST | {"priority": 150}) == []
    assert ADDRESS6 not in addresses_now(bed, "a")
    assert b.reroute(FAST) == []
    time.sleep(0.5)
    assert (a.moves(), b.moves()) == (["backup", "active"], ["backup"])
    assert owner_settles(bed, ADDRESS) == "a"
    assert holders(bed, ADDRESS6) == []


def test_another_name_is_no_move(bed):
    """R3: a router that gets another name is the same router, and has its state under that name."""
    a, _ = both(bed, FAST)
    since = a.report()["routers"][0]["since"]
    assert a.reroute(FAST | {"priority": 150, "name": "outer"}) == []
    row = a.report()["routers"][0]
    assert (row["name"], row["state"], row["since"]) == ("outer", "active", since)
    assert a.report()["handover"]["outer"][0] == "active"
    assert a.moves() == ["backup", "active"]


def test_another_vrid_is_another_router(bed):
    """A router with another VRID leaves as the old one and starts as the new one, and has the address in the end."""
    a, b = both(bed, FAST)
    wire = Adverts(bed)
    b.proc.terminate()
    b.proc.wait(3)
    assert a.reroute(FAST | {"priority": 150, "vrid": 60}) == []
    until(lambda: wire.of(A)[-1][1] == 0, 1, "the old router to leave")
    until(lambda: len(wire.of(A, 60)) > 5, 3, "the new router to advertise")
    assert a.state == "active"
    assert owner_settles(bed, ADDRESS) == "a"
    assert not any("removed" in one["text"] for one in a.events("tell")), "each took the other's address away"


def test_an_address_changes_its_router(bed):
    """R3: an address that goes from one active router to another is never away, and connections through it go on."""
    a = Ours(bed, "a", FAST | {"addresses": [VIP[4], f"{SECOND}/24"]}, OTHER | {"addresses": ["198.51.100.12/24"]})
    until(lambda: states(a) == {"outside": "active", "second": "active"}, 5, "a to be active")
    with connected(bed, SECOND) as (near, far):
        assert a.reroute(FAST, OTHER | {"addresses": ["198.51.100.12/24", f"{SECOND}/24"]}) == []
        assert SECOND in addresses_now(bed, "a")
        near.sendall(b"x")
        assert far.recv(1) == b"x"
    assert not any("removed" in one["text"] for one in a.events("tell"))
    assert a.reroute(FAST) == []
    assert SECOND not in addresses_now(bed, "a")


def test_tracks_come_and_go(bed):
    """R3, V11: penalties and faults of interfaces follow other tracks at once, for a new router as for one that was there."""
    bed.lan("second")
    bed.attach("a", "second", "203.0.113.2/24")
    bed.ip("a", "link set eth1 down")
    a = Ours(bed, "a", FAST | {"priority": 150})
    a.wait("active")

    def tracked(*tracks: dict, more: tuple[dict, ...] = ()) -> list[tuple[str, int, str]]:
        a.reroute(*(one | {"priority": 150, "track": list(tracks)} for one in (FAST, *more)))
        return [(row["name"], row["effective_priority"], row["state"]) for row in a.report()["routers"]]

    assert tracked({"interface": "eth1", "penalty": 60}) == [("outside", 90, "active")]
    assert tracked({"interface": "eth1", "penalty": 10}) == [("outside", 140, "active")]
    assert tracked({"interface": "eth1"}) == [("outside", 150, "fault")]
    assert tracked({"interface": "eth1"}, more=(OTHER,)) == [("outside", 150, "fault"), ("second", 150, "fault")]
    assert a.events("state")[-1]["reason"] == "interface eth1"
    rows = tracked({"interface": "eth1", "penalty": 20}, more=(OTHER,))
    assert {row[:2] for row in rows} == {("outside", 130), ("second", 130)}
    until(lambda: states(a) == {"outside": "active", "second": "active"}, 2, "the faults to be over")
    assert {row[1] for row in tracked(more=(OTHER,))} == {150}
    bed.ip("a", "link set eth1 up")
    assert {row[1] for row in tracked(more=(OTHER,))} == {150}


def test_unicast_and_back(bed):
    """R3, V10: adverts go to the peers as soon as both hosts have them, and to the group again, without a move."""
    a, b = both(bed, SLOW)
    wire = Adverts(bed)
    a.reroute(SLOW | {"priority": 150, "peers": [B]})
    b.reroute(SLOW | {"peers": [A]})
    time.sleep(1.5)
    assert (a.moves(), b.moves()) == (["backup", "active"], ["backup"])
    silent = len(wire.of(A))
    time.sleep(0.8)
    assert len(wire.of(A)) == silent, "the client sees no advert to a peer"
    b.reroute(SLOW)
    a.reroute(SLOW | {"priority": 150})
    until(lambda: len(wire.of(A)) > silent + 3, 3, "adverts to the group")
    assert (a.moves(), b.moves()) == (["backup", "active"], ["backup"])


def auth(mode: str, *keys: int) -> dict:
    """Return the settings of signed adverts: the first key signs."""
    return {"auth": {"mode": mode, "keys": [[key, f"{key:02x}" * 32] for key in keys]}}


def test_keys_are_rotated(bed):
    """R3: signatures are switched on and get another key, host by host, and no router moves."""
    a, b = both(bed, SLOW)
    steps = [
        auth("permissive", 1),
        auth("enforce", 1),
        auth("enforce", 1, 2),
        auth("enforce", 2, 1),
        auth("enforce", 2),
    ]
    for step in steps:
        a.reroute(SLOW | {"priority": 150} | step)
        time.sleep(0.4)
        b.reroute(SLOW | step)
        time.sleep(0.4)
    heard = b.report()["counters"]["outside/4"]["adverts_received"]
    until(lambda: b.report()["counters"]["outside/4"]["adverts_received"] > heard + 2, 3, "b to accept the new key")
    assert (a.moves(), b.moves()) == (["backup", "active"], ["backup"])


def test_another_advert_interval(bed):
    """R3: the backup learns another interval of the active router from its adverts, longer or shorter."""
    a, b = both(bed, FAST)
    wire = Adverts(bed)
    for interval in (1.0, 0.1, 0.5):
        assert a.reroute({"priority": 150, "advert_interval": interval}) == []
        time.sleep(1.2)
    assert (a.moves(), b.moves()) == (["backup", "active"], ["backup"])
    assert wire.longest_gap(A) < 1.2
    b.reroute({"advert_interval": 0.5})
    time.sleep(0.6)
    assert b.moves() == ["backup"]


def test_the_virtual_ethernet_address_comes_and_goes(bed):
    """R3: with and without its own Ethernet address the router goes on, and clients lose next to nothing."""
    a, b = both(bed, FAST)
    pinger = Pinger(bed, ADDRESS)
    assert a.reroute(FAST | {"priority": 150, "virtual_mac": True}) == []
    until(lambda: "vr" in shown(bed, "-o", "link", "show", "type", "macvlan"), 2, "the interface of the virtual router")
    time.sleep(0.5)
    assert ADDRESS not in shown(bed, "-o", "addr", "show", "dev", "eth0")
    assert a.reroute(FAST | {"priority": 150}) == []
    time.sleep(0.5)
    assert shown(bed, "-o", "link", "show", "type", "macvlan") == ""
    assert ADDRESS in shown(bed, "-o", "addr", "show", "dev", "eth0")
    assert pinger.longest_gap() < 0.5
    assert (a.moves(), b.moves()) == (["backup", "active"], ["backup"])


def test_sync_groups_come_and_go(bed):
    """R3, V12: routers that are on one host are grouped and parted without a move, and move together while grouped."""
    a, b = both(bed, FAST, OTHER)
    group = {"sync_groups": {"both": ["outside", "second"]}}
    wire = Adverts(bed)
    routers = [FAST | {"priority": 150}, OTHER | {"priority": 150}]
    assert a.reroute(*routers, **group) == []
    assert b.reroute(FAST, OTHER, **group) == []
    time.sleep(0.6)
    assert set(states(a).values()) == {"active"}
    assert len(a.moves()) == 4
    assert wire.longest_gap(A) < 0.15
    assert wire.longest_gap(A, 52) < 0.15
    a.reroute(routers[0], routers[1] | {"priority": 50}, **group)
    until(lambda: set(states(b).values()) == {"active"}, 3, "both to move")
    a.reroute(routers[0], routers[1] | {"priority": 50})
    b.reroute(FAST, OTHER)
    until(lambda: states(a) == {"outside": "active", "second": "backup"}, 3, "each to be where its priority is higher")


def test_what_leaves_is_told_where_it_was_told_before(bed):
    """V20: the move of a router that leaves reaches the notifications that it had, and those that are new hear the rest."""
    readers = {}
    for name in ("old", "new"):
        os.mkfifo(bed.dir / name)
        readers[name] = os.open(bed.dir / name, os.O_RDONLY | os.O_NONBLOCK)
    a = Ours(bed, "a", FAST, OTHER, notify=[{"fifo": str(bed.dir / "old"), "on": ["outside", "second"]}])
    until(lambda: states(a) == {"outside": "active", "second": "active"}, 5, "a to be active")
    until(lambda: os.read(readers["old"], 4096).count(b"\n") == 4, 2, "the moves at the start")
    remaining = [{"fifo": str(bed.dir / name), "on": ["outside"]} for name in ("old", "new")]
    assert a.reroute(FAST, notify=remaining) == []
    until(lambda: os.read(readers["old"], 4096) == b'INSTANCE "second" STOP 100\n', 2, "the last move")
    a.reroute(FAST | {"vrid": 60}, notify=[{"fifo": str(bed.dir / "new")}])
    wanted = b'INSTANCE "outside" BACKUP 100\nINSTANCE "outside" MASTER 100\n'
    time.sleep(1)
    assert os.read(readers["new"], 4096) == wanted
    for reader in readers.values():
        os.close(reader)


def test_a_fault_is_named(bed):
    """What cannot be is named: a new router on an interface that is not there is in fault, and the other goes on."""
    a, _ = both(bed, FAST)
    faults = a.reroute(FAST | {"priority": 150}, OTHER | {"interface": "eth7"})
    assert faults == ["second: the interface has no IPv4 address of this host to send from; the link is down"]
    assert states(a) == {"outside": "active", "second": "fault"}
    assert a.reroute(FAST | {"priority": 150}) == []
    assert a.moves("outside") == ["backup", "active"]


def test_a_router_that_comes_back_while_it_leaves(bed):
    """A router that is in the settings again before it has left is started anew."""
    slow = {"advert_interval": 2.0}
    a = Ours(bed, "a", slow | {"priority": 255, "addresses": ["203.0.113.10/24"]}, FAST | OTHER)
    until(lambda: states(a) == {"outside": "active", "second": "active"}, 5, "a to be active")
    a.write(FAST | OTHER)
    a.proc.signal(signal.SIGQUIT, whole=False)
    time.sleep(0.3)
    a.reroute(slow | {"priority": 255, "addresses": ["203.0.113.10/24"]}, FAST | OTHER)
    assert a.moves("outside") == ["active", "init", "active"]
    until(lambda: holders(bed, "203.0.113.10") == ["a"], 1, "the address")
    time.sleep(2.5)
    assert holders(bed, "203.0.113.10") == ["a"]
    assert a.moves("second") == ["backup", "active"]
