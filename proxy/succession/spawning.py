"""Starts the program anew beside the running daemon, as it is installed now, with the same arguments.

Until the new one takes over its standard error, a pipe holds what the interpreter says: if it cannot even import the
program, these words are the reason.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from proxy.processes.signals import OURS

VARIABLE: Final = "STEELYARD_SUCCESSION"
"""What tells a new daemon of its predecessor: the descriptors of their socket and of standard error."""
_KEPT: Final = 16 << 10
"""Octets of standard error that are kept."""


def arguments() -> list[str]:
    """Return the command that runs this program anew."""
    return [sys.executable, *sys.orig_argv[1:]]


def inherited(environ: "os._Environ[str] | dict[str, str]") -> socket.socket | None:
    """Return the socket to the predecessor that has started this process, None if none has; take over standard error."""
    value = environ.pop(VARIABLE, "")
    fd, _, stderr = value.partition(",")
    if not (fd.isdecimal() and stderr.isdecimal()):
        return None
    try:
        sock = socket.socket(fileno=int(fd))
        os.dup2(int(stderr), 2)
        os.close(int(stderr))
    except OSError:
        return None
    sock.set_inheritable(False)
    return sock


class Spawned:
    """A new daemon.  `ended` is done with its exit status (negative: a signal) when it is gone."""

    def __init__(self, command: Sequence[str], theirs: socket.socket, environment: Mapping[str, str]) -> None:
        """Start it with its end of the socket; raises OSError, and nothing is started, if that is impossible."""
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._said = bytearray()
        stderr = os.dup(2)
        ours, pipe = os.pipe()
        variables = {**environment, VARIABLE: f"{theirs.fileno()},{stderr}"}
        # Blocked until the new process listens: a signal to the whole group must not end one that is still importing.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves, and no shell
                command, pass_fds=(theirs.fileno(), stderr), stderr=pipe, env=variables
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(pipe)
            os.close(stderr)
        self.pid = self._process.pid
        os.set_blocking(ours, False)
        self._pipe = ours
        self._loop.add_reader(ours, self._hear)
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    def kill(self) -> None:
        """End it now."""
        if not self.ended.done():
            self._process.kill()

    def signal(self, number: int) -> None:
        """Pass a signal on to it."""
        if not self.ended.done():
            self._process.send_signal(number)

    @property
    def said(self) -> list[str]:
        """What it wrote to standard error before it took that over, in lines."""
        return [line for line in self._said.decode(errors="replace").splitlines() if line.strip()]

    def how(self) -> str:
        """Say how it ended."""
        code = self.ended.result()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return f"{how}: {self.said[-1].strip()}" if self.said else how

    def _hear(self) -> None:
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._pipe, 4096)
            if not data:
                self._deafen()
        self._said += data[: max(0, _KEPT - len(self._said))]

    def _deafen(self) -> None:
        if self._pipe >= 0:
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self._process.wait()
        while self._pipe >= 0 and len(self._said) < _KEPT:
            before = len(self._said)
            self._hear()
            if len(self._said) == before:
                break
        self._deafen()
        self.ended.set_result(code)
