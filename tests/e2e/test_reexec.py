"""A new version takes the place of the running daemon, and no client notices."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from proxy.processes.channel import receive
from proxy.succession import protocol
from tests.e2e.loopback import (
    ROOT,
    Asker,
    Backend,
    Node,
    dns_service,
    echo_service,
    free_port,
    lift_loopback,
    living,
)
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
    return [free_port(), free_port(), free_port()]


@pytest.fixture
def make(tmp_path, backends, ports):
    """Make nodes with a DNS and a TCP service, each in a directory of its own, that are gone afterwards."""
    nodes = []

    def node(services=None, **kwargs):
        directory = tmp_path / f"node{len(nodes)}"
        directory.mkdir()
        text = services or dns_service(ports[0], backends) + echo_service(ports[1], backends)
        nodes.append(Node(directory, text, **kwargs))
        return nodes[-1]

    yield node
    for one in nodes:
        one.end()


def exchange(sock, data):
    """Send bytes to an echo server; return what comes back."""
    sock.settimeout(5)
    sock.sendall(data)
    return sock.recv(len(data))


def master(node):
    """Return the process that answers on the control socket."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(node.socket))
        return int.from_bytes(control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), "little")


def drained(node):
    """Return the status once no worker of a former daemon is left."""
    return node.until(lambda status: not any(one["draining"] for one in status["workers"]), "the old workers to end")


def own(status):
    """Return the process ids of the workers that take new clients."""
    return [one["pid"] for one in status["workers"] if not one["draining"]]


def restarted(node):
    """Start the daemon again, as a service manager does, and return its process."""
    before, node.proc = node.proc, None
    node.start(ready=False)
    after, node.proc = node.proc, before
    return after


class Load:
    """Clients that connect, talk and leave without a pause, and the failures they meet."""

    def __init__(self, port, clients=4):
        self.port, self.done, self.failures, self._stop = port, 0, [], False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self):
        for one in self._threads:
            one.start()
        until(lambda: self.done > 20, 5, "the load to begin")
        return self

    def __exit__(self, *_):
        self._stop = True
        for one in self._threads:
            one.join(10)

    def _run(self):
        while not self._stop:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
                    assert exchange(sock, b"hello") == b"hello"
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))
            self.done += 1


