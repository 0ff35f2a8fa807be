"""A stand-in for systemd: it speaks the manager's half of sd_notify(3), keeps descriptors, and starts the daemon again.

As the unit has it: messages count only from the main process (NotifyAccess=main), a death is followed by another start,
a watchdog that expires by SIGKILL, and signals go to the main process alone (KillMode=process).
"""

import array
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tests.e2e.process import Proc, stat_fields, until

T = TypeVar("T")

MOST = 253  # descriptors in a message: SCM_MAX_FD of the kernel
_CREDENTIALS = struct.Struct("3i")

# Runs before the daemon, with its process id: asks for environment and descriptors, and puts these where they belong.
_SHIM = """
import fcntl, json, os, socket, sys
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.connect(sys.argv[1])
fds, environ = [], None
while environ is None:
    data, more, _, _ = socket.recv_fds(link, 1 << 20, 253)
    fds += more
    environ = json.loads(data)
link.close()
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 3 + len(fds) + 64) for fd in fds]
os.closerange(3, 3 + len(fds) + 64)
for at, fd in enumerate(high, 3):
    os.dup2(fd, at)
    os.close(fd)
if fds:
    environ["LISTEN_PID"] = str(os.getpid())
if "WATCHDOG_USEC" in environ:
    environ["WATCHDOG_PID"] = str(os.getpid())
os.execvpe(sys.argv[2], sys.argv[2:], os.environ | environ)
"""


@dataclass(frozen=True)
class Note:
    """One message: when it came (monotonic seconds), from which process, its assignments, how many descriptors."""

    at: float
    pid: int
    values: Mapping[str, str]
    fds: int = 0


@dataclass
class _State:
    main: int = 0
    word: str = "dead"  # starting, running, reloading, stopping, dead
    status: str = ""
    alive: float = 0.0
    kept: list[tuple[str, int]] = field(default_factory=list)


class Daemon(Protocol):
    """What a manager runs: a `Node` of tests/e2e/loopback.py."""

    proc: Proc | None

    def start(self, *, prefix: Sequence[str], ready: bool) -> Any:
        """Start it behind this command, without waiting."""

    def output(self) -> str:
        """Return what it has written."""


