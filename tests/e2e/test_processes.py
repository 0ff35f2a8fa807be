"""A daemon's processes: their start, their deaths in every order, their stop; on loopback, with one daemon for each test."""
# ruff: noqa: PTH115 - what /proc has are no paths

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.moments import unix
from proxy.processes import signals
from proxy.processes.child import KEPT
from tests.e2e.loopback import (
    ROOT,
    Asker,
    Backend,
    Node,
    asker,
    connected,
    dns_service,
    echo_service,
    exchange,
    free_port,
    lift_loopback,
    living,
    question,
    settled,
)
from tests.e2e.process import until

ORDINARY = ["setpriv", "--bounding-set=-net_bind_service", "--"]
UNSHARED = ["unshare", "-rn", "sh", "-c", 'ip link set lo up; exec "$0" "$@"']


@pytest.fixture(autouse=True, scope="module")
def _loopback():
    lift_loopback()


@pytest.fixture
def backends():
    two = [Backend(), Backend()]
    yield two
    for one in two:
        one.close()


@pytest.fixture
def make(tmp_path):
    """Make nodes, each in its own directory, and stop them afterwards."""
    nodes = []

    def node(services, **kwargs):
        directory = tmp_path / f"node{len(nodes)}"
        directory.mkdir()
        nodes.append(Node(directory, services, **kwargs))
        return nodes[-1]

    yield node
    for one in nodes:
        one.end()


@pytest.fixture
def ports():
    return free_port(), free_port()


@pytest.fixture
def both(make, backends, ports):
    """A daemon with a DNS and an echo service, started."""
    dns, echo = ports
    return make(dns_service(dns, backends) + echo_service(echo, backends), workers=2).start()


def replaced(status, *gone):
    """Return True if every worker is alive and none is one of these."""
    return all(w["alive"] and w["pid"] not in gone for w in status["workers"])


def counters(status, service):
    return next(s["counters"] for s in status["services"] if s["name"] == service)


# -- deaths


def keep_asking(client: Asker, seconds: float, acts=()) -> None:
    """Send some 300 queries a second, each from a new port, and do each act at its time."""
    began, todo = time.monotonic(), list(acts)
    while (now := time.monotonic() - began) < seconds:
        if todo and now >= todo[0][0]:
            todo.pop(0)[1]()
        client.ask(4)
        client.collect(0.005)
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_costs_nothing(make, backends, ports, workers):
    """A worker that is killed under traffic is replaced at once, alone or with a sibling, and no query is lost."""
    node = make(dns_service(ports[0], backends), workers=workers).start()
    first = node.workers()[0]
    with asker(ports[0]) as client:
        keep_asking(client, 2.0, [(0.5, lambda: os.kill(first, signal.SIGKILL))])
        assert client.collect(3) == 0
        assert client.bad == []
    status = node.until(lambda s: replaced(s, first), "the worker to be replaced")
    assert status["workers"][0]["restarts"] == 1
    assert node.told("worker 0", str(first), "SIGKILL")
    assert node.told("worker 0", "restarted as pid")


def test_all_workers_killed_at_once(make, backends, ports):
    """If all workers are killed at the same instant, each of their queries in flight is repeated once and answered."""
    node = make(dns_service(ports[0], backends, '[service.dns.dns]\nretry-after = "4s"')).start()
    for one in backends:
        one.hold = True
    with asker(ports[0]) as client:
        client.ask(40)
        until(lambda: sum(len(one.queries) for one in backends) == 40, 3, "the queries to be in flight")
        old = node.workers()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # the first, so that none still inherits from the other
            for pid in old:
                os.kill(pid, number)
        for one in backends:
            one.drop()
        assert client.collect(4) == 0
        assert client.bad == []
    assert sum(len(one.queries) for one in backends) == 80
    status = node.until(lambda s: replaced(s, *old), "both workers to be replaced")
    assert counters(status, "dns")["replayed"] == 40
    assert all(b["active"] == 0 for s in status["services"] for b in s["backends"])


