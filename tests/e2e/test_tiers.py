"""Which backends serve: tiers, quorum, failover without failback, fail-open, operators' commands; with two workers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.e2e.loopback import (
    PROBE,
    QUICK,
    ROOT,
    Backend,
    Node,
    connected,
    exchange,
    free_port,
    lift_loopback,
)
from tests.e2e.process import until

NAMES = ("b0", "b1", "b2")


@pytest.fixture
def backends():
    """Make three echo servers; a `silent` one fails its probe, but still accepts connections."""
    lift_loopback()
    made = [Backend() for _ in NAMES]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def serve(tmp_path, backends):
    """Start a daemon with one service over them, of which the last one is a backup."""
    nodes = []

    def start(keys, backup="backup = true"):
        port = free_port()
        rows = ", ".join(
            f'{{ name = "{name}", address = "127.0.0.1", port = {one.port}{f", {backup}" if name == "b2" else ""} }}'
            for name, one in zip(NAMES, backends, strict=True)
        )
        probe = f'probe = {{ type = "dns", query = "{PROBE} A", transport = "udp", fall = 1, rise = 1, {QUICK} }}'
        nodes.append(
            Node(tmp_path, f'[service.s]\nlisten = ["127.0.0.1:{port}/tcp"]\nbackends = [{rows}]\n{probe}\n{keys}\n')
        )
        return nodes[0].start(), port

    yield start
    for node in nodes:
        node.end()


def serving(status):
    """Return the names of those that get new connections."""
    return [one["name"] for one in status["services"][0]["backends"] if one["effective_weight"]]


def served(port, backends, count=16):
    """Open connections and exchange a word over each; return the names of their backends."""
    before = [one.connections for one in backends]
    for _ in range(count):
        with connected(port) as sock:
            assert exchange(sock, b"word") == b"word"
    return [name for name, one, had in zip(NAMES, backends, before, strict=True) if one.connections > had]


def test_a_backup_serves_below_the_quorum(serve, backends):
    """H14: below the quorum the next tier serves; at the quorum and its hysteresis the first one serves again, with events."""
    node, port = serve('quorum = 1\nquorum-hysteresis = 1\non-failback = "reset"')
    assert serving(node.status()) == ["b0", "b1"]
    assert served(port, backends) == ["b0", "b1"]
    backends[0].silent = True
    node.until(lambda status: serving(status) == ["b1"], "one to be left")
    assert served(port, backends) == ["b1"]
    backends[1].silent = True
    node.until(lambda status: serving(status) == ["b2"], "the backup to serve")
    assert node.told("service s", "tier 1 serves: 0 of 2 up in tier 0")
    assert served(port, backends) == ["b2"]
    with connected(port) as kept:
        assert exchange(kept, b"one") == b"one"
        backends[0].silent = False
        node.until(lambda status: status["services"][0]["backends"][0]["state"] == "up", "the first to be up")
        assert serving(node.status()) == ["b2"]  # one is the quorum, two are its hysteresis
        assert exchange(kept, b"two") == b"two"
        backends[1].silent = False
        node.until(lambda status: serving(status) == ["b0", "b1"], "the first tier to serve")
        with pytest.raises(ConnectionResetError):
            kept.recv(10)
    assert served(port, backends) == ["b0", "b1"]
    assert node.fresh()["services"][0]["counters"]["reset_on_failback"] == 1


def test_failover_stays_where_it_is(serve, backends):
    """H14: without failback a failover service stays with the backend that took over, also in a new worker."""
    node, port = serve('scheduler = "failover"\nfailback = false', backup="weight = 1")
    assert served(port, backends) == ["b0"]
    backends[0].silent = True
    node.until(lambda status: serving(status) == ["b1"], "the second to serve")
    assert node.told("service s", "b1 serves, no longer b0")
    with connected(port) as kept:
        assert exchange(kept, b"one") == b"one"
        backends[0].silent = False
        node.until(lambda status: status["services"][0]["backends"][0]["state"] == "up", "the first to be up")
        assert served(port, backends) == ["b1"]
        assert exchange(kept, b"two") == b"two"
    (old, _) = node.workers()
    os.kill(old, signal.SIGKILL)
    node.until(lambda status: old not in [one["pid"] for one in status["workers"] if one["alive"]], "its end")
    node.until(lambda status: all(one["alive"] for one in status["workers"]), "a new worker")
    assert served(port, backends) == ["b1"]


@pytest.mark.parametrize("fail_open", [False, True])
def test_nobody_is_fit(serve, backends, fail_open):
    """H14, T10: with every backend down all are used, or clients are refused, as configured; the backup too."""
    node, port = serve(f"fail-open = {str(fail_open).lower()}")
    for one in backends:
        one.silent = True
    states = node.until(
        lambda status: all(one["state"] == "down" for one in status["services"][0]["backends"]), "all to be down"
    )
    assert states["services"][0]["state"] == ("degraded" if fail_open else "down")
    if fail_open:
        node.until(lambda status: serving(status) == list(NAMES), "all to serve")
        assert node.told("service s", "fail-open, all 3 serve")
        assert served(port, backends, 30) == list(NAMES)
    else:
        with pytest.raises(ConnectionResetError), connected(port) as sock:  # perhaps before connect() has returned
            sock.recv(10)
        assert node.told("service s", "nobody serves")
    backends[1].silent = False
    node.until(lambda status: serving(status) == ["b1"], "one to be fit again")
    assert served(port, backends) == ["b1"]


def test_drained_in_the_file(serve, backends):
    """T16, H14: a backend that the file drains gets nothing, is probed, and does not degrade the service."""
    node, port = serve("", backup='admin = "drain"')
    assert served(port, backends) == ["b0", "b1"]
    service = node.fresh()["services"][0]
    last = service["backends"][2]
    assert (service["state"], last["state"], last["admin"], last["effective_weight"]) == ("up", "up", "drain", 0)
    assert last["admin_by"] == "the configuration file"


def test_drained_by_an_operator(serve, backends):
    """T16: a drained backend gets nothing new and keeps its connections until the deadline; all workers agree."""
    node, port = serve("", backup="weight = 1")
    held = []
    while not backends[2].connections:
        held.append(socket.create_connection(("127.0.0.1", port), timeout=5))
        exchange(held[-1], b"word")
    code, text = node.steelyard("drain", "s", "b2", "--reason", "new disks", "--timeout", "1500ms")
    assert (code, text.splitlines()[-1]) == (0, "changed")
    assert "new disks" in text
    assert served(port, backends) == ["b0", "b1"]
    assert exchange(held[-1], b"still") == b"still"
    last = node.fresh()["services"][0]["backends"][2]
    assert (last["admin"], last["admin_reason"], last["state"]) == ("drain", "new disks", "up")
    assert node.steelyard("drain", "s", "b2")[1].splitlines()[-1] == "nothing changed"
    assert node.steelyard("status")[0] == 0
    with pytest.raises(ConnectionResetError):
        held[-1].recv(10)
    assert node.told("s/b2", "drained for 1500ms, 1 left: cut")
    for sock in held[:-1]:
        assert exchange(sock, b"kept") == b"kept"
        sock.close()
    held[-1].close()
    assert node.steelyard("ready", "*", "b2")[0] == 0
    assert served(port, backends) == list(NAMES)


def test_waiting_for_a_drain(serve, backends):
    """T16: with --wait the command returns when the last connection has ended."""
    node, port = serve("", backup="weight = 1")
    with connected(port) as kept:
        exchange(kept, b"word")
        name = NAMES[next(place for place, one in enumerate(backends) if one.connections)]
        command = [sys.executable, "-P", "-m", "proxy", "-s", str(node.socket), "drain", "s", name, "--wait", "--json"]
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as waits:
            node.until(lambda status: name not in serving(status), "the drain")
            with pytest.raises(subprocess.TimeoutExpired):
                waits.wait(0.5)
            kept.close()
            assert waits.wait(10) == 0
            assert waits.stdout is not None
            assert json.loads(waits.stdout.read())["backends"][0]["active"] == 0


def test_maintenance(serve, backends):
    """T16, H1, R9: maintenance resets connections, ends probing and survives a restart; the first pass brings the backend back.

    For the last backend that could serve it needs --force.
    """
    node, port = serve("", backup="weight = 1")
    with connected(port) as lost:
        exchange(lost, b"word")
        code, text = node.steelyard("maint", "s", "127.0.0.1", "--save")
        assert (code, text) == (1, "steelyard: no other backend of s can serve now: use --force to do it anyway\n")
        assert exchange(lost, b"still") == b"still"
        assert node.steelyard("maint", "s", "127.0.0.1", "--save", "--force")[0] == 0
        with pytest.raises(ConnectionResetError):
            lost.recv(10)
    assert node.steelyard("ready", "s", "b0")[0] == 0
    node.until(lambda status: serving(status) == ["b0"], "one to be ready")
    time.sleep(0.3)  # what was under way
    probes = backends[1].probes
    node.until(
        lambda status: status["services"][0]["backends"][1]["reason"] == "in maintenance, not probed", "maintenance"
    )
    assert served(port, backends) == ["b0"]
    assert backends[1].probes == probes
    assert "in maintenance, which is not probed" in node.steelyard("probe", "s", "b1")[1]
    node.end()
    node.start(ready=False)
    until(node.socket.exists, 10, "the daemon")
    status = node.until(lambda status: serving(status) == ["b0"], "the first to be up again")
    assert status["config"]["overrides"] == 2
    code, text = node.steelyard("overrides")
    assert (code, text.count("maint"), "b1" in text) == (0, 2, True)
    assert node.steelyard("overrides", "clear")[1].splitlines()[-1] == "changed"
    node.until(lambda status: serving(status) == list(NAMES), "all to serve")


def test_what_an_operator_cannot_mean(serve):
    """R7: mistakes are explained, with the documented exit status."""
    node, _ = serve("")
    assert node.steelyard("drain", "x", "b0") == (64, 'steelyard: there is no service "x": only s\n')
    assert node.steelyard("maint", "s", "b9") == (64, 'steelyard: s does not have a backend "b9": only b0, b1, b2\n')
    assert node.steelyard("drain", "s", "b0", "--timeout", "never")[0] == 64
    assert node.steelyard("drain", "s", "b0", "--timeout", "soon")[0] == 64
    assert node.steelyard("drain", "s")[0] == 64
    assert node.steelyard("overrides") == (0, "no overrides: all is as the file says\n")
