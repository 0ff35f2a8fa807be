"""A new version, or a restart, on a host that shares an address: the address does not move."""

import os
import signal
import socket
import time

import pytest

from proxy.moments import unix
from proxy.processes.channel import receive
from proxy.succession import protocol
from tests.e2e.clients import whoami_dns
from tests.e2e.pairs import ADDRESS, daemons
from tests.e2e.process import until
from tests.e2e.vrrp import Pinger

ROOM = 0.1  # s that the scheduler of a busy machine may cost on top of a bound


@pytest.fixture
def pair():
    """Make two daemons that share an address, and start them: a is active, b backup."""
    with daemons() as made:
        made.start()
        made.a.mark()
        made.b.mark()
        yield made


def uptime(host):
    return host.daemon.status()["uptime_s"]


def test_reexec_moves_no_address(pair):
    """R12: a reexec on the active host and one on the other cause no transition on either, and no gap at the address."""
    pinger = Pinger(pair.bed, ADDRESS)
    since = unix(pair.a.router["since"])
    for host in (pair.a, pair.b, pair.a):
        before = uptime(host)
        done = host.daemon.cli("reexec")
        assert done.returncode == 0, done.stdout + done.stderr
        assert uptime(host) < before
        pair.steady("a", 0.7)
        assert whoami_dns(pair.bed, ADDRESS) == "server"
    assert pinger.longest_gap() < 0.2 + ROOM
    assert (pair.a.moves(), pair.b.moves()) == ([], [])
    assert unix(pair.a.router["since"]) == pytest.approx(since, abs=0.1)
    assert pair.b.router["peer"]["priority"] == 150
    assert pair.owner() == "a"


def test_a_file_that_is_wrong_moves_no_address(pair):
    """R12: a reexec that fails, even after the old vrrp process has ended, leaves the address where it is."""
    text = pair.a.daemon.file.read_text()
    pair.a.daemon.file.write_text(text.replace('protocol = "dns"', 'protocol = "nds"'))
    assert pair.a.daemon.cli("reexec").returncode == 2
    pair.a.daemon.file.write_text(text)
    pair.steady("a", 0.7)
    assert pair.b.moves() == []


def test_a_restart_without_another_host(pair):
    """R12: after SIGTERM a host alone keeps the address and serves, until the next daemon takes over both."""
    pair.b.daemon.proc.kill()
    pinger = Pinger(pair.bed, ADDRESS)
    old = pair.a.daemon
    old.proc.signal(signal.SIGTERM, whole=False)
    old.until(lambda status: status["state"] == "stopping", "it to stop")
    time.sleep(0.5)
    assert whoami_dns(pair.bed, ADDRESS) == "server"
    until(lambda: pair.a.told("new clients are served until"), 5, "it to wait")
    new = pair.bed.spawn("a", [*old.base, "run", "-c", old.file], name="successor", env=old.env)
    new.ending = signal.SIGINT
    old.until(lambda status: status["state"] == "running", "the next daemon")
    assert old.proc.wait(5) == 0
    assert whoami_dns(pair.bed, ADDRESS) == "server"
    assert pair.holders() == ["a"]
    assert pinger.longest_gap() < 0.2 + ROOM
    assert pair.a.moves() == []


def test_a_stop_beside_another_host(pair):
    """V6: after SIGTERM a host whose peer lives hands the address over and then takes no new clients."""
    pinger = Pinger(pair.bed, ADDRESS)
    pair.a.daemon.proc.signal(signal.SIGTERM, whole=False)
    assert pair.until_owner("b") < 1
    assert pair.a.daemon.proc.wait(10) == 0
    assert whoami_dns(pair.bed, ADDRESS) == "server"
    assert pinger.longest_gap() < 0.2 + ROOM


def test_a_successor_that_dies_leaves_the_address(pair):
    """R12: if a successor dies after the old vrrp process has ended for it, the address is adopted again within its lease."""
    pair.b.daemon.proc.kill()
    old = pair.a.daemon
    old.proc.signal(signal.SIGTERM, whole=False)
    until(lambda: pair.a.told("new clients are served until"), 5, "it to wait")
    pinger = Pinger(pair.bed, ADDRESS)
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(old.socket))
        control.sendall(b'{"command": "take-over"}\n')
        _, fds, _, _ = socket.recv_fds(control, 65536, 1)
    with socket.socket(fileno=fds[0]) as sock:
        sock.settimeout(10)
        sock.send(b"J" + protocol.encode(protocol.Ready(1)))
        message = None
        while not isinstance(message, protocol.Go):
            message, more = receive(sock, codec=protocol.decode)
            for fd in more:
                os.close(fd)
    until(lambda: pair.a.told("this daemon goes on"), 5, "it to go on")
    pair.steady("a", 3)
    assert pinger.longest_gap() < 0.2 + ROOM
    assert pair.a.moves() == []
    assert whoami_dns(pair.bed, ADDRESS) == "server"
