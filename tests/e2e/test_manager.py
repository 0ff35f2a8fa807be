"""The daemon under a service manager: what it reports, and what the manager does with it (tests/e2e/manager.py)."""

import os
import signal
import socket
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.e2e.loopback import (
    ROOT,
    Backend,
    Node,
    asker,
    connected,
    dns_service,
    echo_service,
    exchange,
    free_port,
    lift_loopback,
)
from tests.e2e.manager import Manager
from tests.e2e.process import Proc, descendants, until


@pytest.fixture(autouse=True, scope="module")
def _loopback():
    lift_loopback()


@pytest.fixture
def backend():
    one = Backend()
    yield one
    one.close()


@pytest.fixture
def run(tmp_path, backend):
    """Return a function that starts a daemon with a DNS and an echo service under a manager; both end with the test."""
    managers = []

    def start(*, extra="", node="", ready=True, **kwargs):
        dns, echo = free_port(), free_port()
        text = dns_service(dns, [backend]) + echo_service(echo, [backend], extra)
        found = Manager(Node(tmp_path, text, node=node), **kwargs)
        managers.append(found)
        found.start(ready=ready)
        return found, dns, echo

    yield start
    for one in managers:
        one.close()


def test_ready_means_that_clients_are_served(run):
    """A daemon says READY once every service is open, never before, and shows in words what it does."""
    manager, dns, echo = run(watchdog=30.0)
    (ready,) = manager.said("READY", "1")
    assert ready.values["STATUS"] == "serving 2 services on 3 listeners"
    with asker(dns) as asks, connected(echo) as sock:
        asks.ask()
        assert exchange(sock, b"x") == b"x"
        assert asks.collect(5) == 0
    assert manager.ignored == []


def test_an_abstract_socket(run):
    """The manager's socket may be a name in the abstract namespace."""
    manager, _, _ = run(abstract=True)
    assert manager.address.startswith("@")
    assert manager.said("READY", "1")


def test_the_status_follows_the_services(run, backend):
    """The status names a service that no backend can serve, and is sent only when it changes."""
    manager, _, _ = run()
    backend.silent = True
    manager.until(lambda: "no usable backend for dns" in manager.status, "the status to name the service")
    assert manager.status == "serving 1 of 2 services on 3 listeners, no usable backend for dns"
    backend.silent = False
    manager.until(lambda: manager.status == "serving 2 services on 3 listeners", "the status to be good again")
    assert len([note for note in manager.notes if "STATUS" in note.values]) == 3


