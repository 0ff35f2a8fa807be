"""Runs a script in the calling thread: without a shell, in a new session, for a bounded time."""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

_LOOK = 250  # ms between two checks whether the time is up
_MOST = 1 << 20  # octets of standard error that are kept while a script runs
_TAIL = 4096  # octets of them that are searched for the last line
_LINE = 200  # characters of the last line that are shown
_NO_GROWTH = getattr(fcntl, "F_SEAL_GROW", 4)
_ADD_SEALS = getattr(fcntl, "F_ADD_SEALS", 1033)

Check = Callable[[str, int], str]
"""Takes a path and the user id that would run it; returns the program's real path, or raises the reason not to (S4)."""


class NotRun(Exception):  # noqa: N818 - named for what it says
    """A script was not run, or it failed; the text begins with its path and gives the reason."""


def run(command: Sequence[str], check: Check | None, limit: Callable[[float], float], given: bytes = b"") -> None:
    """Run a script until it ends, at most until `limit(started)` (monotonic seconds).  Raises NotRun.

    `limit` is called repeatedly, as it may become shorter.  The script reads `given` from standard input.  The reason of a
    failure ends with the last line of its standard error.
    """
    path = command[0]
    with contextlib.ExitStack() as files:
        errors = _memory("errors", files)
        _run(path, command, check, limit, _memory("input", files, given) if given else subprocess.DEVNULL, errors)


def _run(
    path: str,
    command: Sequence[str],
    check: Check | None,
    limit: Callable[[float], float],
    standard_input: int,
    errors: int,
) -> None:
    # vfork(2) would stop all our threads until the program is loaded, perhaps from a slow disk.
    subprocess._USE_VFORK = False  # type: ignore[misc]  # noqa: SLF001 - a documented switch
    try:
        if check is None:
            raise PermissionError("this process cannot check whether it is safe to run")  # noqa: TRY301 - one way out
        process = subprocess.Popen(  # noqa: S603 - no shell, and `check` has looked at it
            [check(path, os.geteuid()), *command[1:]],
            stdin=standard_input,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd="/",
            start_new_session=True,
        )
    except Exception as error:
        raise NotRun(f"{path} was not run: {error}") from error
    started = time.monotonic()
    ended = _wait(process.pid, lambda: time.monotonic() >= limit(started), errors)
    if not ended:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # no wait(2) yet, so the id is still that process's
    code = process.wait()
    said = _last_line(errors)
    if not ended:
        raise NotRun(f"{path} took longer than {time.monotonic() - started:.0f} s and was killed{said}")
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        raise NotRun(f"{path} {how}{said}")


def _memory(name: str, files: contextlib.ExitStack, content: bytes = b"") -> int:
    """Return a file in memory.  It is no pipe: what a script leaves running may write to it without an end by SIGPIPE."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    files.callback(os.close, fd)
    if content:
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _last_line(errors: int) -> str:
    """Return the last line of standard error as ": line", bounded and printable; "" if there is none."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(errors, _ADD_SEALS, _NO_GROWTH)  # for what the script leaves running
    size = os.fstat(errors).st_size
    tail = os.pread(errors, _TAIL, max(0, size - _TAIL)).replace(b"\0", b"").decode("utf-8", "replace")
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    if not lines:
        return ""
    text = "".join(one if one.isprintable() else "?" for one in lines[-1])
    return f": {text if len(text) <= _LINE else text[:_LINE] + '...'}"


def _wait(pid: int, is_over: Callable[[], bool], errors: int) -> bool:
    """Wait for the end of a process; return False if `is_over()` came first."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll(_LOOK):
            if os.fstat(errors).st_size > _MOST:
                os.ftruncate(errors, 0)
            if is_over():
                return False
        return True
    finally:
        os.close(pidfd)
