"""Programs and FIFOs that are told of services and backends by a running daemon."""

import json
import os
import signal
import time

import pytest

from tests.command import steelyard
from tests.e2e.loopback import Backend, Node, dns_service, free_port, lift_loopback
from tests.e2e.process import until


@pytest.fixture(autouse=True, scope="module")
def _loopback():
    lift_loopback()


@pytest.fixture
def backends():
    two = [Backend(), Backend()]
    yield two
    for one in two:
        one.close()


class Told:
    """A node whose [notify.NAME] run scripts in its directory."""

    def __init__(self, directory, backends):
        self.dir, self.backends = directory, backends
        self.calls, self.batches = directory / "calls", directory / "batches"
        self.page = self.script("page", f'echo "$@" $(grep CapEff /proc/self/status) >> {self.calls}')
        self.batch = self.script("batch", f"(echo call; cat) >> {self.batches}")
        self.port = free_port()
        self.node = Node(directory, dns_service(self.port, backends, extra="quorum = 1"), workers=1)

    def script(self, name, body):
        """Write a script."""
        path = self.dir / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def notify(self, *tables):
        """Add notifications, each a name and its keys."""
        for name, keys in tables:
            self.node.text += f"[notify.{name}]\n{keys}\n"

    def called(self):
        """Return what the script was told, without the reasons."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [" ".join(line.split()[:3]) for line in lines]

    def go(self, at, *, silent):
        """Let a backend stop or go on answering, and wait for its verdict."""
        self.backends[at].silent = silent
        state = "down" if silent else "up"
        self.node.until(lambda status: status["services"][0]["backends"][at]["state"] == state, f"b{at} to be {state}")

    def counts(self, name):
        """Return the counters of a notification."""
        return next(one for one in self.node.fresh()["notify"] if one["name"] == name)


@pytest.fixture
def told(tmp_path, backends):
    """Make a node that tells; it is gone afterwards."""
    made = Told(tmp_path, backends)
    yield made
    made.node.end()


def test_a_backend_that_fails_is_told(told):
    """V20, S4: a program is told of backends and of the service with keepalived's arguments, without any capability."""
    fifo = told.dir / "fifo"
    told.notify(
        ("page", f'on = ["dns"]\ncommand = ["{told.page}"]'),
        ("one", f'on = ["dns/b1"]\nto = ["down", "up"]\nfifo = "{fifo}"'),
    )
    told.node.start()
    assert told.called() == []  # up is how a backend is expected to be
    told.go(1, silent=True)
    until(lambda: told.called() == ["BACKEND dns/b1 DOWN"], 10, "the call")
    line = told.calls.read_text()
    assert "no answer" in line
    assert int(line.split()[-1], 16) == 0
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    told.go(0, silent=True)
    until(lambda: "SERVICE dns REFUSING" in told.called(), 10, "the service to be told of")
    told.go(1, silent=False)
    until(lambda: told.called()[-2:] in _orders("SERVICE dns SERVING", "BACKEND dns/b1 UP"), 10, "the return")
    until(lambda: told.counts("page")["passed"] == 5, 10, "the count")
    lines = os.read(reader, 4096).decode().splitlines()
    os.close(reader)
    assert [line.split()[:3] for line in lines] == [["BACKEND", '"dns/b1"', "DOWN"], ["BACKEND", '"dns/b1"', "UP"]]
    assert told.counts("one") == {"name": "one", "passed": 2, "failed": 0, "dropped": 0, "waiting": 0}


def _orders(one, other):
    return ([one, other], [other, one])


def test_a_mass_failure_is_one_call(told):
    """With batch = true the changes of a moment are one call, with a line for each on standard input."""
    told.notify(("all", f'to = ["down"]\nbatch = true\ncommand = ["{told.batch}"]'))
    told.node.start()
    for one in told.backends:
        one.silent = True
    until(lambda: told.batches.exists() and told.batches.read_text().count("DOWN") == 2, 10, "the call")
    lines = told.batches.read_text().splitlines()
    assert lines.count("call") == 1
    assert sorted(line.split()[1] for line in lines[1:]) == ['"dns/b0"', '"dns/b1"']