def test_no_child_knows_the_manager(run, tmp_path):
    """S6: no process but the master has the manager's socket or the directory of credentials in its environment."""
    manager, _, _ = run(watchdog=30.0, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    for pid in descendants(manager.main)[1:]:
        names = {pair.partition(b"=")[0].decode() for pair in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}
        assert names
        assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE", "CREDENTIALS_DIRECTORY"}


def test_a_stop_is_announced(run):
    """A stopping daemon says so at once, and asks for as much time as its connections and notify scripts may take."""
    manager, _, echo = run(node='stop-timeout = "2s"')
    with connected(echo) as sock:
        assert exchange(sock, b"x") == b"x"
        os.kill(manager.main, signal.SIGTERM)
        stop = manager.until(lambda: manager.said("STOPPING", "1"), "the daemon to say that it stops")[0]
        assert int(stop.values["EXTEND_TIMEOUT_USEC"]) == 92_000_000
        assert stop.values["STATUS"] == "stopping"
    manager.stop()
    assert manager.said("READY", "1")[-1].at < stop.at


def test_a_reload_is_reported(run):
    """SIGHUP is answered with RELOADING, of a time after the signal, and READY when the file is in force."""
    manager, dns, _ = run()
    port = free_port()
    node = manager.daemon
    node.file.write_text(node.text.replace(f'"127.0.0.1:{dns}/udp"', f'"127.0.0.1:{dns}/udp", "127.0.0.1:{port}/udp"'))
    ended = manager.reload()
    assert ended.values["STATUS"] == "serving 2 services on 4 listeners"
    with asker(port) as asks:
        asks.ask()
        assert asks.collect(5) == 0


def test_a_refused_reload_is_over_too(run):
    """R1: a reload of a file with mistakes ends as well, and the status says where they are."""
    manager, _, _ = run()
    node = manager.daemon
    node.file.write_text(node.text + "nonsense = 1\n")
    ended = manager.reload()
    assert ended.values["STATUS"].startswith(
        f"serving 2 services on 3 listeners; the last reload was refused: {node.file}:"
    )
    node.file.write_text(node.text)
    assert manager.reload().values["STATUS"] == "serving 2 services on 3 listeners"


def test_signs_of_life(run):
    """The watchdog gets a sign of life at half of its patience."""
    manager, _, _ = run(watchdog=1.0)
    manager.until(lambda: len(manager.said("WATCHDOG", "1")) >= 5, "five signs of life")
    times = [note.at for note in manager.said("WATCHDOG", "1")]
    gaps = [late - early for early, late in pairwise(times)]
    assert all(0.4 < gap < 0.9 for gap in gaps), gaps
    assert manager.expired == 0


def test_a_master_that_hangs_is_replaced(run):
    """V18: a master stopped with SIGSTOP sends no sign of life: the manager kills it, and the next one serves."""
    manager, dns, _ = run(watchdog=2.0)
    first = manager.main
    os.kill(first, signal.SIGSTOP)
    manager.until(lambda: manager.word == "running" and manager.main != first, "another master to be ready", 40)
    assert manager.expired == 1
    assert manager.starts >= 2
    with asker(dns) as asks:
        asks.ask()
        assert asks.collect(5) == 0


def test_a_killed_master_is_started_again(run):
    """V14: a master killed with SIGKILL is started again, and serves."""
    manager, _, echo = run()
    first = manager.main
    manager.kill()
    manager.until(lambda: manager.word == "running" and manager.main != first, "another master to be ready", 40)
    with connected(echo) as sock:
        assert exchange(sock, b"again") == b"again"


def test_credentials(tmp_path, backend):
    """S6, R13: `run` reads a password that the manager gives, and refuses at the key's place where it gives none."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    port = free_port()
    text = echo_service(port, [backend]).replace(
        '{ type = "tcp"', f'{{ type = "pop3", port = {backend.port}, user = "probe", password-file = "credential:pop3"'
    )
    node = Node(tmp_path, text)
    code, said = node.failed()
    assert code == 2
    assert said[0].startswith(f"{node.file}:")
    assert "credential:pop3 cannot be looked at: the service manager has given this process no credentials" in said[0]
    (directory / "pop3").write_text("s3cret")
    (directory / "pop3").chmod(0o400)
    directory.chmod(0o500)
    manager = Manager(node, environ={"CREDENTIALS_DIRECTORY": str(directory)})
    try:
        manager.start()
        status = node.until(lambda one: one["services"][0]["backends"][0]["state"] == "down", "a verdict")
        assert "password" not in status["services"][0]["backends"][0]["reason"]
        assert "s3cret" not in node.output()
    finally:
        manager.close()
        directory.chmod(0o700)


def test_the_journal(tmp_path, backend):
    """Every process writes to the journal with priorities, and without times of its own."""
    node = Node(tmp_path, echo_service(free_port(), [backend]))
    node.log.touch()
    found = node.log.stat()
    manager = Manager(node, environ={"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    try:
        manager.start()
        os.kill(node.workers()[0], signal.SIGKILL)
        node.until(lambda status: any(worker["restarts"] for worker in status["workers"]), "the worker to be replaced")
        lines = until(lambda: [one for one in node.output().splitlines() if "killed by SIGKILL" in one], 5, "a line")
        assert lines[0].startswith("<3>worker")
        assert all(line[:3] in {"<3>", "<4>", "<6>"} for line in node.output().splitlines())
    finally:
        manager.close()


def test_the_journal_gets_the_reason_of_a_refused_start(tmp_path):
    """The reasons why a daemon does not start are errors in the journal, each line of them."""
    node = Node(tmp_path, "[service.x]\nnonsense = 1\n")
    node.log.touch()
    found = node.log.stat()
    code, lines = node.failed(prefix=["env", f"JOURNAL_STREAM={found.st_dev}:{found.st_ino}"])
    assert code == 2
    assert len(lines) > 2
    assert all(line.startswith("<3>") for line in lines)


def test_a_manager_that_does_not_read(tmp_path, backend):
    """A manager that never reads its socket delays neither the start nor the clients."""
    address = tmp_path / "notify"
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    deaf.bind(str(address))
    port = free_port()
    node = Node(tmp_path, echo_service(port, [backend]))
    try:
        node.start(prefix=["env", f"NOTIFY_SOCKET={address}", "WATCHDOG_USEC=20000"])
        time.sleep(1.0)  # 100 signs of life, of which the socket takes some ten
        with connected(port) as sock:
            assert exchange(sock, b"x") == b"x"
        assert not node.told("internal error")
    finally:
        node.end()
        deaf.close()


KEEPER = """
import os, socket, sys, time
from proxy.host.service_manager import ServiceManager
manager = ServiceManager.from_environment(os.environ)
kept = manager.restored.get("member")
if kept is None:
    sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    manager.store("member", [sock.fileno(), sock.fileno()])
    memory = os.memfd_create("counters")
    os.write(memory, b"42")
    manager.store("counters", [memory])
    manager.store("gone", [os.open("/dev/null", os.O_RDONLY)])
    manager.unstore("gone")
manager.ready("new" if kept is None else "restored")
while kept is None:
    time.sleep(60)
(member,), (memory,) = kept, manager.restored["counters"]
client, _ = socket.socket(fileno=member).accept()
client.sendall(os.pread(memory, 9, 0) + b" " + ",".join(sorted(manager.restored)).encode())
time.sleep(60)
"""


class Keeper:
    """A program that lets the manager keep a listening socket, and answers its clients in its second life only."""

    def __init__(self, directory: Path, port: int) -> None:
        self.log, self.port = directory / "log", port
        self.proc: Proc | None = None

    def start(self, *, prefix, ready):
        """Start it."""
        command = [*prefix, sys.executable, "-c", KEEPER, str(self.port)]
        self.proc = Proc("keeper", command, self.log, env=os.environ | {"PYTHONPATH": str(ROOT)})

    def output(self):
        """Return what it has written."""
        return self.log.read_text()


def test_what_the_manager_keeps_outlives_the_daemon(tmp_path):
    """R12: a client that waits in a listening socket which the manager keeps is answered after SIGKILL, by the next life."""
    port = free_port()
    manager = Manager(Keeper(tmp_path, port))
    try:
        manager.start()
        manager.until(lambda: set(manager.kept) == {"member", "counters"}, "two descriptors to be kept")
        assert {name: len(fds) for name, fds in manager.kept.items()} == {"member": 1, "counters": 1}
        manager.kill()
        with connected(port, 20.0) as client:
            manager.until(lambda: manager.status == "restored", "the next life")
            assert client.recv(99) == b"42 counters,member"
        assert manager.starts == 2
    finally:
        manager.close()
