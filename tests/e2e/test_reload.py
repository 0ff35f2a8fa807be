"""A file that is changed and reloaded while a daemon with two workers serves."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.loaded import counters, shrunk
from tests.e2e.loopback import (
    PROBE,
    QUICK,
    ROOT,
    Backend,
    Node,
    asker,
    connected,
    exchange,
    free_port,
    lift_loopback,
)
from tests.e2e.process import until


class Bed:
    """A daemon with the services `tcp`, `udp` and `dns`, each with the same first two backends.

    `write` replaces texts of its file, `reload` gives the command.
    """

    def __init__(self, directory: Path) -> None:
        lift_loopback()
        self.backends = [Backend() for _ in range(3)]
        self.tcp, self.udp, self.dns = free_port(), free_port(), free_port()
        rows = ", ".join(f'"127.0.0.1:{one.port}"' for one in self.backends[:2])
        self.keys = (
            f'backends = [{rows}]\nprobe = {{ type = "dns", query = "{PROBE} A", transport = "udp", {QUICK} }}\n'
        )
        self.node = Node(
            directory,
            f'[service.tcp]\nlisten = ["127.0.0.1:{self.tcp}/tcp"]\nscheduler = "rr"\n{self.keys}'
            f'[service.udp]\nlisten = ["127.0.0.1:{self.udp}/udp"]\nscheduler = "rr"\n{self.keys}'
            f'[service.dns]\nlisten = ["127.0.0.1:{self.dns}/udp"]\nprotocol = "dns"\nscheduler = "rr"\n{self.keys}',
        ).start()

    def write(self, *pairs: tuple[str, str], more: str = "") -> None:
        """Replace texts of the file; `more` is added at its end."""
        text = self.node.file.read_text()
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new)
        self.node.file.write_text(text + more)

    def reload(self, *options: str, code: int = 0) -> str:
        """Give the command, which must end with this status; return what it says."""
        found, text = self.node.steelyard("reload", *options)
        assert found == code, text
        return text

    def service(self, name: str) -> dict:
        """Return a service of a status from after this call."""
        return next(one for one in self.node.fresh()["services"] if one["name"] == name)

    def events(self, kind: str) -> list[dict]:
        """Return the events of this kind."""
        return [event for event in self.node.ask("events")["events"] if event["kind"] == kind]

    def close(self) -> None:
        """End all of it."""
        self.node.end()
        for one in self.backends:
            one.close()


@pytest.fixture
def bed(tmp_path):
    bed = Bed(tmp_path)
    try:
        yield bed
    finally:
        bed.close()


def serves(port):
    """Return True if an echo service answers on a port."""
    with contextlib.suppress(OSError), connected(port, timeout=2.0) as sock:
        return exchange(sock, b"word") == b"word"
    return False


def test_what_is_equal_is_not_touched(bed):
    """R3: a reload that changes one service keeps connections, queries in flight, verdicts and counters of all.

    No worker restarts, and no probe starts anew: `since` of each verdict stays.
    """
    before = bed.node.fresh()
    with connected(bed.tcp) as kept, asker(bed.dns) as client:
        assert exchange(kept, b"before") == b"before"
        for one in bed.backends:
            one.hold = True
        client.ask(10)
        until(lambda: sum(len(one._held) for one in bed.backends) >= 10, 5, "the queries to be with the backends")
        bed.write(("[service.tcp]", '[service.tcp]\ntcp = { idle-timeout = "7m" }'))
        assert 'service tcp: tcp.idle-timeout "1h" -> "7m"' in bed.reload()
        for one in bed.backends:
            one.release()
        assert client.collect(5) == 0
        assert client.bad == []
        assert exchange(kept, b"after") == b"after"
    after = bed.node.fresh()
    assert [one["pid"] for one in after["workers"]] == [one["pid"] for one in before["workers"]]
    for old, new in zip(before["services"], after["services"], strict=True):
        assert new["state"] == "up"
        assert [one["since"] for one in new["backends"]] == [one["since"] for one in old["backends"]]
    assert bed.service("tcp")["counters"]["accepted"] >= 1
    assert after["generation"] == before["generation"] + 1
    assert all(worker["generation"] == after["generation"] for worker in after["workers"])


def test_counters_only_grow(bed):
    """R8: no counter of a service or of a backend that stays is smaller after reloads that change both."""
    third = f'"127.0.0.1:{bed.backends[2].port}"]'
    assert serves(bed.tcp)
    with asker(bed.dns) as client:
        client.ask(10)
        assert client.collect(5) == 0
    before = counters(bed.node.fresh())
    assert (before["dns queries"], before["tcp accepted"]) == (10, 1)
    assert sum(count for name, count in before.items() if name.startswith("dns/") and name.endswith(" total")) == 10
    for pairs in (
        ('scheduler = "rr"', 'scheduler = "lc"'),
        (f'{bed.backends[1].port}"]', f'{bed.backends[1].port}", {third}'),
    ):
        bed.write(pairs)
        bed.reload()
        after = counters(bed.node.fresh())
        assert shrunk(before, after) == []
        before = after


def test_listeners_come_and_go(bed):
    """R6: a new listener serves, one that is removed refuses, and connections that came by it go on."""
    new = free_port()
    with connected(bed.tcp) as kept:
        assert exchange(kept, b"one") == b"one"
        bed.write((f"127.0.0.1:{bed.tcp}/tcp", f"127.0.0.1:{new}/tcp"))
        text = bed.reload()
        assert f"listener 127.0.0.1:{new}/tcp: added" in text
        assert serves(new)
        until(lambda: not serves(bed.tcp), 5, "the old listener to be closed")
        assert exchange(kept, b"two") == b"two"
    assert bed.service("tcp")["listen"] == [f"127.0.0.1:{new}/tcp"]


def test_a_listener_that_comes_back_loses_nothing(bed):
    """R6: listeners that are removed and come back at once serve every client, also those with UDP sessions."""
    other = free_port(), free_port()
    with asker(bed.udp) as client:
        for _ in range(4):
            client.ask(8)
            assert client.collect(5) == 0
            pairs = [(f"127.0.0.1:{bed.udp}/udp", f"127.0.0.1:{other[0]}/udp")]
            pairs += [(f"127.0.0.1:{bed.tcp}/tcp", f"127.0.0.1:{other[1]}/tcp")]
            bed.write(*pairs)
            bed.reload()
            assert not serves(bed.tcp)
            bed.write(*((new, old) for old, new in pairs))
            bed.reload()
            assert all(serves(bed.tcp) for _ in range(8))
            client.ask(8)
            assert client.collect(5) == 0
        assert client.bad == []


def test_clients_that_wait_in_a_removed_listener_are_served(bed):
    """R6: connections that are queued in a listener when it is removed are accepted and served."""
    stopped = bed.node.workers()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    socks = [socket.create_connection(("127.0.0.1", bed.tcp), 5) for _ in range(20)]
    bed.write((f"127.0.0.1:{bed.tcp}/tcp", f"127.0.0.1:{free_port()}/tcp"))
    waiting = threading.Thread(target=bed.reload)
    waiting.start()
    time.sleep(0.3)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    waiting.join(10)
    for sock in socks:
        sock.settimeout(5)
        with sock:
            assert exchange(sock, b"word") == b"word"


def test_services_come_and_go(bed):
    """R6: a new service opens with its first verdict; a removed one is gone, and what it has open goes on."""
    port = free_port()
    with connected(bed.tcp) as kept:
        assert exchange(kept, b"one") == b"one"
        bed.write(
            ("[service.tcp]", "[service.other]"), more=f'[service.new]\nlisten = ["127.0.0.1:{port}/tcp"]\n{bed.keys}'
        )
        text = bed.reload()
        assert "service tcp: removed" in text
        assert "service new: added" in text
        assert f"listener 127.0.0.1:{bed.tcp}/tcp: moved, from tcp to other" in text
        assert serves(port)
        assert serves(bed.tcp)
        assert exchange(kept, b"two") == b"two"
    assert [one["name"] for one in bed.node.fresh()["services"]] == ["other", "udp", "dns", "new"]


def test_backends_come_and_go(bed):
    """R3: a backend that is gone from the file keeps its connections and gets no new ones; a new one gets its share."""
    first, second, third = (f'"127.0.0.1:{one.port}"' for one in bed.backends)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(bed.tcp)) for _ in range(4)]
        assert all(exchange(sock, b"one") == b"one" for sock in socks)
        bed.write((f"backends = [{first}, {second}]", f"backends = [{second}, {third}]"))
        bed.reload()
        bed.node.until(
            lambda status: any(
                one["name"] == third.strip('"') and one["effective_weight"] for one in status["services"][0]["backends"]
            ),
            "the new backend to serve",
        )
        before = [one.connections for one in bed.backends]
        for _ in range(12):
            assert serves(bed.tcp)
        after = [one.connections for one in bed.backends]
        assert after[0] == before[0]
        assert after[1] > before[1]
        assert after[2] > before[2]
        assert all(exchange(sock, b"two") == b"two" for sock in socks)
    names = {second.strip('"'), third.strip('"')}
    bed.node.until(lambda s: {one["name"] for one in s["services"][0]["backends"]} == names, "the old one to be gone")
    assert json.loads(bed.node.steelyard("overrides", "--json")[1])["overrides"] == []


def test_a_changed_probe_starts_from_the_verdict(bed):
    """R3: a backend whose probe changes is never without a verdict, and goes down by the new probe's own rules."""
    seen = set()
    bed.write((f'"{PROBE} A"', f'"{PROBE} A", rcode = "NXDOMAIN"'))
    bed.reload()

    def down():
        states = {one["state"] for service in bed.node.status()["services"] for one in service["backends"]}
        seen.update(states)
        return states == {"down"}

    until(down, 10, "the new probe's verdict", every=0.02)
    assert seen == {"up", "down"}