def test_counters_survive_and_active_is_repaired(make, backends, ports):
    """A dead worker's counters are kept, and its open connections no longer count as active."""
    node = make(echo_service(ports[1], backends), workers=1).start()
    with connected(ports[1]) as one, connected(ports[1]) as two:
        assert exchange(one, b"one") + exchange(two, b"two") == b"onetwo"
        before = node.until(lambda s: sum(b["active"] for b in s["services"][0]["backends"]) == 2, "two connections")
        os.kill(node.workers()[0], signal.SIGKILL)
        after = node.until(lambda s: replaced(s, before["workers"][0]["pid"]), "the worker to be replaced")
    assert [b["active"] for b in after["services"][0]["backends"]] == [0, 0]
    assert counters(after, "echo")["accepted"] == 2
    assert sum(b["bytes_in"] for b in after["services"][0]["backends"]) == 6


def test_a_stopped_worker(both, ports):
    """R10: a worker stopped under traffic is noticed within 1.5 s, costs no query and no connection, and is replaced."""
    first = both.workers()[0]
    stopped = []
    with asker(ports[0]) as client:

        def stop():
            os.kill(first, signal.SIGSTOP)
            stopped.append(time.monotonic())

        keep_asking(client, 1.0, [(0.2, stop)])
        waiting = [socket.create_connection(("127.0.0.1", ports[1]), timeout=3) for _ in range(20)]
        for sock in waiting:
            with sock:
                assert exchange(sock, b"hello") == b"hello"
        assert time.monotonic() < stopped[0] + 1.5
        assert client.collect(1) == 0
        assert client.bad == []
    both.until(lambda s: replaced(s, first), "the worker to be replaced")
    assert both.told("worker 0", "no heartbeat", str(first))
    assert not living([first])


def test_a_worker_that_never_starts_to_work(make, backends, ports):
    """A worker that is killed while it starts is started again, each time after a longer pause."""
    node = make(dns_service(ports[0], backends), workers=1).start()
    killed = []

    def kill():
        pids = [w["pid"] for w in node.status()["workers"] if w["pid"]]
        if pids:
            os.kill(pids[0], signal.SIGKILL)
            killed.append((pids[0], time.monotonic()))
        return len({pid for pid, _ in killed}) >= 5

    until(kill, 10, "five deaths", every=0.005)
    times = [at for at, pid in {pid: (at, pid) for pid, at in killed}.values()]
    assert times[4] - times[3] > 0.35
    node.until(lambda s: s["workers"][0]["alive"], "a worker to live")
    with asker(ports[0]) as client:
        client.ask(10)
        assert client.collect(2) == 0


# -- pauses


@pytest.mark.parametrize("whole", [False, True], ids=["master", "machine"])
def test_a_pause_kills_nobody(both, ports, whole):
    """A master that was stopped for seconds, like a machine that stood still, takes no process for dead when it continues."""
    family = both.family()
    with connected(ports[1]) as sock:
        assert exchange(sock, b"before") == b"before"
        stopped = family if whole else family[:1]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2.0)
        if not whole:
            assert exchange(sock, b"meanwhile") == b"meanwhile"
        for pid in stopped:  # the master wakes first, and the others not before it has looked again
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.2)
        time.sleep(0.5)
        assert exchange(sock, b"after") == b"after"
    assert both.family() == family
    assert [w["restarts"] for w in both.status()["workers"]] == [0, 0]


# -- the master's death


def test_the_master_is_killed(both, ports):
    """Without their master, workers finish open connections and then end, and so does health: no process remains."""
    family = both.family()
    with connected(ports[1]) as sock:
        assert exchange(sock, b"before") == b"before"
        os.kill(both.pid, signal.SIGKILL)
        until(lambda: len(living(family)) <= 1, 3, "those with nothing to do to leave")
        assert exchange(sock, b"after") == b"after"
        with pytest.raises(ConnectionRefusedError), connected(ports[1]):
            pass
    until(lambda: not living(family), 3, "the last worker to leave")
    assert not [line for line in both.output().splitlines() if "Traceback" in line]


