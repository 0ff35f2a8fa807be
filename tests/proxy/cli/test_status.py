"""proxy.cli.status: `steelyard status`."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from proxy.cli.status import render
from proxy.moments import rfc3339

HOSTILE = "220 \x1b]0;owned\x07\x1b[2J\r\nforged line\u202e"


def test_a_line_a_backend(make):
    """A service has a line, and each backend one below it, in columns, with its state, its traffic and its why."""
    fine = make.backend(
        "10.0.0.11",
        "up",
        reason="answered NOERROR in 1.2 ms",
        active=12,
        rate=812.4,
        latency_ms={"p50": 0.41, "p99": 12.3},
    )
    broken = make.backend(
        "ns2", "down", reason="no answer within 1 s", since=rfc3339(1990.0), errors={"no_answer": 3, "reset": 0}
    )
    status = make.status(fine, broken, state="degraded")
    status["services"][0]["counters"]["servfail"] = 6
    assert render(status, 2000.0) == [
        "lb1  steelyard 0.1.0, running for 1h 1m, 1 of 1 workers, configuration abcdef01 (generation 1)",
        "",
        "dns  degraded  1 of 2 usable, least-connections, on 10.0.0.10:53/udp",
        "  BACKEND    STATE  WEIGHT  ACTIVE   RATE      P50      P99  SINCE    REASON",
        "  10.0.0.11  up          1      12  812/s  0.41 ms  12.3 ms  16m 40s  answered NOERROR in 1.2 ms",
        "  ns2        down        1       0    0/s        -        -  10s      no answer within 1 s; no_answer 3",
        "  counted: servfail 6",
    ]


def test_the_reason_is_shown(daemon, steelyard, make):
    """H13: the words of a verdict reach the operator's terminal."""
    daemon.status = make.status(
        make.backend("ns2", "down", reason="no answer within 1 s (3 of 3 failed)"), state="down"
    )
    done = steelyard("-s", daemon.path, "status")
    assert "no answer within 1 s (3 of 3 failed)" in done.stdout
    assert done.returncode == 2


def test_a_daemon_that_stops_says_so(make):
    """A daemon that stops says so at the top, and whether it still takes new clients."""
    served = make.status(make.backend("10.0.0.11", "up"))
    closed = make.status(make.backend("10.0.0.11", "up"), state="stopping")
    served["state"] = closed["state"] = "stopping"
    assert render(served, 2000.0)[1] == "stopping: new clients are served until another takes over"
    assert render(closed, 2000.0)[1] == "stopping: new clients are refused"


def test_former_workers_are_not_counted(make):
    """The workers of a former daemon have lines of their own, and are not counted as workers of this one."""
    worker = make.status()["workers"][0]
    lines = render(make.status(workers=[worker, {**worker, "pid": 12, "draining": True}]), 2000.0)
    assert "1 of 1 workers" in lines[0]
    assert lines[1] == "worker 0 (pid 12, 0 restarts) is draining"


def test_trouble_stands_at_the_top(make):
    """A refused reload, a changed file, overrides, and dead, stalled or draining workers are told before the services."""
    worker = make.status()["workers"][0]
    status = make.status(
        config={"sha256": "ab", "valid": False, "error": "f.toml:1:2: no\n  x", "on_disk_sha256": "c", "overrides": 2},
        workers=[
            {**worker, "alive": False, "pid": None},
            {**worker, "index": 1, "heartbeat_age_s": 2.5, "restarts": 3},
            {**worker, "index": 2, "draining": True},
            worker,
        ],
    )
    assert render(status, 2000.0)[1:8] == [
        "the last reload was refused, an older file is in force: f.toml:1:2: no",
        "the file on the disk is another than the one in force (steelyard reload --dry-run)",
        "2 overrides (steelyard overrides)",
        "worker 0 (pid -, 0 restarts) is dead",
        "worker 1 (pid 4711, 3 restarts) has sent no heartbeat for 2.5 s",
        "worker 2 (pid 4711, 0 restarts) is draining",
        "",
    ]


def test_who_drained_it_and_why(make):
    """An admin state shows who set it and the reason given."""
    drained = make.backend(
        "a", "up", reason="connected", admin="drain", admin_by="uid 1000", admin_reason="disks", effective_weight=0
    )
    lines = render(make.status(drained), 2000.0)
    assert "connected (drain by uid 1000: disks)" in lines[-1]
    assert "ADMIN" in lines[-2]


