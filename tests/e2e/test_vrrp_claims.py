"""A vrrp process that outlived its daemon, and its successor on the same host: the successor has the address."""

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bed import Bed
from tests.e2e.pairs import daemons
from tests.e2e.process import until
from tests.e2e.vrrp import VIP, Capture, Ours, holders, owner_settles, pair

ADDRESS = VIP[4].partition("/")[0]
BOTH = {"advert_interval": 0.1, "addresses": list(VIP.values())}


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make two hosts and a client on a LAN."""
    with pair() as made:
        yield made


def leavings(bed: Bed, wire: Capture) -> list[str]:
    """Return the adverts of priority 0 that host a has sent so far."""
    mac = json.loads(bed.run("a", ["ip", "-j", "link", "show", "dev", "eth0"]).stdout)[0]["address"]
    return [one for one in wire.packets() if one.split()[1] == mac and re.search(r"prio 0\b", one)]


def test_a_successor_takes_over_without_a_word(bed):
    """A process that starts beside another one of the same host takes its routers; the other ends and sends nothing more."""
    first = Ours(bed, "a", BOTH | {"priority": 150})
    other = Ours(bed, "b", BOTH | {"priority": 100})
    first.wait("active")
    other.wait("backup")
    wire = Capture(bed, "client", "ip proto 112 or ip6 proto 112")
    second = Ours(bed, "a", BOTH | {"priority": 150})
    assert first.proc.wait(3) == 0
    assert first.events("state")[-2]["reason"] == f"taken over by process {second.proc.pid} of this host"
    until(
        lambda: any(f"from process {first.proc.pid} of" in one["text"] for one in second.events("tell")), 2, "its name"
    )
    second.wait("active")
    assert owner_settles(bed, ADDRESS) == "a"
    assert leavings(bed, wire) == []


def test_a_stopped_process_wakes_beside_its_successor(bed):
    """V15: a stopped process that wakes after another one has taken its router sends nothing and removes nothing."""
    first = Ours(bed, "a", BOTH | {"priority": 150})
    first.wait("active")
    first.proc.stop()
    second = Ours(bed, "a", BOTH | {"priority": 150})
    second.wait("active")
    assert owner_settles(bed, ADDRESS) == "a"
    wire = Capture(bed, "client", "ip proto 112 or ip6 proto 112")
    first.proc.cont()
    assert first.proc.wait(3) == 0
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        assert holders(bed, ADDRESS) == ["a"]
        time.sleep(0.02)
    assert leavings(bed, wire) == []
    assert second.moves() == ["backup", "active"]
    counters = second.report()["counters"]
    assert not any(one.get("address_removed") for one in counters.values())


def test_an_orphan_ends_when_the_daemon_starts_anew():
    """A new daemon that finds the vrrp process of a killed master takes the address without a conflict."""
    with daemons(node={"stop-timeout": '"30s"'}) as pair:
        pair.start()
        orphan = pair.a.child("proxy.vrrpd")[0]
        pair.b.daemon.proc.kill()  # nobody else is there to take it
        old = pair.a.daemon
        old.proc.signal(signal.SIGKILL, whole=False)
        until(lambda: pair.holders() == ["a"], 10, "the orphan to take the address back")
        wire = Capture(pair.bed, "client", "ip proto 112")
        pair.a.start()
        until(lambda: not Path(f"/proc/{orphan}").exists(), 5, "the orphan to end")
        pair.a.wait("active")
        pair.steady("a", 2)
        assert leavings(pair.bed, wire) == []