def test_the_master_is_killed_while_workers_start(make, backends, ports):
    """Children that find no master after their start end at once."""
    node = make(dns_service(ports[0], backends), workers=2).start(ready=False)
    until(lambda: len(node.family()) >= 4, 5, "the children to be started", every=0.001)
    family = node.family()
    os.kill(node.pid, signal.SIGKILL)
    until(lambda: not living(family), 5, "the children to leave")


# -- health


def test_health_is_killed_again_and_again(both, backends, ports):
    """A dead health process is restarted; meanwhile the verdicts stay, and traffic continues without a flap."""
    for _ in range(3):
        old = both.health()
        os.kill(old, signal.SIGKILL)
        with asker(ports[0]) as client:
            client.ask(20)
            assert client.collect(2) == 0
            assert client.bad == []
        until(lambda old=old: both.health() != old, 5, "a new health child")
    probes = backends[0].probes
    until(lambda: backends[0].probes > probes + 2, 5, "probing to go on")
    assert both.output().count(" verdict ") == 4


def test_health_restarted_beside_a_failing_backend(make, backends, ports):
    """H2: the first failed probe of a restarted health process takes no backend down that was up: that takes `fall` of them."""
    node = make(dns_service(ports[0], backends, probe=", fall = 25")).start()
    old = node.health()
    backends[0].silent = True
    os.kill(old, signal.SIGKILL)
    until(lambda: node.health() != old, 5, "a new health child")
    probes = backends[0].probes
    until(lambda: backends[0].probes >= probes + 5, 5, "five probes to fail")
    assert node.status()["services"][0]["backends"][0]["state"] == "up"
    node.until(lambda s: s["services"][0]["backends"][0]["state"] == "down", "25 probes to fail")
    assert node.told("dns/b0", "down", "25 failures in a row")


def test_health_is_stopped(both, ports):
    """A health process that hangs is noticed after 5 s and replaced; traffic continues all the time."""
    old = both.health()
    os.kill(old, signal.SIGSTOP)
    both.until(lambda s: True, "a status while health hangs")
    until(lambda: both.health() != old and not living([old]), 9, "health to be replaced")
    assert both.told("health", "no sign of life")
    with asker(ports[0]) as client:
        client.ask(5)
        assert client.collect(2) == 0


def test_traffic_brings_the_next_probe_forward(make, backends, ports):
    """H12: if a connection of real traffic is refused, health probes at once instead of in a minute."""
    node = make(
        f'[service.echo]\nlisten = ["127.0.0.1:{ports[1]}/tcp"]\n'
        f'backends = [{{ address = "127.0.0.1", port = {backends[0].port} }}]\n'
        'probe = { type = "tcp", interval = "60s", fast-interval = "100ms", fall = 2 }\n'
    ).start()
    backends[0].refuse()
    with suppress(OSError), connected(ports[1]) as sock:
        sock.recv(10)
    status = node.until(lambda s: s["services"][0]["backends"][0]["state"] == "down", "the backend to go down", 5)
    assert "refused" in status["services"][0]["backends"][0]["reason"]


# -- the end


def test_a_drain(both, backends, ports):
    """SIGINT: queued connections are still accepted, open ones finish, new ones are refused, and no process remains."""
    family = both.family()
    for one in backends:
        one.hold = True
    with connected(ports[1]) as first, asker(ports[0]) as client:
        assert exchange(first, b"before") == b"before"
        client.ask(10)
        until(lambda: sum(len(one.queries) for one in backends) == 10, 3, "the queries to be in flight")
        workers = both.workers()
        for pid in workers:  # stopped, so that what comes now is queued
            os.kill(pid, signal.SIGSTOP)
        queued = [socket.create_connection(("127.0.0.1", ports[1]), timeout=3) for _ in range(150)]
        client.ask(200)
        os.kill(both.pid, signal.SIGINT)
        time.sleep(0.1)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        for sock in queued:
            with sock:
                assert exchange(sock, b"queued") == b"queued"
        until(lambda: refused(ports[1]), 2, "new connections to be refused")
        for one in backends:
            one.release()
        assert client.collect(3) == 0
        assert client.bad == []
        assert exchange(first, b"after") == b"after"
        assert both.proc.alive
    assert both.proc.wait(3) == 0
    assert not living(family)
    assert not both.socket.exists()
    assert both.told("what is open may finish within")
    assert "error" not in both.output()


