"""The unit for systemd: what systemd says of it, and the daemon in its sandbox (tests/e2e/sandbox.py)."""
# ruff: noqa: PTH115 - what /proc has are no paths

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from health.units import parse_duration
from proxy.config.settings import NodeSettings
from proxy.host import privileges
from proxy.host.service_manager import MOST_KEPT
from proxy.stopping import LAST_ACTS
from tests.e2e import sandbox
from tests.e2e.bed import Bed
from tests.e2e.daemon import Daemon
from tests.e2e.loopback import (
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
from tests.e2e.process import descendants, program, until
from tests.e2e.test_pair_alone import ADDRESS, FILE
from tests.e2e.vrrp import owner_settles, pair

EXPOSURE = 3.0
"""What `systemd-analyze security` may say at most, of 10.  The capabilities and families of VRRP are most of it."""
RELOAD = 253  # the first version of systemd with Type=notify-reload
SANDBOX = [sys.executable, str(Path(sandbox.__file__)), str(sandbox.UNIT)]
ROOT = pytest.mark.skipif(os.geteuid() != 0 or privileges.alone(), reason="needs root and another user")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze"), "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return the unit with a program that is there: the environment of the installation is not."""
    path = tmp_path / "steelyard.service"
    path.write_text(sandbox.UNIT.read_text().replace("ExecStart=/opt/steelyard/bin/steelyard", "ExecStart=/bin/true"))
    return path


def test_systemd_understands_the_unit(unit):
    """The unit has no mistake for systemd; a version before 253 does not know notify-reload and keeps `notify`."""
    found = analyze("verify", "--man=no", str(unit))
    assert found.returncode == 0
    version = int(re.search(r"systemd (\d+)", analyze("--version").stdout)[1])
    old = {
        f"{unit}:{line}: Failed to parse service type, ignoring: notify-reload" for line in _lines("Type=notify-reload")
    }
    assert set(found.stderr.splitlines()) == (old if version < RELOAD else set())
    unit.write_text(unit.read_text() + "\n[Service]\nProtectSytem=strict\n")
    assert "ProtectSytem" in analyze("verify", "--man=no", str(unit)).stderr


def _lines(text: str) -> list[int]:
    return [at for at, line in enumerate(sandbox.UNIT.read_text().splitlines(), 1) if line == text]


def test_the_drop_in_for_old_systemd(unit):
    """The drop-in for systemd 252 gives the unit a reload that waits for the outcome."""
    below = Path(f"{unit}.d")
    below.mkdir()
    text = (sandbox.UNIT.parent / "steelyard-252.conf").read_text()
    assert "\nExecReload=/opt/steelyard/bin/steelyard reload\n" in text
    (below / "x.conf").write_text(text.replace("/opt/steelyard/bin/steelyard", "/bin/true"))
    assert "x.conf" not in analyze("verify", "--man=no", str(unit)).stderr


def test_the_exposure_of_the_unit(unit):
    """What the unit leaves open is at most 3.0 of 10 by systemd's own measure, and removing a line of it is more."""
    most = f"--threshold={round(EXPOSURE * 10)}"
    found = analyze("security", "--offline=true", most, str(unit))
    assert found.returncode == 0, found.stdout
    unit.write_text(unit.read_text().replace("ProtectSystem=strict\n", ""))
    assert analyze("security", "--offline=true", most, str(unit)).returncode != 0


def test_the_times_of_the_unit_fit_the_daemon():
    """A stop with the default stop-timeout ends within TimeoutStopSec, and the store holds what the daemon may send."""
    (stop,) = sandbox.settings()["TimeoutStopSec"]
    assert parse_duration(stop.replace("min", "m")) >= NodeSettings(name="n").stop_timeout + LAST_ACTS
    assert sandbox.settings()["FileDescriptorStoreMax"] == [str(MOST_KEPT)]
    assert f"FDSTORE={MOST_KEPT}" in sandbox.settings()["Environment"]


def test_the_ring_is_denied_by_name():
    """The list of calls that systemd has for services has io_uring, and the unit's list has not."""
    assert "io_uring_setup" in sandbox.system_calls(["@system-service"])
    allowed = sandbox.system_calls(sandbox.settings()["SystemCallFilter"])
    assert not {name for name in allowed if name.startswith("io_uring")}
    assert {"epoll_wait", "setresuid", "sched_setscheduler", "mlockall", "pidfd_open"} <= allowed


def rings(pids: list[int]) -> list[int]:
    """Return the processes that hold an io_uring."""
    found = []
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(fd) == "anon_inode:[io_uring]":
                    found.append(pid)
    return found


@pytest.fixture
def backend() -> Iterator[Backend]:
    lift_loopback()
    one = Backend()
    yield one
    one.close()


@pytest.fixture
def node(tmp_path, backend):
    """A node, not started yet, with two services whose backend is also pinged and asked by a script."""
    dns, echo = free_port(), free_port()
    script = f'{{ type = "script", command = ["{program("true")}"], interval = "1s" }}'
    text = echo_service(echo, [backend]).replace(
        'probe = { type = "tcp"', f'probe = [{script}, {{ type = "ping" }}, {{ type = "tcp"'
    )
    group = "" if privileges.alone() else 'group = "daemon"\n'  # a namespace of one user has no other group
    one = Node(tmp_path, group + dns_service(dns, [backend]) + text.replace(" }\n\n", " }]\n\n"))
    one.ports = dns, echo
    yield one
    one.end()


def test_without_the_sandbox_there_is_a_ring(node):
    """Where nothing denies it, uvloop opens an io_uring: otherwise the next test could not fail."""
    node.start()
    switch = Path("/proc/sys/kernel/io_uring_disabled")  # since Linux 6.6
    denied = switch.exists() and int(switch.read_text()) > 0
    assert set(rings(node.family())) == (set() if denied else set(node.workers()))


def test_the_daemon_in_the_sandbox(node):
    """S1, S10: within the unit's filters and capabilities every service and probe works, and no process holds an io_uring."""
    node.start(prefix=SANDBOX)
    assert rings(node.family()) == []
    for pid in node.family():
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^Seccomp:\s2$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
    dns, echo = node.ports
    with asker(dns) as asks, connected(echo) as sock:
        asks.ask(20)
        assert exchange(sock, b"x") == b"x"
        assert asks.collect(5) == 0
        assert asks.bad == []
    states = {(one["name"], each["state"]) for one in node.status()["services"] for each in one["backends"]}
    assert states == {("dns", "up"), ("echo", "up")}
    assert not node.told("internal error")
    assert not node.told("Operation not permitted")


@ROOT
def test_roots_work_in_the_sandbox(node):
    """S1: the capabilities that the unit leaves suffice: another user for workers, the socket's group, the end of a hung worker."""
    node.start(prefix=SANDBOX)
    workers = node.workers()
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in workers} != {0}
    info = node.socket.stat()
    assert (info.st_gid, info.st_mode & 0o777) == (1, 0o660)
    os.kill(workers[0], signal.SIGSTOP)
    node.until(lambda status: any(one["restarts"] for one in status["workers"]), "the worker to be replaced")
    until(lambda: workers[0] not in node.family(), 5, "the hung worker to end")
    assert rings(node.family()) == []


def test_vrrp_in_the_sandbox():
    """V17: in the sandbox the vrrp process has real-time scheduling and locked memory, and the address moves."""
    with pair() as bed:
        hosts = {name: _daemon(bed, name) for name in "ab"}
        hosts["a"].until(lambda status: status["vrrp"][0]["state"] == "active", "a to be active")
        assert owner_settles(bed, ADDRESS) == "a"
        pids = [
            pid
            for pid in descendants(hosts["a"].proc.pid)
            if b"proxy.vrrpd" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert pids
        for pid in pids:
            assert privileges.alone() or os.sched_getscheduler(pid) & os.SCHED_RR
            assert int(re.search(r"VmLck:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) > 0
        assert rings(hosts["a"].pids()) == []
        assert hosts["a"].cli("standby").returncode == 0
        assert owner_settles(bed, ADDRESS) == "b"


def _daemon(bed: Bed, name: str) -> Daemon:
    command = [*SANDBOX, sys.executable, "-m", "proxy"]
    return Daemon(bed, name, FILE, command=command, ready=lambda status: status["vrrp"][0]["state"] != "init")