def echo_backend():
    """Return a UDP server that answers with the port it was asked from."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            while True:
                _, source = sock.recvfrom(2048)
                sock.sendto(f"{sock.getsockname()[1]} {source[1]}".encode(), source)

    threading.Thread(target=serve, daemon=True).start()
    return sock


def accepted(status):
    return next(one["counters"]["accepted"] for one in status["services"] if one["name"] == "echo")


# -- a new version


def test_reexec_loses_nothing(make, backends, ports):
    """R12, R6, R8: under load a new version takes over twice; nothing is refused or lost, and no counter goes back."""
    node = make(node='reexec-timeout = "1m"').start()
    first = node.pid
    asker = Asker(ports[0])
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", ports[1]), timeout=5)) for _ in range(100)]
        assert {exchange(one, b"hi") for one in idle} == {b"hi"}
        load = stack.enter_context(Load(ports[1]))
        seen = [accepted(node.status())]
        for _ in range(2):
            for one in backends:
                one.hold = True
            asker.ask(50)
            until(lambda: sum(len(one.queries) for one in backends) >= asker.sent, 3, "the queries to be in flight")
            code, said = node.steelyard("reexec")
            assert code == 0, said
            for one in backends:
                one.release()
            seen.append(accepted(node.status()))
            assert {exchange(one, b"again") for one in idle} == {b"again"}
        status = node.status()
        assert (len(own(status)), len(status["workers"]) > 2) == (2, True)  # those with idle clients are left
        assert master(node) != first
    assert asker.collect(5) == 0
    assert asker.bad == []
    assert load.failures == []
    assert seen == sorted(seen)
    assert accepted(drained(node)) >= load.done + 100
    until(lambda: not living([first]), 5, "the first daemon to end")
    assert node.told("the former daemon has ended")


def test_udp_sessions_go_on(make, ports):
    """R12: after a reexec the clients of UDP sessions have the same backend, and the same port towards it."""
    servers = [echo_backend(), echo_backend()]
    rows = ", ".join(
        f'{{ name = "b{at}", address = "127.0.0.1", port = {one.getsockname()[1]} }}' for at, one in enumerate(servers)
    )
    text = f'[service.log]\nlisten = ["127.0.0.1:{ports[2]}/udp"]\nbackends = [{rows}]\nprobe = {{ type = "none" }}\n'
    node = make(text).start()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(60)]

        def seen():
            found = []
            for one in clients:
                one.settimeout(5)
                one.sendto(b"x", ("127.0.0.1", ports[2]))
                found.append(one.recv(100))
            return found

        before = seen()
        assert len(set(before)) == 60
        assert node.steelyard("reexec")[0] == 0
        status = drained(node)
        assert seen() == before
        assert status["services"][0]["counters"]["sessions_opened"] == 60
        assert status["services"][0]["counters"]["sessions_adopted"] == 60
        assert node.fresh()["services"][0]["counters"]["sessions"] == 60
    for one in servers:
        one.close()


def test_a_signal_is_reexec(make, ports):
    """SIGUSR2 is reexec: another process answers, and connections go on."""
    node = make().start()
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"x") == b"x"
        os.kill(node.pid, signal.SIGUSR2)
        until(lambda: master(node) != node.pid, 10, "the successor")
        assert exchange(sock, b"y") == b"y"


def test_the_successor_has_its_priority(make):
    """A successor starts with less priority than the daemon that serves, and has the same when it serves itself."""
    node = make().start()
    assert node.steelyard("reexec")[0] == 0
    drained(node)
    pids = descendants(master(node))
    assert len(pids) >= 4  # the master, two workers, health
    tasks = [int(task.name) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    assert {os.getpriority(os.PRIO_PROCESS, task) for task in tasks} == {os.getpriority(os.PRIO_PROCESS, 0)}


def test_acts_and_verdicts_survive(make, backends):
    """R12, R9: a successor begins with the acts of operators, saved or not, and with the verdicts and their times."""
    node = make().start()
    assert node.steelyard("drain", "dns", "b1", "--reason", "disk")[0] == 0
    assert node.steelyard("weight", "echo", "b0", "7")[0] == 0
    backends[1].refuse()
    before = node.until(lambda s: s["services"][1]["backends"][1]["state"] == "down", "a verdict")
    probes = backends[0].probes
    assert node.steelyard("reexec")[0] == 0
    after = node.status()
    for old, new in zip(before["services"], after["services"], strict=True):
        for was, now in zip(old["backends"], new["backends"], strict=True):
            for key in ("state", "since", "admin", "admin_reason", "weight"):
                assert was[key] == now[key], (was["name"], key)
    assert after["config"]["overrides"] == 2
    assert after["generation"] > before["generation"]
    until(lambda: backends[0].probes > probes + 3, 5, "probes to go on")
    assert not node.told("verdict dns/b0: up", "unknown")


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_another_number_of_workers(make, ports, before, after):
    """R12: a successor may have more workers or fewer: every member of every listener is polled by one of them."""
    node = make(workers=before).start()
    asker = Asker(ports[0])
    with Load(ports[1], 2) as load:
        node.file.write_text(node.text.replace(f"workers = {before}", f"workers = {after}"))
        assert node.steelyard("reexec")[0] == 0
        asker.ask(100)
        assert asker.collect(5) == 0
        status = drained(node)
        done = load.done
        until(lambda: load.done > done + 100, 5, "the load to go on")
    assert load.failures == []
    assert len(own(status)) == after


def test_other_listeners(make, backends, ports):
    """R12, R6: a successor binds what its file has besides; what it has no more is closed when the queue is served."""
    node = make().start()
    node.file.write_text(node.text.replace(f"127.0.0.1:{ports[1]}/tcp", f"127.0.0.1:{ports[2]}/tcp"))
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"x") == b"x"
        assert node.steelyard("reexec")[0] == 0
        with socket.create_connection(("127.0.0.1", ports[2])) as new:
            assert exchange(new, b"new") == b"new"
        assert exchange(sock, b"y") == b"y"

        def refused():
            with socket.socket() as late:
                return late.connect_ex(("127.0.0.1", ports[1])) != 0

        until(refused, 5, "the old listener to be closed")


def test_counters_of_another_size(make, backends, ports):
    """R8, R12: a successor with more backends than its predecessor's counters had room for keeps all counts."""
    node = make().start()
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"x") == b"x"
        taken = {*ports, *(one.port for one in backends)}
        while len(taken) < 45:  # one port may be free twice
            taken.add(free_port())
        more = taken - {*ports, *(one.port for one in backends)}
        many = "".join(
            f'[service.more{port}]\nlisten = ["127.0.0.1:{port}/tcp"]\nbackends = ["192.0.2.1"]\nprobe = {{ type = "none" }}\n'
            for port in more
        )
        node.file.write_text(node.text + many)
        before = accepted(node.fresh())
        assert node.steelyard("reexec")[0] == 0
        status = node.fresh()
        echo = next(one for one in status["services"] if one["name"] == "echo")
        assert (echo["counters"]["accepted"], echo["counters"]["sessions"]) == (before, 1)
        assert len(status["services"]) == 42
    after = next(one for one in drained(node)["services"] if one["name"] == "echo")
    assert (after["counters"]["accepted"], after["counters"]["sessions"]) == (before, 0)
    assert sum(one["bytes_in"] for one in after["backends"]) == 1


