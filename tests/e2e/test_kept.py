"""A daemon under a service manager that keeps its sockets: not even a kill refuses a client or forgets a count."""

import os
import signal
import socket
import time

import pytest

from tests.e2e.loopback import Asker, Backend, Node, dns_service, echo_service, free_port, lift_loopback, living
from tests.e2e.manager import Manager
from tests.e2e.process import descendants, until


@pytest.fixture
def backends():
    lift_loopback()
    made = [Backend(), Backend()]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def ports():
    return [free_port(), free_port()]


@pytest.fixture
def manager(tmp_path, backends, ports):
    """Make a manager that has started a daemon with a DNS and a TCP service, and keeps what it is to keep."""
    text = dns_service(ports[0], backends) + echo_service(ports[1], backends)
    made = Manager(Node(tmp_path, text, node='stop-timeout = "20s"'))
    made.start()
    # Three groups of two members, two columns, two journals, three memories and a document.
    made.until(lambda: sum(map(len, made.kept.values())) >= 14, "the sockets to be kept")
    yield made
    made.close()


def exchange(sock, data):
    sock.settimeout(10)
    sock.sendall(data)
    return sock.recv(len(data))


def accepted(node):
    return node.status()["services"][1]["counters"]["accepted"]


def clients(port, count):
    """Return connections that somebody has accepted or queued."""
    return [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(count)]


def finished(socks):
    """Return what the clients get, each for a few bytes, and close them."""
    found = set()
    for sock in socks:
        with sock:
            found.add(exchange(sock, b"hello"))
    return found


def test_a_killed_daemon_refuses_nobody(manager, ports):
    """R12: clients that come between the SIGKILL of all processes and the next start are queued, and answered then."""
    node = manager.daemon
    assert finished(clients(ports[1], 10)) == {b"hello"}
    before = accepted(node)
    asker = Asker(ports[0])
    for pid in descendants(manager.main):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not living([manager.main]), 5, "it to be gone")
    queued = clients(ports[1], 40)
    asker.ask(40)
    manager.until(lambda: manager.starts == 2 and manager.word == "running", "the next start")
    assert finished(queued) == {b"hello"}
    assert asker.collect(5) == 0
    assert asker.bad == []
    assert accepted(node) >= before + 40
    assert node.told("with what the service manager has kept")


def test_a_killed_master_keeps_its_counts(manager, ports):
    """R12, R8: when the master alone is killed, its workers' counts are in the next one's, also those of the last moments."""
    node = manager.daemon
    with socket.create_connection(("127.0.0.1", ports[1])) as idle:
        assert exchange(idle, b"x") == b"x"
        before, workers = accepted(node), node.workers()
        manager.kill()
        late = clients(ports[1], 20)
        manager.until(lambda: manager.starts == 2 and manager.word == "running", "the next start")
        assert finished(late) == {b"hello"}
        assert exchange(idle, b"y") == b"y"
        manager.until(lambda: accepted(node) >= before + 20, "the counts")
        shown = {one["pid"]: one["draining"] for one in node.status()["workers"]}
        assert all(shown.get(pid, True) for pid in workers)
    manager.until(lambda: not living(workers), "the orphans to end", 10)
    manager.until(lambda: len(node.status()["workers"]) == 2, "the orphans to be gone from the status", 10)
    assert accepted(node) >= before + 20


def test_it_is_kept_again(manager, ports):
    """R12: what the first life had is kept for the third as well, and nothing is left behind of the lives before."""
    node = manager.daemon
    finished(clients(ports[1], 5))
    for life in (2, 3):
        before, names = accepted(node), len(manager.kept)
        for pid in descendants(manager.main):
            os.kill(pid, signal.SIGKILL)
        manager.until(lambda life=life: manager.starts == life and manager.word == "running", "the next start")
        assert accepted(node) >= before
        manager.until(lambda names=names: len(manager.kept) == names, "the same to be kept as before", 15)


def test_a_restart_under_a_manager(manager, ports):
    """R12: a stop ends when nothing is open, and the clients that come until the next start are served by that one."""
    node = manager.daemon
    finished(clients(ports[1], 5))
    before, main = accepted(node), manager.main
    os.kill(main, signal.SIGTERM)
    began = time.monotonic()
    until(lambda: not living([main]), 10, "it to end")
    assert time.monotonic() - began < 8
    queued = clients(ports[1], 30)
    manager.until(lambda: manager.starts == 2 and manager.word == "running", "the next start")
    assert finished(queued) == {b"hello"}
    assert accepted(node) >= before + 30


def test_reexec_under_a_manager(manager, ports):
    """R12: the manager follows a reexec: it knows the new process, keeps its memory, and sees no end."""
    node = manager.daemon
    first = manager.main
    assert node.steelyard("reexec")[0] == 0
    manager.until(lambda: manager.main != first, "the manager to know the new process")
    assert finished(clients(ports[1], 5)) == {b"hello"}
    before = accepted(node)
    time.sleep(2)
    manager.tend()
    assert manager.starts == 1
    for pid in descendants(manager.main):
        os.kill(pid, signal.SIGKILL)
    manager.until(lambda: manager.starts == 2 and manager.word == "running", "the next start")
    assert accepted(node) >= before
