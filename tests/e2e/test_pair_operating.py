"""An operator's work with a pair: standby and resume, is-active, status, notifications, rights."""

import json
import os
import re
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from proxy.host.privileges import CAP_NET_ADMIN, CAP_NET_RAW
from proxy.moments import unix
from tests.e2e.clients import whoami_dns
from tests.e2e.daemon import Daemon
from tests.e2e.pairs import ADDRESS, ADDRESS6, SERVER, daemons
from tests.e2e.process import EndedError, until
from tests.e2e.vrrp import Capture, Pinger, holders


@pytest.fixture(scope="module")
def started():
    """Make two daemons that share an address, and start them."""
    with daemons(workers=1) as made:
        made.start()
        yield made


@pytest.fixture
def pair(started):
    """Return the two daemons, healthy again after the previous tests: a is active, b backup, neither on standby."""
    started.restore()
    return started


@pytest.fixture(scope="module")
def quiet():
    """Make two daemons for the tests that change nothing."""
    with daemons(workers=1) as made:
        made.start()
        yield made


def test_standby_and_resume(pair):
    """V6, V11: standby hands the address over within 0.2 s, says who asked, survives a restart, and ends with resume."""
    pinger = Pinger(pair.bed, ADDRESS)
    assert pair.a.daemon.cli("is-active").returncode == 0
    done = pair.a.daemon.cli("standby")
    assert (done.returncode, done.stdout) == (0, "outside  backup, in standby\nchanged\n")
    assert pair.holders() == ["b"]  # and no moment later
    assert pinger.longest_gap() < 0.3
    assert pair.a.daemon.cli("standby").stdout == "outside  backup, in standby\nnothing changed\n"
    assert pair.a.router["standby_reason"].startswith("standby requested by uid ")
    assert abs(unix(pair.a.router["standby_since"]) - time.time()) < 30
    words = " ".join(pair.a.daemon.cli("status", "outside").stdout.split())
    assert "in standby until `steelyard resume`: standby requested by uid" in words
    asked = f"standby requested by uid {os.geteuid()} (pid "
    assert pair.a.moves()[-1][1].startswith(f"backup: {asked}")
    assert (pair.a.daemon.cli("is-active").returncode, pair.b.daemon.cli("is-active").returncode) == (1, 0)
    pair.a.daemon.stop()
    pair.a.start()
    pair.steady("b", 1)
    assert pair.a.router["standby"] is True
    assert (pair.a.router["standby_since"], pair.a.router["standby_reason"]) == (None, "since before the start")
    done = pair.a.daemon.cli("resume", "outside", "--json")
    assert json.loads(done.stdout)["changed"] is True
    assert pair.until_owner("a") < 6
    assert pair.a.daemon.cli("resume").stdout.endswith("nothing changed\n")


def test_standby_without_a_peer(pair):
    """V6: if no host takes over, standby fails, the address stays, and no standby is saved for a restart."""
    pair.b.daemon.stop()
    done = pair.a.daemon.cli("standby")
    assert done.returncode == 1
    assert "no other host has taken the addresses of outside: they stay here" in done.stderr
    assert pair.holders() == ["a"]
    assert pair.a.router["standby"] is False
    assert whoami_dns(pair.bed, ADDRESS) == "server"


def test_standby_drains_first(pair):
    """V6: with --drain the address stays until open connections have ended; new clients are served until then."""
    client = pair.bed.socket("client", socket.AF_INET, socket.SOCK_STREAM)
    client.settimeout(5)
    client.connect((ADDRESS, 53))
    done = []
    waiting = threading.Thread(target=lambda: done.append(pair.a.daemon.cli("standby", "--drain", "20s")))
    waiting.start()
    time.sleep(2)
    assert pair.holders() == ["a"]
    assert whoami_dns(pair.bed, ADDRESS) == "server"
    client.close()
    waiting.join(10)
    assert [one.returncode for one in done] == [0]
    assert pair.holders() == ["b"]


def test_unknown_names(quiet):
    """An unknown router is an error that names the existing routers."""
    for command in ("standby", "is-active", "resume"):
        done = quiet.a.daemon.cli(command, "nobody")
        assert (done.returncode, done.stderr) == (64, "steelyard: there is no [vrrp.nobody]: only outside\n")


def _only(pid: int, capabilities: int) -> bool:
    """Return True if a process has exactly these capabilities and no way to get others."""
    text = Path(f"/proc/{pid}/status").read_text()
    held = {name: int(value, 16) for name, value in re.findall(r"^(Cap\w+):\s+(\w+)", text, re.MULTILINE)}
    wanted = dict.fromkeys(("CapEff", "CapPrm", "CapBnd"), capabilities) | dict.fromkeys(("CapAmb", "CapInh"), 0)
    return held == wanted and re.search(r"^NoNewPrivs:\s+1$", text, re.MULTILINE) is not None