def test_an_old_worker_obeys_verdicts(make, backends, ports):
    """Connections of the old version are reset as well when their backend is put into maintenance."""
    node = make().start()
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"x") == b"x"
        assert node.steelyard("reexec")[0] == 0
        assert node.steelyard("maint", "echo", "b0")[0] == 0
        assert node.steelyard("maint", "echo", "b1", "--force")[0] == 0
        sock.settimeout(3)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


# -- what cannot start


def test_a_broken_file(make, ports):
    """R12, R1: with a wrong file nothing changes: exit 2, and the place is told to the terminal, log and timeline."""
    node = make().start()
    family = node.family()
    node.file.write_text(node.text.replace("workers = 2", "workers = 0"))
    code, said = node.steelyard("reexec")
    assert code == 2, said
    assert f"{node.file}:3:" in said
    unchanged(node, family, ports)
    assert any(one["kind"] == "reexec" and str(node.file) in one["text"] for one in node.ask("events")["events"])


def test_a_broken_program(make, tmp_path, ports):
    """R12: a new version that cannot even be imported changes nothing, and the reason is the interpreter's."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("proxy", "health", "vrrp"):
        (root / name).symlink_to(ROOT / name)
    node = make().start(root=root)
    family = node.family()
    (root / "proxy").unlink()
    (root / "proxy").mkdir()
    (root / "proxy" / "__main__.py").write_text("import no_such_module\n")
    code, said = node.steelyard("reexec")
    assert (code, "No module named 'no_such_module'" in said) == (1, True), said
    unchanged(node, family, ports)


def test_a_port_that_is_taken(make, ports):
    """R12: a new version whose port is taken changes nothing, and names the holder."""
    node = make().start()
    family = node.family()
    with socket.create_server(("127.0.0.1", ports[2])):
        text = f'"127.0.0.1:{ports[1]}/tcp", "127.0.0.1:{ports[2]}/tcp"'
        node.file.write_text(node.text.replace(f'["127.0.0.1:{ports[1]}/tcp"]', f"[{text}]"))
        code, said = node.steelyard("reexec")
    assert code == 1
    assert re.search(rf"already in use by .*\(pid {os.getpid()}\)", said)
    unchanged(node, family, ports)


def unchanged(node, family, ports):
    """Assert that the daemon goes on as if nothing had been."""
    until(lambda: node.told("reexec", "this daemon goes on"), 3, "it to be told")
    assert master(node) == node.pid
    until(lambda: sorted(node.family()) == sorted(family), 5, "the same processes")
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"x") == b"x"
    assert node.steelyard("weight", "echo", "b0", "3")[0] == 0


@contextmanager
def successor(node):
    """Ask a stopping daemon for its place, and yield the socket to it."""
    os.kill(node.pid, signal.SIGTERM)
    until(lambda: node.told("new clients are served until"), 5, "it to stop")
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(node.socket))
        control.sendall(b'{"command": "take-over"}\n')
        answer, fds, _, _ = socket.recv_fds(control, 65536, 1)
    assert json.loads(answer)["ok"] is True, answer
    with socket.socket(fileno=fds[0]) as sock:
        sock.settimeout(10)
        yield sock


def read_until(sock, kind):
    """Read messages of a predecessor until one of a kind; return it and the names of the descriptors before it."""
    names = []
    while True:
        message, fds = receive(sock, codec=protocol.decode)
        for fd in fds:
            os.close(fd)
        names += message.names if isinstance(message, protocol.Hold) else []
        if isinstance(message, kind):
            return message, names


@pytest.mark.parametrize("until_when", [None, protocol.Go])
def test_a_successor_that_dies(make, backends, ports, until_when):
    """R12: if a successor dies before its workers poll, even when it was let go, the daemon goes on with all it had."""
    node = make(node='stop-timeout = "20s"').start()
    family = node.family()
    with Load(ports[1], 2) as load:
        with successor(node) as sock:
            read_until(sock, protocol.State)
            if until_when is not None:
                sock.send(b"J" + protocol.encode(protocol.Ready(1)))
                _, names = read_until(sock, until_when)
                assert {"base", "column-1", "journal-1"} <= set(names)
        until(lambda: node.told("this daemon goes on"), 5, "it to be told")
        assert node.status()["state"] == "stopping"
        assert node.steelyard("drain", "dns", "b0")[0] == 0
        probes = backends[0].probes
        until(lambda: backends[0].probes > probes + 3, 5, "probes to go on")
    assert load.failures == []
    until(lambda: "drain, by uid" in (node.dir / "state" / "events.jsonl").read_text(), 5, "events to be written")
    assert len(own(node.status())) == 2
    assert set(family) - set(node.family()) <= {family[-1], *family[1:]}


def test_only_one_at_a_time(make):
    """A second reexec, and every other change, is refused while a successor starts; reading goes on."""
    node = make().start()
    said = {}
    with subprocess.Popen(
        [*steelyard_command(), "-s", str(node.socket), "reexec"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as first:
        until(lambda: node.told("starts with the same arguments"), 10, "the first")
        said["second"] = node.steelyard("reexec")
        said["status"] = node.steelyard("status")[0]
        assert first.wait(15) == 0
    assert said["second"][0] == 1
    assert "a new version is taking over" in said["second"][1]
    assert said["status"] in (0, 1)


def steelyard_command():
    import sys

    return [sys.executable, "-m", "proxy"]


# -- a stop without another host


def test_a_stop_leaves_the_door_open(make, ports):
    """R12: after SIGTERM new clients are served until the next start, which takes over: a restart loses nothing."""
    node = make().start()
    with Load(ports[1]) as load, socket.create_connection(("127.0.0.1", ports[1])) as idle:
        assert exchange(idle, b"x") == b"x"
        before = accepted(node.status())
        os.kill(node.pid, signal.SIGTERM)
        status = node.until(lambda s: s["state"] == "stopping", "it to stop")
        assert {one["state"] for one in status["services"]} == {"up"}
        time.sleep(0.5)
        second = restarted(node)
        until(lambda: master(node) == second.pid, 15, "the next one to take over")
        status = node.until(lambda s: s["state"] == "running", "it to serve")
        assert accepted(status) >= before
        assert exchange(idle, b"y") == b"y"
        time.sleep(0.3)
    assert load.failures == []
    assert node.proc.wait(5) == 0
    node.proc = second


def test_a_stop_that_nobody_follows(make, ports):
    """After SIGTERM what is open at the end of stop-timeout is cut, and the exit status is 0."""
    node = make(node='stop-timeout = "1s"').start()
    family = node.family()
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"x") == b"x"
        os.kill(node.pid, signal.SIGTERM)
        time.sleep(0.5)
        with socket.create_connection(("127.0.0.1", ports[1])) as late:
            assert exchange(late, b"late") == b"late"
        sock.settimeout(5)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert node.proc.wait(5) == 0
    assert not living(family)
    assert not node.socket.exists()


def test_a_refusing_daemon_says_so(make, ports):
    """While a daemon that was interrupted drains, no service is up: the status says stopping, and exits with 2."""
    node = make().start()
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"x") == b"x"
        os.kill(node.pid, signal.SIGINT)
        status = node.until(lambda s: s["services"][0]["state"] == "stopping", "it to be told")
        assert status["state"] == "stopping"
        assert {one["state"] for one in status["services"]} == {"stopping"}
        assert node.steelyard("status")[0] == 2
    assert node.proc.wait(5) == 0


def test_a_running_daemon_is_not_replaced(make):
    """A start while a daemon runs and does not stop is refused, and told who holds the state directory."""
    node = make().start()
    second = restarted(node)
    assert second.wait(10) == 1
    assert f"pid {node.pid} of node n" in node.output()
    assert node.ask("take-over")["ok"] is False
    assert node.status()["state"] == "running"


# -- afterwards


def test_the_end_of_a_former_daemon(make, ports):
    """SIGTERM ends a former daemon and its workers at once; its successor does not care."""
    node = make().start()
    family = node.family()
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"x") == b"x"
        assert node.steelyard("reexec")[0] == 0
        os.kill(node.pid, signal.SIGTERM)
        sock.settimeout(5)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert node.proc.wait(5) == 0
    until(lambda: not living(family), 5, "its workers to end")
    status = drained(node)
    assert status["state"] == "running"
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"y") == b"y"


def test_a_former_daemon_outlives_its_successor(make, ports):
    """Connections of the old version go on if the new one is killed, and a new start finds the place free."""
    node = make(node='reexec-timeout = "30s"').start()
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"x") == b"x"
        assert node.steelyard("reexec")[0] == 0
        second = master(node)
        family = descendants(second)
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not living(family), 5, "it to be gone")
        time.sleep(0.3)
        assert exchange(sock, b"y") == b"y"
        third = restarted(node)
        until(lambda: Path(node.socket).exists() and socket_answers(node), 15, "the next start")
        assert master(node) == third.pid
        with socket.create_connection(("127.0.0.1", ports[1])) as new:
            assert exchange(new, b"z") == b"z"
    assert node.proc.wait(5) == 0
    node.proc = third


def socket_answers(node):
    try:
        return bool(node.status())
    except OSError:
        return False


def test_a_stop_ends_former_daemons_as_well(make, ports):
    """A daemon that stops ends the former ones with it: no process is left after stop-timeout."""
    node = make(node='stop-timeout = "1s"').start()
    with socket.create_connection(("127.0.0.1", ports[1])) as sock:
        assert exchange(sock, b"x") == b"x"
        assert node.steelyard("reexec")[0] == 0
        second = master(node)
        family = {*descendants(second), *node.family()}
        os.kill(second, signal.SIGINT)
        sock.settimeout(5)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert node.proc.wait(5) == 0
    until(lambda: not living(family), 5, "all processes to end")


def test_what_only_a_new_process_can_have(make, ports):
    """R12: another state directory and another control socket come into force, and what was saved is there as well."""
    node = make().start()
    assert node.steelyard("drain", "dns", "b0", "--save")[0] == 0
    before, state = node.socket, node.dir / "other"
    text = node.text.replace(f'"{node.dir}/state"', f'"{state}"').replace(str(before), f"{node.dir}/new.sock")
    node.file.write_text(text)
    with Load(ports[1], 2) as load:
        assert node.steelyard("reexec")[0] == 0
    assert load.failures == []
    node.socket = node.dir / "new.sock"
    assert node.status()["services"][0]["backends"][0]["admin"] == "drain"
    until(lambda: not before.exists(), 5, "the old socket to be gone")
    until((state / "overrides.json").exists, 5, "the acts to be saved")
    assert (state / "lock").read_text().startswith(f"pid {master(node)} ")
    assert node.steelyard("ready", "dns", "b0")[0] == 0
