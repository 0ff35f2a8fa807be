"""The link between two whole daemons: operators' acts reach both, and whatever happens to it moves no address."""

import json
import os
import signal
import time

import pytest

from proxy.moments import unix
from tests.e2e.pair_link import admin, link, linked, until_linked
from tests.e2e.pairs import SERVER
from tests.e2e.process import cpu_seconds, until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Make two daemons with a link between them, and start them."""
    with linked(tmp_path_factory.mktemp("pair"), workers=1) as made:
        made.start()
        yield made


@pytest.fixture
def pair(started):
    """Return the two daemons, linked, without any act of an operator."""
    started.restore()
    until_linked(started)
    assert started.a.daemon.cli("overrides", "clear", "--force").returncode == 0
    until(lambda: admin(started.a) == admin(started.b) == "ready", 5, "no acts")
    return started


def test_an_act_reaches_both(pair):
    """P1: an act on one host is in force on the other one when the command returns; the answer and both timelines say so."""
    done = pair.a.daemon.cli("drain", "dns", SERVER, "--force", "--reason", "a test")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("changed\nb: done\n")
    assert admin(pair.a) == admin(pair.b) == "drain"
    (row,) = json.loads(pair.b.daemon.cli("overrides", "--json").stdout)["overrides"]
    assert row["by"] == f"uid {os.geteuid()} on a"
    assert row["reason"] == "a test"
    assert any(f"drain, by uid {os.geteuid()} on a: a test" in one["text"] for one in pair.b.daemon.events())
    done = pair.b.daemon.cli("ready", "dns", SERVER, "--json")
    assert json.loads(done.stdout)["peer"] == {"node": "a", "state": "done", "text": "done"}
    assert admin(pair.a) == admin(pair.b) == "ready"


def test_weights_and_lists_reach_both(pair):
    """`weight`, `add`, `remove` and `overrides clear` reach both hosts as well."""
    assert "b: done" in pair.a.daemon.cli("weight", "dns", SERVER, "7").stdout
    assert "a: done" in pair.b.daemon.cli("add", "dns", "198.51.100.77", "--weight", "3").stdout

    def rows(host):
        return {row["name"]: row["weight"] for row in host.daemon.status()["services"][0]["backends"]}

    assert rows(pair.a) == rows(pair.b) == {SERVER: 7, "198.51.100.77": 3}
    assert "b: done" in pair.a.daemon.cli("remove", "dns", "198.51.100.77").stdout
    until(lambda: rows(pair.a) == rows(pair.b) == {SERVER: 7}, 5, "the backend to be gone")
    assert "b: done" in pair.a.daemon.cli("overrides", "clear").stdout
    assert rows(pair.a) == rows(pair.b) == {SERVER: 1}


def test_here_is_this_host_alone(pair):
    """With --here an act stays on its host."""
    done = pair.a.daemon.cli("drain", "dns", SERVER, "--force", "--here")
    assert done.stdout.endswith("\nchanged\n")
    time.sleep(2.5)
    assert (admin(pair.a), admin(pair.b)) == ("drain", "ready")
    pair.a.daemon.cli("ready", "dns", SERVER)


def test_a_host_that_was_away_catches_up(pair):
    """P1: an act while the other host is away succeeds and says so; the other host has it when it is back, without --save."""
    pair.b.daemon.proc.kill()
    until(lambda: link(pair.a)["state"] == "silent", 10, "a to miss b")
    done = pair.a.daemon.cli("drain", "dns", SERVER, "--force")
    assert done.returncode == 0
    assert "b: away: " in done.stdout
    pair.b.start()
    until(lambda: admin(pair.b) == "drain", 10, "b to catch up")
    pair.a.daemon.proc.kill()
    pair.a.start()  # which has forgotten its own act, as nobody asked to save it
    until(lambda: admin(pair.a) == "drain", 10, "a to get it back from b")
    assert "b: done" in pair.a.daemon.cli("ready", "dns", SERVER).stdout


def test_acts_that_cross_end_equal(pair):
    """P1: two acts of which neither host knew the other's end equal on both, by the later one, and both timelines tell."""
    pair.bed.rule("a", "output", "meta l4proto tcp th dport 9601 drop\nmeta l4proto tcp th sport 9601 drop")
    until(lambda: link(pair.a)["state"] == link(pair.b)["state"] == "silent", 15, "the link to be cut")
    assert pair.a.daemon.cli("drain", "dns", SERVER, "--force").returncode == 0
    assert pair.b.daemon.cli("maint", "dns", SERVER, "--force").returncode == 0
    assert (admin(pair.a), admin(pair.b)) == ("drain", "maint")
    pair.bed.nft("a", "flush ruleset")
    until(lambda: admin(pair.a) == admin(pair.b) == "maint", 30, "the later act on both")
    for host in (pair.a, pair.b):
        until(
            lambda host=host: any("two acts have crossed" in one["text"] for one in host.daemon.events()),
            5,
            "it is told",
        )
    pair.a.daemon.cli("ready", "dns", SERVER)
    pair.a.settle()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_process_of_the_link_moves_nothing(pair, number):
    """P2: a killed or stopped herald changes no owner of an address and no verdict, and is replaced."""
    (pid,) = pair.a.child("proxy.heraldd")
    os.kill(pid, number)
    pair.steady("a", 3)
    assert pair.b.moves() == []
    until(lambda: pair.a.child("proxy.heraldd") not in ([], [pid]), 15, "another process")
    until_linked(pair)
    assert pair.holders() == ["a"]
    assert [
        one for one in pair.b.daemon.events() if one["kind"] == "verdict" and unix(one["at"]) >= pair.b._since
    ] == []