def test_rights(quiet):
    """S1: workers and health have no capability; vrrp has only NET_ADMIN and NET_RAW, and runs before all other processes."""
    wanted = {"proxy.worker": 0, "proxy.healthd": 0, "proxy.vrrpd": 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW}
    until(lambda: len(quiet.a.child("proxy.vrrpd")) == 2, 15, "the one that stands by")
    for module, capabilities in wanted.items():
        for pid in quiet.a.child(module):
            until(lambda pid=pid, held=capabilities: _only(pid, held), 5, f"{module} to have only what it may")
    if os.sched_getscheduler(quiet.a.child("proxy.vrrpd")[0]) & ~os.SCHED_RESET_ON_FORK != os.SCHED_RR:
        assert quiet.a.told("no real-time scheduling")


def test_what_the_status_shows(quiet):
    """H13, V11: status shows each router's state, priority with its parts, the peer's last advert, and why it moved last."""
    row = quiet.b.router
    assert (row["name"], row["state"], row["priority"], row["effective_priority"]) == ("outside", "backup", 100, 100)
    assert row["addresses"] == [f"{ADDRESS}/24"]
    assert (row["peer"]["address"], row["peer"]["priority"]) == ("198.51.100.2", 150)
    assert 0 <= row["peer"]["last_advert_s"] < 2
    assert abs(unix(row["last_change"]["at"]) - time.time()) < 60
    assert (row["last_change"]["from"], row["last_change"]["to"]) == ("init", "backup")
    assert row["counters"]["adverts_received"] > 0
    words = " ".join(quiet.b.daemon.cli("status", "outside").stdout.split())
    assert "adverts of other hosts that counted" in words
    shown = quiet.b.daemon.cli("status").stdout
    assert re.search(r"outside +backup +100 .*198\.51\.100\.10/24", shown)


def test_notifications():
    """V20, S4: each move runs the script with keepalived's arguments and no capability, and reaches the FIFO."""
    with daemons(workers=1, more="{notify}") as pair:
        seen = pair.bed.dir / "seen"
        script = pair.bed.dir / "notify.sh"
        script.write_text(f'#!/bin/sh\necho "$@" $(grep CapEff /proc/self/status) >> {seen}\n')
        script.chmod(0o755)
        fifo = pair.bed.dir / "fifo"
        os.mkfifo(fifo, 0o600)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        told = (
            f'[notify.script]\non = ["out*"]\nto = ["active", "backup", "stop"]\ncommand = ["{script}", "first"]\n'
            f'[notify.fifo]\nto = ["active"]\nfifo = "{fifo}"\n'
            f'[notify.unsafe]\ncommand = ["{pair.bed.dir}/open.sh"]\n'
        )
        unsafe = pair.bed.dir / "open.sh"
        unsafe.write_text(f"#!/bin/sh\ntouch {pair.bed.dir}/was-run\n")
        unsafe.chmod(0o777)
        for host in (pair.a, pair.b):
            host.text = host.text.replace("{notify}", told if host is pair.a else "")
        pair.start()
        pair.a.daemon.stop()
        lines = until(lambda: (found := seen.read_text().splitlines()) and len(found) >= 3 and found, 5, "three runs")
        assert [line.split(" CapEff")[0] for line in lines] == [
            "first INSTANCE outside BACKUP 150",
            "first INSTANCE outside MASTER 150",
            "first INSTANCE outside STOP 150",
        ]
        assert all(int(line.split()[-1], 16) == 0 for line in lines)
        assert os.read(reader, 1000) == b'INSTANCE "outside" MASTER 150\n'
        os.close(reader)
        assert pair.a.told(r"open\.sh.* is writable by everybody")
        assert not (pair.bed.dir / "was-run").exists()


def test_unicast_ipv6_by_the_members_addresses():
    """V10, V2: members recognise each other by the addresses in the file, IPv6 ones of any kind; `status` shows their names."""
    members = 'members = { a = "2001:db8:1::2", b = "2001:db8:1::3" }'
    with daemons(workers=1, family=6, vrrp=members) as pair:
        wire = Capture(pair.bed, "b", "ip6 proto 112")
        pair.start()
        assert whoami_dns(pair.bed, ADDRESS6) == "server"
        assert pair.b.router["peer"]["node"] == "a"
        assert all("2001:db8:1::2 > 2001:db8:1::3" in packet for packet in wire.packets()[:3])
        pair.a.daemon.stop()
        assert pair.owner() == "b"


def test_the_stop_waits_for_scripts():
    """V20: at the stop, slow scripts run to their end, in the order of the moves, after the address is gone."""
    with daemons(workers=1, more="{notify}") as pair:
        seen = pair.bed.dir / "seen"
        script = pair.bed.dir / "notify.sh"
        held = f"ip -o addr show dev eth0 | grep -c {ADDRESS}/"
        script.write_text(f'#!/bin/sh\nheld=$({held})\nsleep 0.8\necho "$2 $3 $held" >> {seen}\n')
        script.chmod(0o755)
        told = f'[notify.script]\ncommand = ["{script}"]\n'
        for host in (pair.a, pair.b):
            host.text = host.text.replace("{notify}", told if host is pair.a else "")
        pair.start()
        pair.a.daemon.cli("standby")
        pair.a.daemon.cli("resume")
        pair.until_owner("a", 8)
        pair.a.daemon.stop()
        lines = seen.read_text().splitlines()
        assert [line.split()[1] for line in lines] == ["BACKUP", "MASTER", "BACKUP", "MASTER", "STOP"]
        assert lines[-1] == "outside STOP 0"
        assert "in time" not in pair.a.daemon.proc.output()