def refused(port):
    """Return True if a TCP port refuses connections."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_a_drain_ends_at_its_timeout(make, backends, ports):
    """A connection that never ends is cut at the end of stop-timeout, and the exit status is 0 nevertheless."""
    node = make(echo_service(ports[1], backends), node='stop-timeout = "1s"').start()
    family = node.family()
    with connected(ports[1]) as sock:
        assert exchange(sock, b"before") == b"before"
        began = time.monotonic()
        os.kill(node.pid, signal.SIGINT)
        with pytest.raises(ConnectionResetError):
            sock.recv(10)
        assert 0.8 < time.monotonic() - began < 2
    assert node.proc.wait(3) == 0
    assert not living(family)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(both, ports, second):
    """A second SIGTERM, or a SIGINT, cuts open connections; no process remains, not even a stopped worker."""
    family = both.family()
    os.kill(both.workers()[0], signal.SIGSTOP)
    with connected(ports[1]) as sock:
        sock.send(b"x")
        os.kill(both.pid, signal.SIGTERM)
        time.sleep(0.2)
        assert both.proc.alive
        os.kill(both.pid, second)
        assert both.proc.wait(2) == 0
    assert not living(family)
    assert not both.socket.exists()
    assert both.told("second stop signal")


def test_deaths_while_draining(both, ports):
    """Workers and health that die while the daemon drains do not delay its end, and none is restarted."""
    family = both.family()
    with connected(ports[1]) as sock:
        assert exchange(sock, b"x") == b"x"
        os.kill(both.pid, signal.SIGINT)
        until(lambda: both.told("what is open may finish within"), 2, "the drain to begin")
        for pid in family[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert both.proc.wait(3) == 0
    assert not living(family)
    assert not both.told("restarted as pid")


def test_signals_to_the_whole_group(both):
    """A terminal's interrupt reaches every process: the master acts on it, the others ignore it."""
    family = both.family()
    for pid in family[1:]:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGHUP)
    time.sleep(0.3)
    assert both.family() == family
    os.killpg(both.pid, signal.SIGINT)
    assert both.proc.wait(3) == 0
    assert "Traceback" not in both.output()


def test_signals_that_mean_nothing(both):
    """No signal that people send ends the master or a child without a word: the master tells what came and goes on."""
    family = both.family()
    numbers = set(signals.OURS) - {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR2}
    for pid in family[1:]:
        for number in signals.OURS:
            os.kill(pid, number)
    for number in [*numbers, *numbers]:
        os.kill(both.pid, number)
    for name in ("SIGALRM", "SIGVTALRM", "SIGPWR", "SIGRTMIN+5"):
        until(lambda name=name: both.told(f"{name} means nothing here: ignored"), 5, "it to be told")
    time.sleep(0.3)
    assert both.family() == family
    assert both.output().count("SIGALRM means nothing here") == 1
    assert all(worker["alive"] for worker in both.status()["workers"])


def test_signals_before_it_listens(make, backends, ports):
    """A signal that is to change nothing ends no daemon that still starts: it is taken when the daemon listens."""
    node = make(dns_service(ports[0], backends)).start(ready=False)
    command = Path(f"/proc/{node.pid}/status")
    held = 1 << (signal.SIGUSR1 - 1)
    until(lambda: int(re.search(r"SigBlk:\s+(\w+)", command.read_text())[1], 16) & held, 10, "it to hold them")
    os.kill(node.pid, signal.SIGUSR1)
    node.until(settled, "the daemon to be ready")
    until(lambda: node.told("SIGUSR1: reopening the log files"), 2, "the signal to be taken")


