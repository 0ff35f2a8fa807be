"""Two whole daemons: whichever way one of them fails, one owner is left, and the events say why."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.e2e.clients import dnsperf_result, dnsperf_start, whoami_dns
from tests.e2e.pairs import ADDRESS, INTERVAL, daemons, kill_all
from tests.e2e.process import until
from tests.e2e.vrrp import Pinger

# The machine that tests run on is busy with others: what its scheduler may cost on top of a bound.
ROOM = 0.1


@pytest.fixture(scope="module")
def started():
    """Make two daemons that share an address, and start them."""
    with daemons() as made:
        made.start()
        yield made


@pytest.fixture
def pair(started):
    """Return the two daemons, healthy again after the previous tests: a is active, b backup."""
    started.restore()
    return started


@pytest.fixture(scope="module")
def started_slow():
    """Make two that advertise once a second."""
    with daemons(interval="1s") as made:
        made.start()
        yield made


@pytest.fixture
def slow(started_slow):
    """Return the two daemons, healthy again."""
    started_slow.restore()
    return started_slow


def test_the_address_serves_wherever_it_is(pair):
    """V6: clients are answered at the address, also by the other host after the first one has stopped in order."""
    pinger = Pinger(pair.bed, ADDRESS)
    assert whoami_dns(pair.bed, ADDRESS) == whoami_dns(pair.bed, ADDRESS, tcp=True) == "server"
    assert pair.a.router["priority_parts"] == {"configured": 150}
    assert pair.b.router["peer"]["priority"] == 150
    assert pair.a.daemon.stop() == 0
    assert pair.owner() == "b"
    assert whoami_dns(pair.bed, ADDRESS) == whoami_dns(pair.bed, ADDRESS, tcp=True) == "server"
    assert pinger.longest_gap() < 0.2 + ROOM
    assert pair.a.told("vrrp outside: init: shutting down: handed over to 198.51.100.3")
    assert pair.b.moves()[-1] == ("outside", "active: 198.51.100.2 left")


def test_a_killed_master(pair):
    """V18: a killed master gives the address up within 0.5 s; its orphans end by themselves, and a new master takes it back."""
    pinger = Pinger(pair.bed, ADDRESS)
    orphans = pair.a.daemon.pids()[1:]
    pair.a.daemon.proc.signal(signal.SIGKILL, whole=False)
    assert pair.until_owner("b") < 0.5
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), 10, "the orphans to end")
    assert pinger.longest_gap() < 0.5
    pair.a.start()
    assert pair.until_owner("a") < 5
    assert whoami_dns(pair.bed, ADDRESS) == "server"


def test_everything_killed(pair):
    """V14: SIGKILL of every process of both hosts leaves no address behind after 2.5 s."""
    kill_all(pair.a)
    assert pair.until_owner("b", 3) < 2.5
    kill_all(pair.b)
    until(lambda: pair.holders() == [], 2.5, "the address to be gone", every=0.02)


def test_everything_stopped(pair):
    """V14, V15: a host whose processes are all stopped loses the address within 2.5 s, and yields when they continue."""
    pair.a.daemon.proc.stop()
    until(lambda: pair.holders() == ["b"], 2.5, "b to have the address alone", every=0.02)
    pair.a.daemon.proc.cont()
    assert pair.until_owner("a", 8) < 8  # by its priority, once it has listened
    pair.steady("a", 1)


def test_no_worker_left(pair):
    """V18: when its last worker dies, a host gives up the address, and has it again when it has workers again."""
    for pid in pair.a.child("proxy.worker"):
        os.kill(pid, signal.SIGSTOP)  # so that none is restarted before the last one is dead
    for pid in pair.a.child("proxy.worker"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: pair.a.told("backup: no worker is alive"), 3, "the address to be given up", every=0.02)
    assert pair.until_owner("b", 3) < 3  # told comes first, and the address goes a moment later
    assert pair.until_owner("a", 8) < 8
    assert any(text.startswith("active") for _, text in pair.b.moves())


def test_stopped_workers(pair):
    """V18: if all workers are stopped, the host gives up the address within 1.5 s, and has it again with new workers."""
    began = time.monotonic()
    for pid in pair.a.child("proxy.worker"):
        os.kill(pid, signal.SIGSTOP)
    until(lambda: pair.a.told("backup: no worker is alive"), 3, "the address to be given up", every=0.02)
    assert time.monotonic() - began < 1.5 + ROOM
    assert pair.until_owner("b", 3) < 3
    assert pair.until_owner("a", 8) < 8


def test_a_stopped_master(pair):
    """V18: a host whose master shows no sign of life for 3 s loses the address, and has it again when the master continues."""
    pair.a.daemon.proc.signal(signal.SIGSTOP, whole=False)
    time.sleep(2)
    assert pair.holders() == ["a"]
    assert pair.until_owner("b", 3) < 2
    pair.a.daemon.proc.signal(signal.SIGCONT, whole=False)
    assert pair.until_owner("a", 5) < 5
    assert ("outside", "backup: no sign of life from the master for 3 s") in pair.a.moves()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_vrrp_process_is_replaced(slow, number):
    """V14: a killed or stopped vrrp process is replaced within the lease; with adverts every 1 s no address moves."""
    pid, spare = slow.a.child("proxy.vrrpd")
    time.sleep(1)
    os.kill(pid, number)
    slow.steady("a", 4)
    assert slow.a.child("proxy.vrrpd")[0] == spare
    slow.a.wait("active")
    assert slow.b.moves() == []
    assert slow.a.moves()[-1][1] == "active: taken over from the previous process"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_other_children_move_nothing(pair, number):
    """R10, V17: a killed or stopped health process, or one worker of two, moves no address."""
    for module in ("proxy.healthd", "proxy.worker"):
        os.kill(pair.a.child(module)[0], number)
    pair.steady("a", 2)
    assert pair.b.moves() == []


@pytest.mark.load
def test_a_busy_data_plane(pair):
    """V17: while every processor is busy relaying queries, no advert is late enough for the address to move."""
    load = dnsperf_start(pair.bed, ADDRESS, 6, outstanding=400, clients=4)
    hogs = [pair.bed.spawn("client", ["timeout", "6", "sh", "-c", "while :; do :; done"]) for _ in range(4)]
    assert dnsperf_result(load, 30).completed > 1000
    assert all(hog.wait(10) for hog in hogs)
    assert pair.holders() == ["a"]
    assert pair.b.moves() == []


def test_a_service_that_fails_here(pair):
    """V11: a host that cannot reach its backends loses the address to one that can, and takes it back when it can again."""
    pair.bed.rule("a", "output", "ip daddr 198.51.100.5 drop")
    assert pair.until_owner("b", 8) < 8
    row = pair.a.router
    assert (row["effective_priority"], row["priority_parts"]) == (90, {"configured": 150, "service dns": -60})
    assert pair.b.moves()[-1][1] == "active: our priority is higher: 100, 198.51.100.2 has 90"
    assert whoami_dns(pair.bed, ADDRESS) == "server"
    pair.bed.nft("a", "flush ruleset")
    assert pair.until_owner("a", 8) < 8
    assert pair.a.router["effective_priority"] == 150


def test_a_service_that_fails_everywhere(pair):
    """V11: if the service fails on both hosts, no address moves, because both have the same penalty."""
    pair.ns.stop()
    until(lambda: pair.a.router["effective_priority"] == 90, 8, "a to be worse")
    until(lambda: pair.b.router["effective_priority"] == 40, 8, "b to be worse")
    pair.ns.cont()
    until(lambda: pair.a.router["effective_priority"] == 150, 8, "a to be well")
    until(lambda: pair.b.router["effective_priority"] == 100, 8, "b to be well")
    assert pair.owner() == "a"


def test_a_probe_without_a_penalty_is_a_fault():
    """V11: if something fails that is tracked without a penalty, the router is in fault and has no address."""
    gateway = '[probe.gateway]\ntype = "ping"\naddress = "198.51.100.5"\ninterval = "200ms"\nfast-interval = "100ms"'
    with daemons(vrrp='track = [{ probe = "gateway" }]', more=gateway) as pair:
        pair.start()
        pair.bed.rule("a", "output", "ip protocol icmp ip daddr 198.51.100.5 drop")
        assert pair.until_owner("b", 8) < 8
        pair.a.wait("fault")
        assert pair.a.router["last_change"]["reason"] == "probe gateway"
        assert pair.a.daemon.cli("status").returncode == 1
        pair.bed.nft("a", "flush ruleset")
        assert pair.until_owner("a", 8) < 8


def test_no_election_before_the_first_verdict():
    """V24: a host takes no address before its services have verdicts, but does so after 3 s at the latest."""
    with daemons() as pair:
        pair.ns.stop()
        began = time.monotonic()
        pair.a.start(wait=False)
        pair.a.wait("active", 10)
        assert 3 * INTERVAL < time.monotonic() - began < 8
        pair.ns.cont()
        pair.a.settle()


def test_connections_are_reset_before_the_address_goes(pair):
    """V22: a client's connection through a service is reset when the address is handed over, rather than left hanging."""
    client = pair.bed.socket("client", socket.AF_INET, socket.SOCK_STREAM)
    client.settimeout(5)
    client.connect((ADDRESS, 53))
    time.sleep(0.2)
    assert pair.a.daemon.cli("standby").returncode == 0
    with pytest.raises(ConnectionResetError):
        client.recv(1)