def test_signed_adverts():
    """V21, S6: two hosts with the same key are a pair; the key is shown nowhere, and a host without it moves nothing."""
    key = "a-shared-key-of-the-length-that-is-wanted"
    with daemons(workers=1, vrrp='auth = { mode = "enforce", key-files = ["{key}"] }') as pair:
        path = pair.bed.dir / "key"
        path.write_text(key)
        path.chmod(0o600)
        for host in (pair.a, pair.b):
            host.text = host.text.replace("{key}", str(path))
        pair.start()
        shown = pair.a.daemon.cli("config").stdout + pair.a.daemon.cli("status", "--json").stdout
        shown += pair.a.daemon.proc.output() + json.dumps(pair.a.daemon.events())
        assert key not in shown
        assert key.encode().hex() not in shown
        pair.b.daemon.stop()
        other = pair.bed.dir / "other"
        other.write_text("another-key-of-the-length-that-is-wanted")
        other.chmod(0o600)
        pair.b.text = pair.b.text.replace(str(path), str(other)).replace("a = 150, b = 100", "a = 150, b = 200")
        pair.b.start(wait=False)
        pair.b.wait("active", 15)  # it hears nobody it believes
        assert pair.a.router["state"] == "active"  # and is believed by nobody
        assert (pair.a.router["peer"] or {"priority": 100})["priority"] == 100


def test_a_sync_group_moves_together():
    """V12: two routers of a sync group are on one host, even if only one of them fails, and stand by together."""
    second = (
        '[vrrp.inside]\ninterface = "eth0"\nvrid = 52\naddresses = ["198.51.100.11/24"]\n'
        'track = [{ service = "dns", penalty = 60 }]\n[sync-group.both]\nvrrp = ["outside", "inside"]'
    )
    with daemons(workers=1, vrrp="", more=second) as pair:
        pair.start()
        assert holders(pair.bed, "198.51.100.11") == ["a"]
        pair.bed.rule("a", "output", f"ip daddr {SERVER} drop")
        assert pair.until_owner("b", 8) < 8
        until(lambda: holders(pair.bed, "198.51.100.11") == ["b"], 3, "both on b")
        pair.bed.nft("a", "flush ruleset")
        assert pair.until_owner("a", 8) < 8
        until(lambda: holders(pair.bed, "198.51.100.11") == ["a"], 3, "both on a")
        done = pair.a.daemon.cli("standby", "inside")
        assert done.stdout == "outside  backup, in standby\ninside   backup, in standby\nchanged\n"
        assert (pair.holders(), holders(pair.bed, "198.51.100.11")) == (["b"], ["b"])


def test_our_own_connections_leave_from_elsewhere(quiet):
    """V25: the virtual address is never the source of connections from this host to its backends."""
    wire = Capture(quiet.bed, "server", "udp port 53 or tcp port 53")
    for _ in range(5):
        assert whoami_dns(quiet.bed, ADDRESS, tcp=True) == "server"
        assert whoami_dns(quiet.bed, ADDRESS) == "server"
    seen = until(lambda: wire.packets() if len(wire.packets()) > 10 else None, 5, "packets at the server")
    assert not [packet for packet in seen if f"{ADDRESS}." in packet]


def test_without_the_rights(quiet):
    """A daemon without the right to move its addresses says so at the start, and exits with 1."""
    with pytest.raises(EndedError, match=r"\[vrrp.NAME\] needs root, or CAP_NET_ADMIN and CAP_NET_RAW"):
        Daemon(
            quiet.bed, "client", quiet.a.text.replace("a = 150", "client = 150").replace('"a", "b"', '"client", "b"'),
            command=("setpriv", "--bounding-set", "-net_admin", "--", *quiet.a.daemon.base),
        )  # fmt: skip


def test_a_standby_that_cannot_be_read(pair):
    """If a restart cannot read the saved standby, it fails, because the address might return where it must not be."""
    pair.a.daemon.cli("standby")
    pair.a.daemon.stop()
    state = pair.bed.dir / "state-a" / "standby.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert json.loads(state.read_text()) == ["outside"]
    state.write_text("{")
    with pytest.raises(EndedError, match=r"standby\.json"):
        pair.a.start()
    state.unlink()


def test_two_stops_are_quick(pair):
    """A second SIGTERM during a hand-over without an answer ends the daemon at once, and removes the address."""
    pair.b.daemon.stop()
    proc = pair.a.daemon.proc
    proc.signal(signal.SIGTERM, whole=False)
    time.sleep(0.1)  # two signals at once are one to the kernel
    proc.signal(signal.SIGTERM, whole=False)
    assert proc.wait(3) == 0
    assert pair.holders() == []