def test_routers_are_shown(make):
    """A virtual router has its state, since when, and why, and the parts of a lower priority."""
    router = make.router(state="fault", effective_priority=0, priority_parts={"configured": 150})
    assert render(make.status(vrrp=[router]), 2000.0)[-1] == (
        "inside  fault  0 of 150  1m     10.0.0.10/32  eth1 is down"
    )
    router = make.router(effective_priority=90, priority_parts={"configured": 150, "service dns": -60})
    assert render(make.status(vrrp=[router]), 2000.0)[-1].endswith("eth1 is down; priority 150 with service dns -60")


def test_a_standby_is_shown(make):
    """A router in standby says so, how long it has been and who asked for it, and what ends it."""
    router = make.router(standby=True, standby_since=rfc3339(1880.0), standby_reason="standby requested by uid 0")
    line = render(make.status(vrrp=[router]), 2000.0)[-1]
    assert "backup, standby" in line
    assert "in standby until `steelyard resume`: standby requested by uid 0, 2m ago" in line


def test_alarms_and_notifications_that_failed_stand_at_the_top(make):
    """An alarm is told with its service and its time, a notification with the changes that did not get through."""
    text = "every backend refuses the mysql login of probe"
    status = make.status(
        alarms=[{"service": "dns", "text": text, "since": rfc3339(1940.0)}],
        notify=[
            {"name": "page", "passed": 7, "failed": 2, "dropped": 12, "waiting": 0},
            {"name": "fine", "passed": 7, "failed": 0, "dropped": 0, "waiting": 0},
        ],
    )
    lines = render(status, 2000.0)
    assert lines[1].startswith(f"alarm dns: {text}, since 1970-01-01 ")
    assert lines[1].endswith(" (1m)")
    assert lines[2:4] == ["notify page: 2 failed, 12 dropped (steelyard events --kind notify)", ""]
    assert max(map(len, render(status, 2000.0, width=80)[1:4])) <= 80


def test_all_of_a_router(daemon, steelyard, make):
    """`status VRRP` shows that router alone: its peer, its priority, and its counters with their meaning."""
    daemon.status = make.status(vrrp=[make.router(counters={"adverts_received": 12, "ttl": 3, "checksum": 0})])
    done = steelyard("-s", daemon.path, "status", "inside")
    words = " ".join(done.stdout.split())
    assert done.returncode == 0
    assert "dns" not in done.stdout
    assert "peer lb2, priority 100, last advert 0.3 s ago" in words
    assert "adverts_received 12 adverts of other hosts that counted" in words
    assert "ttl 3 packets with a TTL other than 255" in words
    assert "checksum" not in done.stdout
    shown = json.loads(steelyard("-s", daemon.path, "status", "inside", "--json").stdout)
    assert (shown["services"], [one["name"] for one in shown["vrrp"]]) == ([], ["inside"])


def test_a_file_that_cannot_be_read(make):
    """A configuration file that is gone is told, once the daemon has had the time to look at it."""
    config = {"sha256": "ab", "valid": True, "error": None, "on_disk_sha256": None, "overrides": 0}
    assert render(make.status(config=config), 2000.0)[1] == "the file on the disk cannot be read"
    assert render(make.status(config=config, uptime_s=1.0), 2000.0)[1] == ""


def test_hostile_text_stays_text(make):
    """S3: what a hostile server said can neither steer the terminal nor add a line."""
    status = make.status(make.backend("a", "down", reason=HOSTILE, admin="maint", admin_reason=HOSTILE), node=HOSTILE)
    plain = render(status, 2000.0)
    assert len(plain) == 5
    assert all(line.isprintable() for line in plain)
    coloured = "\n".join(render(status, 2000.0, coloured=True))
    assert "\x1b]" not in coloured
    assert "\x1b[2J" not in coloured


@pytest.mark.parametrize("width", [40, 80, 90, 200])
def test_no_reason_is_cut(make, width):
    """H13: on a terminal of any width the whole reason is there, beside its row or below it, and no table is wider."""
    reason = "a long story " * 20
    status = make.status(
        make.backend("10.0.0.11", "down", reason=reason), make.backend("ns2", "up", reason="connected")
    )
    lines = render(status, 2000.0, width=width)
    said = " ".join(" ".join(lines[4:]).split())
    assert reason.strip() in said.replace("10.0.0.11 down 1 0 0/s - - 16m 40s ", "")
    assert max(len(line) for line in lines[4:]) <= max(width, 67)


def test_all_of_a_service(daemon, steelyard, make):
    """`status SERVICE` shows that service alone, with its counters and their meaning."""
    daemon.status = make.status(make.backend("10.0.0.11", "up"))
    daemon.status["services"][0]["counters"] = {"queries": 100, "servfail": 0, "joined": 3}
    done = steelyard("-s", daemon.path, "status", "dns")
    assert done.returncode == 0
    assert "lb1" not in done.stdout
    assert "queries  100  well-formed DNS queries" in done.stdout
    assert "joined     3  clients' retransmissions" in done.stdout
    assert "servfail" not in done.stdout