def test_a_stopped_peer(pair):
    """A peer whose processes are all stopped is silent within seconds; commands here answer within their bound."""
    pair.b.daemon.proc.stop()
    began = time.monotonic()
    done = pair.a.daemon.cli("drain", "dns", SERVER, "--force")
    assert done.returncode == 0
    assert "b: late: " in done.stdout or "b: away: " in done.stdout
    assert time.monotonic() - began < 5
    until(lambda: link(pair.a)["state"] == "silent", 10, "a to miss b")
    assert pair.holders() == ["a"]
    pair.b.daemon.proc.cont()
    until(lambda: admin(pair.b) == "drain", 30, "b to catch up")
    pair.a.daemon.cli("ready", "dns", SERVER)


def test_the_status_of_the_link(pair):
    """`pair status` shows state, version, clock, file and acts of the other host."""
    found = link(pair.a)
    assert (found["node"], found["peer"], found["state"], found["protocol"]) == ("a", "b", "connected", 1)
    assert abs(found["clock_offset_s"]) < 2
    until(lambda: link(pair.a)["same_acts"] is True, 5, "the next comparison")
    assert found["same_file"] is False  # [node] differs in this bed
    done = pair.a.daemon.cli("pair", "status")
    assert done.returncode == 1
    assert "link      connected since" in done.stdout
    assert json.loads(pair.a.daemon.cli("pair", "diff", "--json").stdout)["same"] is False
    shown = pair.b.daemon.cli("pair", "diff").stdout
    assert '-name = "b"' in shown
    assert '+name = "a"' in shown


def test_both_hosts_must_see_it_down(tmp_path):
    """P2: with require-both-down a backend stays up that only the other host reaches; it goes down when the link does."""
    rule = f"ip daddr {SERVER} drop"
    with linked(tmp_path, more='[defaults]\npeer-verdict = "require-both-down"\n', workers=1) as pair:
        pair.start()
        until_linked(pair)
        pair.bed.rule("a", "output", rule)

        def backend(host):
            return host.daemon.status()["services"][0]["backends"][0]

        until(lambda: "down here" in backend(pair.a)["reason"], 15, "a to lose its backend")
        assert backend(pair.a)["state"] == "up"
        assert backend(pair.a)["peer"]["state"] == "up"
        until(lambda: backend(pair.b)["peer"]["state"] == "down", 5, "b to know a's verdict")
        assert backend(pair.b)["state"] == "up"
        assert pair.until_owner("b", 10) < 10  # which reaches it: the address follows each host's own verdict
        for pid in pair.b.child("proxy.heraldd"):
            os.kill(pid, signal.SIGSTOP)
        until(lambda: backend(pair.a)["state"] == "down", 15, "a to trust itself alone")
        assert pair.holders() == ["b"]


def test_the_cost_at_rest(pair):
    """A link at rest costs some hundred octets of messages a second, and hardly any processor time."""
    before, began = link(pair.a)["counters"], time.monotonic()
    (pid,) = pair.a.child("proxy.heraldd")
    used = cpu_seconds([pid])
    time.sleep(5)
    after, lasted = link(pair.a)["counters"], time.monotonic() - began
    sent = (after["octets_sent"] - before["octets_sent"]) / lasted
    share = (cpu_seconds([pid]) - used) / lasted
    print(f"at rest: {sent:.0f} octets of messages a second, {100 * share:.2f} % of a processor")
    assert 100 < sent < 500
    assert share < 0.03