def test_log_files_are_opened_anew(make, backends, ports):
    """SIGUSR1: the timeline and the connection log go on in the files that have their names now."""
    node = make(dns_service(ports[0], backends))
    log = node.dir / "log"
    log.mkdir(mode=0o755)
    node.text += f'[log]\nconnections = "all"\nconnections-to = "{log}/connections"\n'
    node.start()
    until((log / "connections").exists, 5, "the connection log")
    for path in (log / "connections", node.dir / "state" / "events.jsonl"):
        path.rename(f"{path}.old")
    os.kill(node.pid, signal.SIGUSR1)
    until((log / "connections").exists, 5, "the connection log")
    os.kill(node.pid, signal.SIGHUP)
    until((node.dir / "state" / "events.jsonl").exists, 5, "the timeline")
    until(lambda: "reload" in (node.dir / "state" / "events.jsonl").read_text(), 5, "an event")


def test_quit(both, ports):
    """SIGQUIT, which a terminal may send, stops the daemon at once, says so, and leaves no child and no core."""
    family = both.family()
    with connected(ports[1]) as sock:
        sock.send(b"x")
        os.kill(both.pid, signal.SIGQUIT)
        assert both.proc.wait(5) == 0
    assert not living(family)
    assert not both.socket.exists()
    assert both.told("SIGQUIT: stopping at once")


def test_events_have_the_time_at_which_they_happened(both, backends):
    """A verdict that falls while the master is stopped is recorded as of when health saw it, not of when it was read."""
    os.kill(both.pid, signal.SIGSTOP)
    try:
        backends[0].silent = True
        time.sleep(2.5)
        resumed = time.time()
    finally:
        os.kill(both.pid, signal.SIGCONT)
    until(lambda: both.told("verdict dns/b0", "down"), 10, "the verdict")
    down = next(e for e in both.ask("events")["events"] if e["subject"] == "dns/b0" and e["text"].startswith("down"))
    assert unix(down["at"]) < resumed - 0.5


# -- starts that fail


def test_ports_in_use(both, make, backends, ports):
    """R11: a second daemon on the same UDP and TCP ports does not start, and names all of these ports and their holder."""
    code, lines = make(dns_service(ports[0], backends) + echo_service(ports[1], backends)).failed()
    assert code == 1
    assert lines == [
        f"steelyard: service.dns: 127.0.0.1:{ports[0]}/udp: already in use by steelyard (pid {both.pid})",
        f"steelyard: service.dns: 127.0.0.1:{ports[0]}/tcp: already in use by steelyard (pid {both.pid})",
        f"steelyard: service.echo: 127.0.0.1:{ports[1]}/tcp: already in use by steelyard (pid {both.pid})",
    ]
    with asker(ports[0]) as client:
        client.ask(50)
        assert client.collect(2) == 0
        assert client.bad == []


def test_control_socket_of_a_living_daemon(both, make, backends):
    """S2: a second daemon with the same control socket does not start, and names its owner; the first one keeps it."""
    other = make(dns_service(free_port(), backends))
    other.text = other.text.replace(str(other.socket), str(both.socket))
    code, lines = other.failed()
    assert code == 1
    assert len(lines) == 1
    assert f"another daemon, pid {both.pid}, answers there" in lines[0]
    assert [path.name for path in (other.dir / "state").iterdir()] == ["lock"]
    assert both.workers()


def test_names_that_this_host_does_not_know(make, backends):
    """R13: an unknown user and an unknown group are errors at their places in the file; nothing is begun."""
    node = make(dns_service(free_port(), backends), node='user = "no-such-user"')
    node.text = node.text.replace("[control]\n", '[control]\ngroup = "no-such-group"\n')
    code, lines = node.failed()
    assert code == 2
    assert any('toml:7:9: error: this host has no group "no-such-group"' in line for line in lines), lines
    if os.geteuid() == 0:
        assert any('toml:5:8: error: this host has no user "no-such-user"' in line for line in lines), lines
    assert not (node.dir / "state").exists()