def test_all_of_a_backend(daemon, steelyard, make):
    """`status SERVICE BACKEND` shows each probe's last result, who drained it and why, and what it counted."""
    probes = [
        {"type": "dns", "ok": True, "reason": "NOERROR", "latency_ms": 1.25, "at": rfc3339(1.0)},
        {"type": "tcp", "ok": False, "reason": "connection refused", "latency_ms": None, "at": rfc3339(1.0)},
    ]
    drained = make.backend(
        "ns2", "down", reason="tcp: connection refused", probes=probes, errors={"no_answer": 3, "reset": 0},
        admin="drain", admin_by="uid 0", admin_reason="disks", address="10.0.0.12:53",
    )  # fmt: skip
    daemon.status = make.status(make.backend("10.0.0.11", "up"), drained, state="degraded")
    for name in ("ns2", "10.0.0.12:53"):
        done = steelyard("-s", daemon.path, "status", "dns", name)
        assert done.returncode == 1
        assert "10.0.0.11" not in done.stdout
        words = " ".join(done.stdout.split())
        assert "admin drain by uid 0: disks" in words
        assert "1.2 ms NOERROR" in words
        assert "failed" in words
        assert "no_answer 3 queries that any server answers, and this one did not" in words


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["dnz"], 'there is no service "dnz"; did you mean "dns"?'),
        (["dns", "ns9"], 'there is no backend of dns "ns9"'),
        (["x" * 30], "there are dns"),
    ],
)
def test_an_unknown_name_ends_the_command(daemon, steelyard, names, told):
    """A name that there is not is a wrong usage, with a suggestion."""
    done = steelyard("-s", daemon.path, "status", *names)
    assert done.returncode == 64
    assert told in done.stderr


def test_watching_goes_on(daemon):
    """--watch shows the status again and again until it is interrupted, and survives the daemon's absence."""
    command = [sys.executable, "-m", "proxy", "status", "--watch", "-s"]
    for path, told in ((daemon.path, "running for"), (daemon.path.with_name("nowhere"), "trying again")):
        process = subprocess.Popen([*command, path], stdout=subprocess.PIPE, text=True)
        seen = 0
        while seen < 2:
            seen += told in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        process.stdout.close()


@pytest.mark.parametrize(
    ("state", "backends", "code"),
    [("up", ["up"], 0), ("degraded", ["up", "down"], 1), ("down", ["down"], 2)],
)
def test_exit_codes(daemon, steelyard, make, state, backends, code):
    """0 when all is up, 1 when something is degraded, 2 when a service refuses; with --json too."""
    daemon.status = make.status(*(make.backend(f"b{number}", one) for number, one in enumerate(backends)), state=state)
    assert steelyard("-s", daemon.path, "status").returncode == code
    done = steelyard("status", "-s", daemon.path, "--json")
    assert done.returncode == code
    assert json.loads(done.stdout) == daemon.status


def test_the_socket_may_be_given_anywhere(daemon, steelyard):
    """-s before or behind the command, and STEELYARD_SOCKET, name the same socket; the nearest one wins."""
    nowhere = daemon.path.with_name("nowhere")
    assert steelyard("status", "--socket", daemon.path).returncode == 0
    assert steelyard("status", STEELYARD_SOCKET=str(daemon.path)).returncode == 0
    assert steelyard("-s", nowhere, "status", "-s", daemon.path).returncode == 0
    assert steelyard("-s", nowhere, "status", STEELYARD_SOCKET=str(daemon.path)).returncode == 3


def test_without_a_daemon(tmp_path, steelyard):
    """Without a daemon the command says so in one line and exits with 3."""
    done = steelyard("status", "-s", tmp_path / "none.sock")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"steelyard: {tmp_path}/none.sock: no such file or directory: is the daemon running?\n"


def test_a_url_is_not_yet_supported(steelyard):
    """An http URL is refused as wrong usage, in words."""
    done = steelyard("status", "-s", "http://127.0.0.1:9600/")
    assert done.returncode == 64
    assert "not yet supported" in done.stderr


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_on_a_terminal_only(daemon, steelyard, environment, coloured):
    """There is colour on a terminal unless NO_COLOR or a dumb terminal forbids it, and none in a pipe."""
    assert "\x1b" not in steelyard("status", "-s", daemon.path).stdout
    ours, theirs = pty.openpty()
    inherited = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "status", "-s", str(daemon.path)],
        stdout=theirs, env={**inherited, "TERM": "xterm", **environment},
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert (b"\x1b[32mup\x1b[0m" in shown) == coloured
    assert b"up" in shown