def test_a_dry_run_changes_nothing(bed):
    """R1: `--dry-run` prints the steps of the reload, as text and as JSON, and does nothing else."""
    before = bed.node.fresh()
    bed.write(("[service.tcp]", "[service.tcp]\nweight-from = 1"), ("weight-from = 1", 'on-down = "reset"'))
    assert 'service tcp: on-down "keep" -> "reset"' in bed.reload("--dry-run")
    document = json.loads(bed.reload("--dry-run", "--json"))
    assert [(step["act"], step["kind"], step["name"]) for step in document["steps"]] == [("change", "service", "tcp")]
    assert (document["dry_run"], document["changed"]) == (True, False)
    after = bed.node.fresh()
    assert after["generation"] == before["generation"]
    assert after["config"]["sha256"] == before["config"]["sha256"]
    bed.node.until(lambda status: status["config"]["on_disk_sha256"] != before["config"]["sha256"], "the change")
    assert "the file on the disk is another than the one in force" in bed.node.steelyard("status")[1]
    bed.reload()
    assert "the file on the disk" not in bed.node.steelyard("status")[1]


def test_what_needs_a_new_process(bed):
    """R6: a setting that only a new process can have is named, and the rest is done, or nothing with `--strict`."""
    before = bed.node.fresh()
    bed.write(("workers = 2", "workers = 3"), ("[service.tcp]", '[service.tcp]\non-down = "reset"'))
    text = bed.reload("--strict", code=1)
    assert "[node]: workers 2 -> 3 (needs reexec)" in text
    after = bed.node.fresh()
    assert (after["generation"], after["config"]["valid"]) == (before["generation"], True)
    text = bed.reload()
    assert "1 step needs `steelyard reexec`" in text
    after = bed.node.fresh()
    assert (len(after["workers"]), after["generation"]) == (2, before["generation"] + 1)


