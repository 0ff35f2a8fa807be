"""Processes of the end-to-end bed: found, started, watched and ended by their ids.

The output of a process goes to a file, so that a failing test can show it. A process that was started here ends with
the one that started it (PR_SET_PDEATHSIG), even when that one is killed.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

# A plain user's PATH has no sbin, where the servers are.
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
TICKS = os.sysconf("SC_CLK_TCK")
TAIL = 8000  # characters of a process's output that a report shows

T = TypeVar("T")


class MissingError(Exception):
    """This machine lacks a program or a right that the bed needs: tests are skipped, and fail under CI."""


class BedError(Exception):
    """A part of the bed did not start or did not answer; the message contains its output."""


class EndedError(Exception):
    """A process has ended, so waiting for it is useless; the message contains its output."""


def program(name: str) -> str:
    """Return the path of the program `name`. Raises MissingError."""
    path = shutil.which(name, path=SEARCH)
    if path is None:
        message = f"{name} is not installed (tests/packages.txt has its package; `make test` as root installs it)"
        raise MissingError(message)
    return path


def until(condition: Callable[[], T], timeout: float, what: str, every: float = 0.05) -> T:
    """Return the first true result of `condition`, asked every `every` seconds.

    Raises BedError, which names `what` was waited for and the last result or exception, after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            result = condition()
        except (AssertionError, BedError, LookupError, OSError, ValueError, subprocess.SubprocessError) as error:
            last = error
        else:
            if result:
                return result
            last = result
        if time.monotonic() >= deadline:
            message = f"waited {timeout:g} s for {what}; the last look found: {last!r}"
            raise BedError(message)
        time.sleep(every)


def stat_fields(pid: int) -> list[str]:
    """Return /proc/PID/stat from its third field (the state) on. Raises OSError when the process is gone."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def descendants(pid: int) -> list[int]:
    """Return `pid` and the ids of all processes below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(int(stat_fields(int(entry.name))[1]), []).append(int(entry.name))
            except OSError:
                continue
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family


def group_lives(leader: int) -> bool:
    """Return True if any process of a group still runs; a zombie does not."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, group = stat_fields(int(entry.name))[:3]
            except OSError:
                continue
            if int(group) == leader and state not in "ZX":
                return True
    return False


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the user and system time of living processes, and of the children for which they have waited."""
    ticks = 0
    for pid in pids:
        try:
            ticks += sum(int(field) for field in stat_fields(pid)[11:15])
        except OSError:
            continue
    return ticks / TICKS


class Proc:
    """One process of the bed, the leader of its own group: by default signals go to the whole group."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, *, env: dict[str, str] | None = None) -> None:
        if threading.current_thread() is not threading.main_thread():
            # PR_SET_PDEATHSIG fires when the thread that forked ends, not only when its process does.
            raise RuntimeError("processes of the bed are started from the main thread")
        self.name = name
        self.argv = list(argv)
        self.log = log
        self.ending: signal.Signals = signal.SIGTERM
        """The signal that asks it to end soon."""
        with log.open("ab") as sink:
            self.popen = subprocess.Popen(
                [program("setpriv"), "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        state = "runs" if self.alive else f"ended with {self.popen.returncode}"
        return f"<Proc {self.name} pid {self.pid} {state}>"

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """True until the process has ended (a stopped process is alive)."""
        return self.popen.poll() is None

    def output(self) -> str:
        """Return its standard output and standard error so far."""
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals, *, whole: bool = True) -> None:
        """Send a signal to the group, or to the leader alone; nothing happens when they are gone."""
        if not self.alive and Path(f"/proc/{self.pid}").exists():
            return  # another process has the number; this is impossible while a process of the group exists
        try:
            if whole:
                os.killpg(self.pid, number)
            elif self.alive:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def end(self) -> None:
        """Send the signal that asks its kind to end soon."""
        self.signal(self.ending)

    def stop(self) -> None:
        """Send SIGSTOP: its sockets stay open, and nothing answers."""
        self.signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Send SIGCONT."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it with its children, and return when the last of them is gone, and so its ports are closed."""
        self.signal(signal.SIGKILL)
        self.popen.wait(10)
        until(lambda: not group_lives(self.pid), 5, f"the children of {self.name} to end", every=0.005)

    def terminate(self, timeout: float = 5.0) -> int:
        """Ask it to end, kill it after `timeout` seconds, and return its exit code."""
        self.signal(self.ending, whole=False)
        self.cont()
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.popen.wait(10)

    def wait(self, timeout: float) -> int:
        """Return its exit code when it ends by itself. Raises subprocess.TimeoutExpired."""
        return self.popen.wait(timeout)

    def cpu_seconds(self) -> float:
        """Return the processor time of it and all processes below it, so far."""
        return cpu_seconds(descendants(self.pid))

    def report(self) -> str:
        """Return the report on this process for a failing test."""
        text = self.output()
        return f"{self!r}\n$ {' '.join(self.argv)}\n{text[-TAIL:]}"
