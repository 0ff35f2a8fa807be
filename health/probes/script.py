"""The script probe: run a program whose exit status is the verdict, as in keepalived's MISC_CHECK (keepalived.conf(5); H10).

| exit status | means |
| --- | --- |
| 0 | up, with the configured weight |
| 1 | down |
| 2 to 255 | with `dynamic-weight` up, and the weight is the status minus 2; without it down |

The program runs without a shell, not as root, with a minimal environment and an empty input.  It may write at most 64 KiB of
output, and the reason shows the first line.  It leads a separate process group, which is killed at the timeout and when
the program ends: no process stays behind unless it has left the group.  A program that other users could replace does not
run (S4).
"""

import asyncio
import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

from health.executable import Unsafe, trusted
from health.probes.base import READ_COST, READ_LIMIT, Attempt, Failed, Finding, OurFault, Probe, excerpt
from health.spec import ScriptProbe

ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/",
}  # fmt: skip
USERS: Final = ("steelyard", "nobody")  # root runs a script as the first of these that exists, if no user is configured
_DOWN: Final = 1
_WEIGHT_BASE: Final = 2  # the exit status that means weight 0
_CHUNK: Final = 4096  # bytes a read
_KEPT: Final = 4096  # bytes of output that a transcript shows at most


class ScriptCheck(Probe[ScriptProbe]):
    """Runs one process a run."""

    def __init__(self, spec: ScriptProbe) -> None:
        """Prepare; the program is checked only when it runs."""
        super().__init__(spec)
        self._dying: subprocess.Popen[bytes] | None = None

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the program's exit status means up."""
        if self._dying is not None:
            raise OurFault(f"the last run's process {self._dying.pid} was killed and has not ended")
        command = [self._filled(part, attempt) for part in self.spec.command]
        attempt.sent(f"run {' '.join(command)}")
        attempt.missing = f"{os.path.basename(command[0])} did not end"  # noqa: PTH119 - text
        run = _Run(self._start(command, attempt))
        try:
            await run.output()
            code = await run.ended()
        finally:
            self._end(run)
        return self._judged(code, run, attempt)

    def _filled(self, part: str, attempt: Attempt) -> str:
        return part.replace("{address}", attempt.address).replace("{port}", str(attempt.port or ""))

    def _start(self, command: list[str], attempt: Attempt) -> subprocess.Popen[bytes]:
        user = _user((self.user,) if self.user else USERS)
        if user is not None:
            attempt.sent(f"as user {user.pw_name}, because scripts do not run as root")
        try:
            program = trusted(command[0], user.pw_uid if user else os.geteuid())
        except Unsafe as why:
            raise OurFault(f"not run: {why}") from None
        try:
            return subprocess.Popen(  # noqa: S603 - no shell, and checked above
                command,
                executable=program,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=() if user else None,
                umask=0o077,
            )
        except OSError as error:
            raise OurFault(f"{program} cannot be run: {os.strerror(error.errno or 0)}") from None
        except subprocess.SubprocessError:
            raise OurFault(f"{program} cannot be run: this user namespace does not allow a change of user") from None

    def _end(self, run: "_Run") -> None:
        """Kill the rest of the process group and reap the process, later if that takes a moment."""
        if not run.kill():
            self._dying = run.process
            run.reap_later(self._reaped)

    def _reaped(self) -> None:
        self._dying = None

    def _judged(self, code: int, run: "_Run", attempt: Attempt) -> Finding:
        said = f": {excerpt(line)}" if (line := bytes(run.said).strip().split(b"\n")[0]) else ""
        for line in bytes(run.said).splitlines()[:10]:
            attempt.got(excerpt(line))
        if code < 0:
            with contextlib.suppress(ValueError):
                raise Failed(f"killed by {signal.Signals(-code).name}{said}")
            raise Failed(f"killed by signal {-code}{said}")
        attempt.got(f"exit status {code}, {attempt.took}")
        if code == 0:
            return Finding(f"exit status 0 in {attempt.took}{said}")
        if code >= _WEIGHT_BASE and self.spec.dynamic_weight:
            weight = code - _WEIGHT_BASE
            return Finding(f"exit status {code}: weight {weight}{said}", weight=weight)
        hint = "" if code == _DOWN else " (a weight only with dynamic-weight)"
        raise Failed(f"exit status {code}{hint}{said}")


class _Run:
    """A process, its output and its end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = bytearray()
        self._loop = asyncio.get_running_loop()
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except OSError as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._close_pipe()
            raise OurFault(f"{os.strerror(error.errno or 0)} on this host") from None
        self._unread = READ_LIMIT

    async def output(self) -> None:
        """Read the output until the pipe closes or the process ends."""
        pipe = self.process.stdout
        assert pipe is not None  # noqa: S101 - it was asked for
        number = pipe.fileno()
        os.set_blocking(number, False)
        while await self._either(number) == number:
            if self._read(number) == 0:
                return  # the process may go on without output
        while self._read(number) > 0:  # the last output
            pass

    def _read(self, number: int) -> int:
        """Read once; return the number of bytes, 0 at the end, -1 if there is no output yet."""
        try:
            data = os.read(number, _CHUNK)
        except BlockingIOError:
            return -1
        self._unread -= max(READ_COST, len(data))
        if self._unread < 0:
            raise Failed(f"sends data without end: {READ_LIMIT // 1024} KiB read")
        self.said += data[: _KEPT - len(self.said)]
        return len(data)

    async def _either(self, number: int) -> int:
        """Wait until there is output or the process has ended; return the ready descriptor, that of the output first."""
        waiter = self._loop.create_future()

        def wake(which: int) -> None:
            if not waiter.done():
                waiter.set_result(which)

        self._loop.add_reader(number, wake, number)
        self._loop.add_reader(self._pidfd, wake, self._pidfd)
        try:
            found: int = await waiter
        finally:
            self._loop.remove_reader(number)
            self._loop.remove_reader(self._pidfd)
        return found

    async def ended(self) -> int:
        """Wait until the process ends; return its exit status, or minus the signal that killed it.  Does not reap it."""
        waiter = self._loop.create_future()
        self._loop.add_reader(self._pidfd, lambda: None if waiter.done() else waiter.set_result(None))
        try:
            await waiter
        finally:
            self._loop.remove_reader(self._pidfd)
        found = self._peek()
        assert found is not None  # noqa: S101 - the descriptor says that it has ended
        return found

    def _peek(self) -> int | None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    def kill(self) -> bool:
        """Kill the process group, whose number is safe until the process is reaped; return True if it is reaped now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._close_pipe()
        if self.process.poll() is None:
            return False
        os.close(self._pidfd)
        return True

    def reap_later(self, done: Callable[[], None]) -> None:
        """Reap the process once it has ended."""

        def reap() -> None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self.process.wait()
            done()

        self._loop.add_reader(self._pidfd, reap)

    def _close_pipe(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()


def _user(names: Sequence[str]) -> pwd.struct_passwd | None:
    """Return the user to run scripts as, None if this process is not root; raises `OurFault` if root finds no such user."""
    if os.geteuid() != 0:
        return None
    for name in names:
        with contextlib.suppress(KeyError):
            if (entry := pwd.getpwnam(name)).pw_uid != 0:
                return entry
    raise OurFault(f"scripts do not run as root, and this host has no user {names[-1]}")