def test_a_bad_file_changes_nothing(bed):
    """R1: a mistake is told with its place, in the answer, the status and the timeline; the old file goes on."""
    before = bed.node.fresh()
    bed.write(("[service.tcp]", "[service.tcp]\nschedular = 1"))
    text = bed.reload(code=2)
    assert f"{bed.node.file}:" in text
    assert 'unknown key "schedular"' in text
    after = bed.node.fresh()
    assert after["config"]["valid"] is False
    assert 'unknown key "schedular"' in after["config"]["error"]
    assert after["config"]["sha256"] == before["config"]["sha256"]
    assert bed.node.steelyard("status")[0] == 1
    assert bed.events("reload")[-1]["level"] == "error"
    assert serves(bed.tcp)
    bed.write(("\nschedular = 1", ""))
    bed.reload()
    assert bed.node.fresh()["config"]["valid"] is True


def test_a_taken_port_changes_nothing(bed):
    """R1: what only trying shows ends with 1: nothing of the reload is in force, not even what could be."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        bed.write((f"127.0.0.1:{bed.tcp}/tcp", f'127.0.0.1:{port}/tcp", "127.0.0.1:{free_port()}/tcp'))
        text = bed.reload(code=1)
    assert f"service.tcp: 127.0.0.1:{port}/tcp: already in use by " in text
    assert serves(bed.tcp)


def test_sighup_reloads(bed):
    """SIGHUP does what the command does, and the timeline has the outcome."""
    bed.write(("[service.tcp]", '[service.tcp]\non-down = "reset"'))
    os.kill(bed.node.pid, signal.SIGHUP)
    until(lambda: any(e["text"].startswith("reloaded: 1 step") for e in bed.events("reload")), 10, "the reload")


def test_many_at_once(bed):
    """R5: reloads that come together run one after the other, and all are told the outcome."""
    command = [sys.executable, "-P", "-m", "proxy", "-s", str(bed.node.socket), "reload"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    bed.write(("[service.tcp]", '[service.tcp]\non-down = "reset"'))
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    told = [(proc.communicate(timeout=30)[0], proc.returncode) for proc in started]
    assert [code for _, code in told] == [0] * 5
    assert any('service tcp: on-down "keep" -> "reset"' in text for text, _ in told)
    assert bed.service("tcp")["state"] == "up"


def test_overrides_survive(bed):
    """R9: what operators have changed stays until the file changes that very value."""
    first, second = (f"127.0.0.1:{one.port}" for one in bed.backends[:2])
    bed.node.steelyard("weight", "tcp", first, "7")
    bed.node.steelyard("drain", "dns", second)
    bed.write(("[service.tcp]", '[service.tcp]\non-down = "reset"'))
    bed.reload()

    def shown(service, name):
        return next(one for one in bed.service(service)["backends"] if one["name"] == name)

    assert (shown("tcp", first)["weight"], shown("dns", second)["admin"]) == (7, "drain")
    bed.write(
        (f'"{first}"', f'{{ address = "127.0.0.1", port = {bed.backends[0].port}, name = "{first}", weight = 3 }}')
    )
    text = bed.reload()
    assert f"override tcp/{first}: ended" in text
    assert (shown("tcp", first)["weight"], shown("dns", second)["admin"]) == (3, "drain")


def test_the_log_and_the_control_group(bed):
    """A changed log level holds in every process; a changed group may read the control socket at once."""
    import grp

    group = grp.getgrall()[-1]
    bed.write(("[control]\n", f'[log]\nlevel = "debug"\nconnections = "all"\n[control]\ngroup = "{group.gr_name}"\n'))
    bed.reload()
    info = bed.node.socket.stat()
    assert (info.st_mode & 0o777, info.st_gid) == (0o660, group.gr_gid)
    assert serves(bed.tcp)
    until(lambda: bed.node.told("127.0.0.1", "bytes"), 5, "a line of the connection log")


def test_a_daemon_that_stops_reloads_nothing(bed):
    """A daemon that waits for its successor refuses a reload in its own words, which say nothing of the file."""
    os.kill(bed.node.pid, signal.SIGTERM)
    bed.node.until(lambda status: status["state"] == "stopping", "the stop")
    bed.write(("[service.tcp]", '[service.tcp]\non-down = "reset"'))
    assert "the daemon is stopping: nothing has changed" in bed.reload(code=1)
    os.kill(bed.node.pid, signal.SIGHUP)
    until(lambda: len([one for one in bed.events("reload") if "stopping" in one["text"]]) == 2, 5, "the second event")
    assert bed.node.fresh()["config"]["valid"] is True
    assert serves(bed.tcp)
