"""systemd itself, as the service manager of a user, in namespaces and a control group of its own.

It cannot be process 1 of a test, but it runs units all the same: it sends the signals, keeps the descriptors and makes the
sandbox with its mounts.  Nothing of it outlives the test, and nothing of it reaches the host's own systemd.
"""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.e2e.process import MissingError, Proc, descendants, program, until

SYSTEMD = Path("/usr/lib/systemd/systemd")
CONTROL = Path("/sys/fs/cgroup")
HOME = Path("/run/u")
"""XDG_RUNTIME_DIR inside: runtime directories of units are below it."""

# Mounts are private to the namespace, but shared inside it, as systemd needs them to pass credentials on.
_INSIDE = f"""
set -e
mount --make-rprivate /; mount --make-rshared /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system {HOME}/systemd/user /run/systemd/inaccessible/dir
cd /run/systemd/inaccessible
touch reg; mkfifo -m 0 fifo; mknod -m 0 chr c 0 0; mknod -m 0 blk b 0 0; chmod 0 reg dir
ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth0 up; ip link set eth1 up; ip address add 198.51.100.2/24 dev eth0
cd /
XDG_RUNTIME_DIR={HOME} {SYSTEMD} --user &
wait
"""


class Systemd:
    """An instance that runs until `close`.  Raises MissingError where systemd cannot run so."""

    def __init__(self, directory: Path) -> None:
        if not SYSTEMD.exists() or os.geteuid() != 0:
            raise MissingError("systemd as the manager of a test needs root and systemd")
        self._groups = _control_groups()
        inside = [
            program("unshare"),
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            _INSIDE,
        ]
        # systemd makes all its groups below the one that it is started in.
        joined = "".join(f"echo $$ > {group}/cgroup.procs; " for group in self._groups)
        command = ["sh", "-c", f'{joined} exec "$@"', "sh", *inside]
        self.proc = Proc("systemd", command, directory / "systemd.log")
        try:
            self._init = until(self._found, 5, "the namespace")
            until(
                lambda: self.run("systemctl", "--user", "is-system-running").stdout.strip() == "running", 10, "systemd"
            )
        except Exception as error:
            self.close()
            raise MissingError(f"systemd does not run in a namespace here: {error}") from error

    def _found(self) -> int | None:
        shells = [
            pid for pid in descendants(self.proc.pid)[1:] if Path(f"/proc/{pid}/comm").read_text().strip() == "sh"
        ]
        return shells[0] if shells else None

    def command(self, *command: str) -> list[str]:
        """Return what runs a command inside."""
        enter = [program("nsenter"), f"--target={self._init}", "--net", "--mount", "--pid", "--"]
        return [*enter, "env", f"XDG_RUNTIME_DIR={HOME}", *command]

    def run(self, *command: str, check: bool = False, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        done = subprocess.run(self.command(*command), capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def write(self, path: str | Path, text: str, mode: int = 0o644) -> None:
        """Write a file inside."""
        command = 'mkdir -p "$(dirname "$1")" && printf %s "$2" > "$1" && chmod "$3" "$1"'
        self.run("sh", "-c", command, "sh", str(path), text, f"{mode:o}", check=True)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "--user", "show", "--value", "-p", name, unit, check=True).stdout.strip()

    def processes(self, unit: str) -> list[str]:
        """Return the ids, inside, of all processes of a unit."""
        group = self.show(unit, "ControlGroup")
        if not group:
            return []
        found = self.run(
            "sh", "-c", f"cat /sys/fs/cgroup/systemd{group}/cgroup.procs /sys/fs/cgroup{group}/cgroup.procs"
        )
        return sorted(set(found.stdout.split()), key=int)

    def close(self) -> None:
        """End it with everything that it runs, and remove its control groups."""
        self.proc.kill()
        deadline = time.monotonic() + 5
        for group in self._groups:
            while group.exists() and time.monotonic() < deadline:
                for one in sorted(_below(group), key=lambda path: len(path.parts), reverse=True):
                    with suppress(OSError):
                        one.rmdir()
                time.sleep(0.02)


def _below(group: Path) -> Sequence[Path]:
    return [group, *(one for one in group.rglob("*") if one.is_dir())]


def _control_groups() -> list[Path]:
    """Make a group in each hierarchy below the one of this process: systemd makes its own below that which it is in."""
    made = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "cpuset":
            continue  # nothing may join a new group before it has processors
        root = CONTROL / (
            controllers.removeprefix("name=") or "unified"
        )  # hybrid: systemd's version 1 beside version 2
        group = (root if root.is_dir() else CONTROL) / path.strip("/") / f"steelyard-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            made.append(group)
    return made
