"""Clients that keep their backend, in a daemon with two workers."""

import os
import signal
import socket
from contextlib import ExitStack

import pytest

from tests.e2e.loopback import QUICK, Backend, Node, exchange, free_port, lift_loopback, settled
from tests.e2e.process import until

PARALLEL = 20


@pytest.fixture
def backends():
    three = [Backend() for _ in range(3)]
    yield three
    for one in three:
        one.close()


@pytest.fixture
def kept(backends, tmp_path):
    """A daemon with a service whose clients keep their backends for a minute, and one with 600 ms."""
    lift_loopback()
    rows = ", ".join(
        f'{{ name = "b{at}", address = "127.0.0.1", port = {one.port} }}' for at, one in enumerate(backends)
    )
    ports = free_port(), free_port()
    services = "".join(
        f'[service.{name}]\nlisten = ["127.0.0.1:{port}/tcp"]\nscheduler = "round-robin"\nbackends = [{rows}]\n'
        f'persistence = {{ timeout = "{timeout}", ipv4-prefix = 24 }}\nprobe = {{ type = "tcp", {QUICK} }}\n'
        for name, port, timeout in zip(("long", "short"), ports, ("1m", "600ms"), strict=True)
    )
    node = Node(tmp_path, services).start()
    yield node, *ports
    node.end()


def totals(node, name):
    """Return how many connections each backend of a service was given."""
    (service,) = [one for one in node.fresh()["services"] if one["name"] == name]
    return [backend["total"] for backend in service["backends"]]


def connect(node, name, port, source, count=1):
    """Open `count` connections in parallel; return the places of their backends."""
    before = totals(node, name)
    with ExitStack() as held:
        socks = []
        for _ in range(count):
            sock = held.enter_context(socket.socket())
            sock.settimeout(5)
            sock.bind((source, 0))
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            socks.append(sock)
        for sock in socks:
            sock.setblocking(True)
            sock.settimeout(5)
            assert exchange(sock, b"hello") == b"hello"
    after = totals(node, name)
    assert sum(after) - sum(before) >= count
    return {place for place, (was, now) in enumerate(zip(before, after, strict=True)) if now > was}


def test_a_client_keeps_its_backend_over_all_workers(kept):
    """T18: twenty connections at once of a new client land on one backend, whichever worker accepts them; others go elsewhere."""
    node, port, _ = kept
    used = {block: connect(node, "long", port, f"127.0.{block}.1", PARALLEL) for block in range(6)}
    assert all(len(backends) == 1 for backends in used.values()), used
    assert len(set().union(*used.values())) > 1
    assert all(connect(node, "long", port, f"127.0.{block}.2", 2) == backends for block, backends in used.items())


def test_the_death_of_a_worker_forgets_nobody(kept):
    """R10: after one worker and then the other was killed, each client still has its backend."""
    node, port, _ = kept
    used = {block: connect(node, "long", port, f"127.0.{block}.1") for block in range(6)}
    for index in range(2):
        pid = node.status()["workers"][index]["pid"]
        os.kill(pid, signal.SIGKILL)
        node.until(
            lambda status, i=index, pid=pid: settled(status) and status["workers"][i]["pid"] != pid, "a successor"
        )
    assert all(connect(node, "long", port, f"127.0.{block}.1", 4) == backends for block, backends in used.items())


def test_a_backend_that_is_down_is_left(kept, backends):
    """T17: when its backend goes down, a client gets another one and keeps it; other clients keep theirs."""
    node, port, _ = kept
    used = {block: connect(node, "long", port, f"127.0.{block}.1") for block in range(6)}
    (lost,) = used[0]
    backends[lost].refuse()
    node.until(lambda status: status["services"][0]["backends"][lost]["state"] == "down", "the verdict")
    (new,) = connect(node, "long", port, "127.0.0.1", PARALLEL)
    assert new != lost
    for block, before in used.items():
        now = connect(node, "long", port, f"127.0.{block}.1", 4)
        assert len(now) == 1
        assert before in (now, {lost})


def test_a_client_that_was_away_is_new(kept):
    """U14: after `timeout` without a connection the scheduler chooses anew, so that a client soon gets another backend."""
    node, _, port = kept
    first = connect(node, "short", port, "127.0.0.1", 4)
    assert len(first) == 1
    assert connect(node, "short", port, "127.0.0.1", 4) == first
    until(lambda: _other_after_a_pause(node, port, first), 30, "another backend", every=0.8)


def _other_after_a_pause(node, port, first):
    return connect(node, "short", port, "127.0.0.1") != first