def test_too_low_a_limit(make, backends):
    """A limit of open files that is too low for the file is told before anything is begun."""
    node = make(dns_service(free_port(), backends))
    code, lines = node.failed(prefix=["prlimit", "--nofile=128", "--"])
    assert (code, len(lines)) == (1, 1)
    assert lines[0].startswith("steelyard: the limit of open files is 128")
    assert not (node.dir / "state").exists()


def several_users():
    """Return True if this user namespace has more than one user."""
    return int(Path("/proc/self/uid_map").read_text().split()[2]) > 1


def test_a_privileged_port(make, backends):
    """A user without the right to ports below 1024 gets an error that says so, and nothing is left behind."""
    node = make(dns_service(953, backends))
    code, lines = node.failed(prefix=ORDINARY)
    assert code == 1
    assert len(lines) == 2
    assert all("not permitted: ports below 1024" in line for line in lines)
    assert [path.name for path in (node.dir / "state").iterdir()] == ["lock"]
    assert not node.socket.exists()


def test_an_unwritable_state_directory(make, backends, ports):
    """A state directory that cannot be written costs a warning, not the start."""
    node = make(dns_service(ports[0], backends))
    (node.dir / "state").write_text("a file is in the way")
    node.start()
    assert sum("events are kept in memory only" in line for line in node.output().splitlines()) == 1


@pytest.mark.parametrize("module", ["proxy.worker", "proxy.healthd"])
def test_a_child_by_hand(module):
    """A part of the daemon that is started by hand says so, whatever its arguments are."""
    for arguments in ([], ["0", "-", "-", "info", "text"]):
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr == "steelyard: this is a part of `steelyard run`, which starts it: not to be run by hand\n"
        assert not done.stdout


# -- the start


def test_nothing_is_refused_before_the_first_verdict(make, backends, ports):
    """H1: queries and connections that arrive before the first pass wait, reach no backend until then, and are served."""
    for one in backends:
        one.hold_probes = True
    service = dns_service(ports[0], backends).replace('timeout = "150ms"', 'timeout = "10s"')
    node = make(service.replace('interval = "200ms"', 'interval = "10s"')).start(ready=False)
    until(node.socket.exists, 5, "the daemon to have bound")
    with asker(ports[0]) as client, connected(ports[0]) as sock:
        client.ask(30)
        query = question("www.example.net", 7)
        sock.sendall(len(query).to_bytes(2, "big") + query)
        until(lambda: all(one.probes for one in backends), 10, "the probes")
        assert client.collect(0.5) == 30
        assert not backends[0].queries + backends[1].queries
        backends[0].release()
        assert client.collect(3) == 0
        assert client.bad == []
        assert len(backends[0].queries) == 30  # the other one has not passed yet
        assert not backends[1].queries
    assert not node.told("no verdict after")


def test_a_first_verdict_that_does_not_come(make, backends, ports):
    """H1: after 3 s of probing without a verdict a service answers SERVFAIL, because no backend is known to be up."""
    for one in backends:
        one.silent = True
    service = dns_service(ports[0], backends).replace('timeout = "150ms"', 'timeout = "10s"')
    node = make(service.replace('interval = "200ms"', 'interval = "10s"')).start(ready=False)
    until(node.socket.exists, 5, "the daemon to have bound")
    with asker(ports[0]) as client:
        client.ask(10)
        until(lambda: all(one.probes for one in backends), 10, "the probes")
        assert client.collect(1.5) == 10
        assert client.collect(5) == 0
        assert {code for _, code in client.bad} == {2}
    assert not backends[0].queries
    assert node.told("no verdict after 3 s")


