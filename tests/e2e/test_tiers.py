"""Who serves (H14): tiers, quorum, failover without failback and fail-open, through a daemon with two workers."""

import os
import signal

import pytest

from tests.e2e.loopback import (
    PROBE,
    QUICK,
    Backend,
    Node,
    connected,
    exchange,
    free_port,
    lift_loopback,
)

NAMES = ("b0", "b1", "b2")


@pytest.fixture
def backends():
    """Make three echo servers; one that is `silent` fails its probe, and still takes connections."""
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
    """Open connections, each with a word and back; the names of those that had some."""
    before = [one.connections for one in backends]
    for _ in range(count):
        with connected(port) as sock:
            assert exchange(sock, b"word") == b"word"
    return [name for name, one, had in zip(NAMES, backends, before, strict=True) if one.connections > had]


def test_a_backup_serves_below_the_quorum(serve, backends):
    """H14: below the quorum the next tier serves; at the quorum and its hysteresis the first one does, and it is told."""
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
    assert node.status()["services"][0]["counters"]["reset_on_failback"] == 1


def test_failover_stays_where_it_is(serve, backends):
    """H14: without failback a failover service stays with the one that took over, in a new worker too."""
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
        with connected(port) as sock, pytest.raises(ConnectionResetError):
            sock.recv(10)
        assert node.told("service s", "nobody serves")
    backends[1].silent = False
    node.until(lambda status: serving(status) == ["b1"], "one to be fit again")
    assert served(port, backends) == ["b1"]


def test_drained_in_the_file(serve, backends):
    """T16, H14: a backend that the file drains gets nothing, is probed, and does not degrade the service."""
    node, port = serve("", backup='admin = "drain"')
    assert served(port, backends) == ["b0", "b1"]
    service = node.status()["services"][0]
    last = service["backends"][2]
    assert (service["state"], last["state"], last["admin"], last["effective_weight"]) == ("up", "up", "drain", 0)
    assert last["admin_by"] == "the configuration file"
