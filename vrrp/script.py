"""Runs a script in the calling thread: without a shell, in a new session, for a bounded time."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

_LOOK = 250  # ms between two checks whether the time is up

Check = Callable[[str, int], str]
"""Takes a path and the user id that would run it; returns the program's real path, or raises the reason not to (S4)."""


class NotRun(Exception):  # noqa: N818 - named for what it says
    """A script was not run, or it failed; the text begins with its path and gives the reason."""


def run(command: Sequence[str], check: Check | None, limit: Callable[[float], float]) -> None:
    """Run a script until it ends, at most until `limit(started)` (monotonic seconds).  Raises NotRun.

    `limit` is called repeatedly, as it may become shorter.
    """
    path = command[0]
    # vfork(2) would stop all our threads until the program is loaded, perhaps from a slow disk.
    subprocess._USE_VFORK = False  # type: ignore[misc]  # noqa: SLF001 - a documented switch
    try:
        if check is None:
            raise PermissionError("this process cannot check whether it is safe to run")  # noqa: TRY301 - one way out
        process = subprocess.Popen(  # noqa: S603 - no shell, and `check` has looked at it
            [check(path, os.geteuid()), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd="/",
            start_new_session=True,
        )
    except Exception as error:
        raise NotRun(f"{path} was not run: {error}") from error
    started = time.monotonic()
    ended = _wait(process.pid, lambda: time.monotonic() >= limit(started))
    if not ended:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # no wait(2) yet, so the id is still that process's
    code = process.wait()
    if not ended:
        raise NotRun(f"{path} took longer than {time.monotonic() - started:.0f} s and was killed")
    if code:
        raise NotRun(f"{path} ended with {code}")


def _wait(pid: int, is_over: Callable[[], bool]) -> bool:
    """Wait for the end of a process; return False if `is_over()` came first."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll(_LOOK):
            if is_over():
                return False
        return True
    finally:
        os.close(pidfd)