class Manager:
    """Runs one daemon.  `tend` does what systemd would do by now; the methods that wait call it again and again."""

    def __init__(
        self,
        daemon: Daemon,
        *,
        watchdog: float | None = None,
        most: int = 4096,
        environ: Mapping[str, str] | None = None,
        abstract: bool = False,
    ) -> None:
        """Prepare; `most` is FileDescriptorStoreMax, `environ` is added to the daemon's environment."""
        self.daemon = daemon
        self.watchdog = watchdog
        self.most = most
        self.environ = dict(environ or {})
        self.notes: list[Note] = []
        self.ignored: list[Note] = []
        """Messages from other processes than the main one."""
        self.starts = 0
        self.expired = 0
        """How often the watchdog has expired."""
        self._state = _State()
        self._procs: list[Proc] = []
        self._lock = threading.RLock()
        self._closing = False
        self._noted = threading.Event()  # the process that was started is known: it gets its environment
        self._dir = tempfile.TemporaryDirectory(prefix="manager-")
        where = Path(self._dir.name)
        self.address = f"@{self._dir.name}" if abstract else str(where / "notify")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._notify.bind("\0" + self.address[1:] if abstract else self.address)
        self._starts = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._starts.bind(str(where / "start"))
        self._starts.listen()
        self.prefix = [sys.executable, "-I", "-c", _SHIM, str(where / "start")]
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._hear, self._hand_out)]
        for thread in self._threads:
            thread.start()

    # -- orders

    def start(self, *, ready: bool = True) -> None:
        """Start the daemon; with `ready` wait until it says that it is."""
        self.starts += 1
        self._noted.clear()
        self.daemon.start(prefix=self.prefix, ready=False)
        assert self.daemon.proc is not None
        self._procs.append(self.daemon.proc)
        with self._lock:
            self._state.word, self._state.main = "starting", self.daemon.proc.pid
        self._noted.set()
        if ready:
            self.until(lambda: self.word == "running", "the daemon to say that it is ready")

    def reload(self, timeout: float = 20.0) -> Note:
        """Send SIGHUP, and return what ended the reload, as Type=notify-reload demands it: RELOADING, then READY."""
        sent = time.monotonic()
        os.kill(self.main, signal.SIGHUP)

        def reloaded() -> Note | None:
            news = [note for note in self.notes if note.at >= sent]
            begun = [note for note in news if note.values.get("RELOADING") == "1"]
            if not begun or int(begun[0].values["MONOTONIC_USEC"]) < sent * 1e6:
                return None
            return next((note for note in news if note.at >= begun[0].at and note.values.get("READY") == "1"), None)

        found = self.until(reloaded, "the reload to end", timeout)
        assert found is not None
        return found

    def stop(self, timeout: float = 60.0) -> None:
        """Send SIGTERM, and wait until the main process has ended; what is kept is let go."""
        main = self.main
        os.kill(main, signal.SIGTERM)
        until(lambda: not _lives(main), timeout, "the daemon to stop")
        with self._lock:
            self._state.word = "dead"
            self._forget(None)

    def kill(self) -> None:
        """Send SIGKILL to the main process alone."""
        main = self.main
        os.kill(main, signal.SIGKILL)
        until(lambda: not _lives(main), 5, "the main process to end")

    def tend(self) -> None:
        """Start the daemon again if its main process has ended, and end it first if its watchdog has expired."""
        with self._lock:
            state = self._state
            late = self.watchdog is not None and state.word in {"running", "reloading"}
            if late and self.watchdog is not None and time.monotonic() - state.alive > self.watchdog:
                self.expired += 1
                state.word = "starting"
                with suppress(ProcessLookupError):
                    os.kill(state.main, signal.SIGKILL)
        if state.word != "dead" and not _lives(state.main):
            self.start(ready=False)

    def until(self, condition: Callable[[], T], what: str, timeout: float = 20.0) -> T:
        """Tend the daemon until `condition` holds; return its result."""

        def look() -> T:
            self.tend()
            return condition()

        try:
            return until(look, timeout, what, every=0.03)
        except Exception as error:
            said = "\n".join(map(str, self.notes[-20:]))
            raise AssertionError(f"{error}\n{said}\n{self.daemon.output()}") from error

    def close(self) -> None:
        """End everything that was started, and let go of all that is kept."""
        self._closing = True
        self._noted.set()
        for proc in self._procs:
            proc.kill()
        for sock, kind in ((self._notify, socket.SOCK_DGRAM), (self._starts, socket.SOCK_SEQPACKET)):
            with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as last:
                last.connect(sock.getsockname())
                last.send(b"")
        for thread in self._threads:
            thread.join(5)
        self._notify.close()
        self._starts.close()
        with self._lock:
            self._forget(None)
        self._dir.cleanup()

    # -- what is known

    @property
    def main(self) -> int:
        """The id of the main process."""
        return self._state.main

    @property
    def word(self) -> str:
        """What the daemon is: starting, running, reloading, stopping or dead."""
        return self._state.word

    @property
    def status(self) -> str:
        """The last status, in words."""
        return self._state.status

    @property
    def kept(self) -> dict[str, list[int]]:
        """The descriptors that are kept, by name: copies that stay the manager's."""
        with self._lock:
            names: dict[str, list[int]] = {}
            for name, fd in self._state.kept:
                names.setdefault(name, []).append(fd)
            return names

    def said(self, key: str, value: str) -> list[Note]:
        """Return the messages of the main process with this assignment."""
        return [note for note in self.notes if note.values.get(key) == value]

    # -- the sockets, in threads of their own

    def _hear(self) -> None:
        size = socket.CMSG_SPACE(MOST * 4) + socket.CMSG_SPACE(_CREDENTIALS.size)
        while True:
            data, ancillary, _, _ = self._notify.recvmsg(1 << 16, size)
            pid, fds = 0, array.array("i")
            for level, kind, part in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(part)
                elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid = _CREDENTIALS.unpack(part)[0]
            if not data:
                return
            values = dict(line.split("=", 1) for line in data.decode().split("\n"))
            with self._lock:
                self._take(Note(time.monotonic(), pid, values, len(fds)), list(fds))

    def _take(self, note: Note, fds: list[int]) -> None:
        state, values = self._state, note.values
        if note.pid != state.main:
            self.ignored.append(note)
            for fd in fds:
                os.close(fd)
            return
        self.notes.append(note)
        state.status = values.get("STATUS", state.status)
        if "MAINPID" in values:
            state.main = int(values["MAINPID"])
        if values.get("RELOADING") == "1":
            state.word = "reloading"
        if values.get("READY") == "1" and state.word in {"starting", "reloading"}:
            state.word, state.alive = "running", note.at
        if values.get("STOPPING") == "1":
            state.word = "stopping"
        if values.get("WATCHDOG") == "1":
            state.alive = note.at
        if values.get("FDSTORE") == "1":
            self._keep(values.get("FDNAME", "stored"), fds)
        elif values.get("FDSTOREREMOVE") == "1":
            self._forget(values["FDNAME"])

    def _keep(self, name: str, fds: list[int]) -> None:
        known = {_identity(fd) for _, fd in self._state.kept}
        for fd in fds:
            if len(self._state.kept) >= self.most or _identity(fd) in known:
                os.close(fd)  # as systemd does, which takes each open file once
            else:
                fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
                self._state.kept.append((name, fd))
                known.add(_identity(fd))

    def _forget(self, name: str | None) -> None:
        """Close what is kept under a name, everything for None."""
        for one, fd in self._state.kept:
            if name in {None, one}:
                os.close(fd)
        self._state.kept = [(one, fd) for one, fd in self._state.kept if name not in {None, one}]

    def _hand_out(self) -> None:
        """Give each daemon that is started its environment, and what is kept."""
        while True:
            link, _ = self._starts.accept()
            with link:
                self._noted.wait()
                if self._closing:
                    return
                with self._lock:
                    kept = list(self._state.kept)
                fds = [fd for _, fd in kept]
                for at in range(0, len(fds), MOST):
                    socket.send_fds(link, [b"null"], fds[at : at + MOST])
                link.send(json.dumps(self._environment([name for name, _ in kept])).encode())

    def _environment(self, names: list[str]) -> dict[str, str]:
        environ = {"NOTIFY_SOCKET": self.address, **self.environ}
        if self.most:
            environ["FDSTORE"] = str(self.most)
        if self.watchdog is not None:
            environ["WATCHDOG_USEC"] = str(round(self.watchdog * 1e6))
        if names:
            environ |= {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
        return environ


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _lives(pid: int) -> bool:
    try:
        return stat_fields(pid)[0] not in "ZX"
    except OSError:
        return False