def test_connections_of_a_backend_that_went_down(make, backends, ports):
    """T17: when a backend goes down, its connections are reset if the service says so, and kept otherwise."""
    services = echo_service(ports[0], backends[:1], 'on-down = "reset"') + echo_service(ports[1], backends[:1]).replace(
        "service.echo", "service.kept"
    )
    node = make(services).start()
    with connected(ports[0]) as lost, connected(ports[1]) as kept:
        assert exchange(lost, b"x") + exchange(kept, b"y") == b"xy"
        backends[0].refuse()
        with pytest.raises(ConnectionResetError):
            lost.recv(10)
        assert exchange(kept, b"z") == b"z"
    assert node.told("echo/b0", "down", "refused")


# -- what the children are


def privileges(pid):
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        name: fields[name].split()
        for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "NoNewPrivs", "Uid", "Gid", "Groups")
    }


NOTHING = ["0000000000000000"]


@pytest.mark.parametrize("prefix", [[], UNSHARED], ids=["here", "unshared"])
def test_children_have_no_privileges(make, backends, ports, prefix):
    """S1: workers and health have no capability and no way to get one, and run as another user if there is one."""
    node = make(dns_service(ports[0], backends)).start(prefix=prefix)
    children = [*node.workers(), node.health()]
    assert len(children) == 3
    for pid in children:
        found = privileges(pid)
        for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
            assert found[name] == NOTHING, (name, found)
        assert found["NoNewPrivs"] == ["1"]
        if several_users() and not prefix:
            assert found["Uid"] == ["65534"] * 4
            assert found["Gid"] == ["65534"] * 4
            assert found["Groups"] == []
    assert node.told("children keep our user") == (bool(prefix) or not several_users())


def test_children_inherit_little(make, backends, ports, monkeypatch):
    """S6: children get neither the environment nor the arguments of the master."""
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    node = make(dns_service(ports[0], backends)).start()
    for pid in node.family()[1:]:
        names = {line.partition(b"=")[0] for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")} - {b""}
        assert names <= {name.encode() for name in KEPT} | {b"PYTHONPATH", b"PYTHONDONTWRITEBYTECODE"}
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert str(node.dir).encode() not in b" ".join(arguments)
        fds = {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in (0, 1, 2)}
        assert "/dev/null" in fds


RECORDER = """
import os, sys
if any(one.startswith("proxy.") for one in sys.orig_argv):
    record = os.open(os.path.join(os.path.dirname(__file__), "imports"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    def hook(event, arguments):
        if event == "import":
            with open("/proc/self/status") as status:
                if "NoNewPrivs:\\t1" in status.read():
                    os.write(record, f"{sys.orig_argv[3]} {arguments[0]}\\n".encode())
    sys.addaudithook(hook)
"""


def test_nothing_is_imported_without_privileges(make, backends, ports, tmp_path):
    """Children import nothing after they have dropped their privileges, because perhaps only root can read the interpreter."""
    root = tmp_path / "root"
    for package in ("proxy", "health", "vrrp"):
        shutil.copytree(ROOT / package, root / package)
    (root / "sitecustomize.py").write_text(RECORDER)
    services = dns_service(ports[0], backends) + echo_service(ports[1], backends, 'scheduler = "maglev"')
    node = make(services).start(root=root)
    os.kill(node.workers()[0], signal.SIGSTOP)
    with asker(ports[0]) as client, connected(ports[1]) as sock:
        client.ask(20)
        assert client.collect(3) == 0
        assert exchange(sock, b"x") == b"x"
    backends[0].refuse()
    backends[0].silent = True
    node.until(lambda s: all(x["backends"][0]["state"] == "down" for x in s["services"]), "a backend to go down")
    with asker(ports[0]) as client:
        client.ask(20)
        assert client.collect(3) == 0
    os.kill(node.pid, signal.SIGKILL)
    until(lambda: not living(node.family()[1:]), 5, "the children to leave")
    assert (root / "imports").read_text() == ""
