"""Telling others of a move, with keepalived's arguments: INSTANCE or GROUP, the name, MASTER BACKUP FAULT STOP, priority.

A script is run without a shell, one after the other in the order of the moves; a FIFO gets one line a move.  Neither
can hold anything up: what takes longer than its time is ended, what cannot be delivered is told and dropped (V20).
"""

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import Callable
from fnmatch import fnmatchcase

from vrrp.events import State
from vrrp.settings import NotifySettings

TIMEOUT = 60.0
"""s that one run of a script may take; then its group is killed."""
_WAITING = 64  # moves that may wait for a slow script
_STATES: dict[State, str] = {"active": "MASTER", "backup": "BACKUP", "fault": "FAULT", "init": "STOP"}


class Notifier:
    """One [notify.NAME].

    `check(path, uid)` returns the program's own path, or raises an exception that says why it must not be run (S4: a
    part of it can be written by others).  It is given, as who runs this has one; without it no script is ever run.
    """

    def __init__(
        self,
        settings: NotifySettings,
        on_problem: Callable[[str], None],
        check: Callable[[str, int], str] | None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._settings = settings
        self._on_problem = on_problem
        self._check = check
        self._timeout = timeout
        self._queue: asyncio.Queue[tuple[str, ...]] = asyncio.Queue(_WAITING)
        self._task = asyncio.create_task(self._work()) if settings.command else None

    def tell(self, kind: str, name: str, state: State, priority: int) -> None:
        """Tell of a move, if it is one of those asked for; `kind` is "INSTANCE" or "GROUP"."""
        wanted = self._settings
        if wanted.on and not any(fnmatchcase(name, glob) for glob in wanted.on):
            return
        if wanted.to and state not in wanted.to:
            return
        if wanted.fifo is not None:
            self._write(wanted.fifo, f'{kind} "{name}" {_STATES[state]} {priority}\n')
        if wanted.command is not None:
            try:
                self._queue.put_nowait((kind, name, _STATES[state], str(priority)))
            except asyncio.QueueFull:
                self._on_problem(f"{wanted.command[0]} is {_WAITING} moves behind: {name} {state} is not told")

    async def close(self, patience: float) -> None:
        """Wait at most `patience` seconds for what is under way, then end it."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._queue.join()
        self._task.cancel()
        await asyncio.wait([self._task])

    def _write(self, path: str, line: str) -> None:
        with contextlib.suppress(OSError):
            os.mkfifo(path, 0o600)
        try:
            # Without a reader this fails rather than waits; a link, or a file that is no FIFO, is not ours.
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            self._on_problem(f"{path}: nobody reads it, or it is no FIFO ({(error.strerror or '').lower()})")
            return
        try:
            if not stat.S_ISFIFO(os.fstat(fd).st_mode):
                self._on_problem(f"{path} is no FIFO")
            else:
                os.write(fd, line.encode())
        except OSError as error:
            self._on_problem(f"{path} took no more: {(error.strerror or '').lower()}")
        finally:
            os.close(fd)

    async def _work(self) -> None:
        while True:
            arguments = await self._queue.get()
            try:
                await self._run(arguments)
            except Exception as error:
                self._on_problem(f"{(self._settings.command or ('',))[0]} was not run: {error}")
            finally:
                self._queue.task_done()

    async def _run(self, arguments: tuple[str, ...]) -> None:
        command = self._settings.command or ()
        if self._check is None:
            raise PermissionError("nobody here can say whether it is safe to run")
        program = self._check(command[0], os.geteuid())
        process = await asyncio.create_subprocess_exec(
            program,
            *command[1:],
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd="/",
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._timeout):
                code = await process.wait()
        except TimeoutError:
            self._on_problem(f"{command[0]} took longer than {self._timeout:g} s and was ended")
            return
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if code:
            self._on_problem(f"{command[0]} ended with {code}")