def test_a_program_that_fails_is_an_event(told):
    """A program that is missing or ends with an error is a warning with its last words, in the log, events and status."""
    failing = told.script("failing", "echo first >&2; printf 'no \\033[2Jpager\\n' >&2; exit 3")
    told.notify(
        ("failing", f'to = ["down"]\ncommand = ["{failing}"]'),
        ("missing", f'to = ["down"]\ncommand = ["{told.dir}/missing"]'),
    )
    told.node.start()
    told.go(0, silent=True)
    until(lambda: told.node.told("warning notify failing", "ended with 3: no ?[2Jpager"), 10, "the warning")
    until(lambda: told.node.told("warning notify missing", "was not run", "no such file"), 10, "the other one")
    code, said = told.node.steelyard("events", "--kind", "notify", "--json")
    assert code == 0
    assert {json.loads(line)["subject"] for line in said.splitlines()} == {"failing", "missing"}
    until(lambda: told.counts("failing")["failed"] == 1, 10, "the count")
    _, shown = told.node.steelyard("status")
    assert "notify failing: 1 failed (steelyard events --kind notify)" in shown


def test_what_was_told_is_not_told_again_after_a_restart(told):
    """A restart tells nothing of what was told before, and what has changed while no daemon ran is told."""
    told.notify(("page", f'to = ["down", "up"]\ncommand = ["{told.page}"]'))
    told.node.start()
    told.go(1, silent=True)
    until(lambda: told.called() == ["BACKEND dns/b1 DOWN"], 10, "the call")
    told.node.end()
    told.node.start()
    time.sleep(0.5)
    assert told.called() == ["BACKEND dns/b1 DOWN"]
    told.node.end()
    told.backends[1].silent = False
    told.node.start()
    until(lambda: told.called() == ["BACKEND dns/b1 DOWN", "BACKEND dns/b1 UP"], 10, "the return")


def test_what_was_told_is_not_told_again_after_a_reexec(told):
    """R12: a new version tells nothing of what the old one told, and goes on from there."""
    told.notify(("page", f'to = ["down", "up"]\ncommand = ["{told.page}"]'))
    told.node.start()
    told.go(1, silent=True)
    until(lambda: told.called() == ["BACKEND dns/b1 DOWN"], 10, "the call")
    assert told.node.steelyard("reexec")[0] == 0
    told.node.until(lambda status: status["services"][0]["backends"][1]["probes"] != [], "the probes to run")
    time.sleep(0.5)
    assert told.called() == ["BACKEND dns/b1 DOWN"]
    told.go(1, silent=False)
    until(lambda: told.called() == ["BACKEND dns/b1 DOWN", "BACKEND dns/b1 UP"], 10, "the return")


def test_notifications_come_and_go_by_reload(told):
    """R2: a reload adds a notification, which is told of what changes from then on, and removes one."""
    told.node.start()
    told.go(0, silent=True)
    told.notify(("page", f'on = ["dns/*"]\ncommand = ["{told.page}"]'))
    told.node.file.write_text(told.node.text)
    code, said = told.node.steelyard("reload")
    assert (code, "notify page: added" in said) == (0, True)
    told.go(1, silent=True)
    until(lambda: told.called() == ["BACKEND dns/b1 DOWN"], 10, "the call")
    told.node.file.write_text(told.node.text.partition("[notify.page]")[0])
    assert told.node.steelyard("reload")[0] == 0
    told.go(1, silent=False)
    assert told.node.fresh()["notify"] == []
    assert told.called() == ["BACKEND dns/b1 DOWN"]


def test_a_process_that_dies_is_replaced(told):
    """R10: the process that runs the programs may be killed: it is replaced, and later changes are told."""
    told.notify(("page", f'to = ["down"]\ncommand = ["{told.page}"]'))
    told.node.start()
    victim = told.node.child("proxy.notifyd")
    os.kill(victim, signal.SIGKILL)
    until(lambda: told.node.told("notify notify", f"pid {victim} died"), 10, "the event")
    told.go(1, silent=True)
    until(lambda: told.called() == ["BACKEND dns/b1 DOWN"], 10, "the call")


def test_check_knows_the_names(told):
    """A notification of nothing, or by a program that is not there, is a warning of `check` and an error with --host."""
    told.notify(("wrong", f'on = ["dnz"]\nto = ["down"]\ncommand = ["{told.dir}/missing"]'))
    told.node.file.write_text(told.node.text)
    for flags, code, word in (((), 0, "warning"), (("--host",), 2, "error")):
        done = steelyard("check", told.node.file, *flags)
        assert done.returncode == code, done.stderr
        assert f'{word}: there is no backend "dnz"' in done.stderr
        assert f"{word}: the daemon will not run it: {told.dir}/missing" in done.stderr
    assert json.loads(steelyard("check", told.node.file, "--host", "--json").stdout)["valid"] is False
