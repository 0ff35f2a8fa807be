"""The file of the connection log: opened by the master, which may, written to by the workers, which may not open it.

The file has mode 0640, and lines are appended.  Its path must not lead through anything that another user could have
planted: each directory belongs to root or to the daemon's user, no other user may write to it (except above the last one,
with the sticky bit), and the same users must own each link.  If the file has been moved away, as logrotate does, the master
opens a new one.  A thread checks and opens the file, so that a file system that hangs blocks nothing else.
"""

import asyncio
import contextlib
import os
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.records.disk_thread import DiskThread, StuckError
from proxy.records.timeline import Level
from proxy.stats.columns import Columns
from proxy.stats.layout import LOG_LOST

if TYPE_CHECKING:
    from concurrent.futures import Future

MODE: Final = 0o640
QUIET: Final = 60.0  # s without a lost line after which the loss is over
FAREWELL: Final = 1.0  # s that closing it may take
STUCK: Final = 3.0  # s that the file system may take for one look
_LINKS: Final = 40
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ConnectionLogFile:
    """The file, if the log goes to one, and whether lines are lost, wherever it goes.

    `tell(text, level)` records what happens; `hand_out()` gives the workers the descriptor, which stays ours.
    """

    def __init__(
        self, path: str | None, columns: Columns, tell: Callable[[str, Level], None], hand_out: Callable[[], None]
    ) -> None:
        self._path = path
        self._columns = columns
        self._tell = tell
        self._hand_out = hand_out
        self._disk = DiskThread("connection log")
        self._looking: Future[int] | None = None
        self.fd = -1
        self._fault = ""
        self._lost = 0  # by now
        self._before = 0  # when the loss began
        self._losing: float | None = None  # when a line was last lost, while that is not over

    def redirect(self, path: str | None) -> None:
        """Write to another file from now on, or to none; workers keep the old one until `hand_out` gives them the new."""
        if path != self._path:
            self._path = path
            self._fault = ""
            self._let_go(self.fd)
            self.fd = -1

    def begin(self) -> None:
        """Take lines that were lost before now as told: the counters may be those of an earlier daemon."""
        self._lost = self._columns.sum(LOG_LOST)

    def look(self, now: float) -> None:
        """Have the file opened where it is not, or not any more, the one that we have; tell of lost lines."""
        self._look_at_loss(now)
        if self._path is None:
            return
        if self._looking is not None:
            if self._disk.busy_for() >= STUCK:
                self._failed(f"{self._path}: the file system does not answer")
            return
        path, fd, loop = self._path, self.fd, asyncio.get_running_loop()

        def done(found: "Future[int]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._looked, path, found)

        self._looking = self._disk.submit(lambda: fd if _is_same(path, fd) else open_safely(path))
        self._looking.add_done_callback(done)

    def _looked(self, path: str, found: "Future[int]") -> None:
        self._looking = None
        error = found.exception()
        if path != self._path:  # it was redirected meanwhile
            if error is None:
                self._let_go(found.result())
            return
        if error is not None:
            self._failed(f"{self._path}: {getattr(error, 'strerror', None) or error}")
            return
        before, fd = self.fd, found.result()
        if fd != before:
            self.fd = fd
            self._let_go(before)
            self._hand_out()
        if self._fault:
            self._fault = ""
            self._tell(f"the connection log is written again: {self._path}", "info")

    def _failed(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            self._tell(f"the connection log cannot be written: {fault}", "error")

    def _let_go(self, fd: int) -> None:
        if fd >= 0:
            with contextlib.suppress(StuckError):
                self._disk.submit(lambda: os.close(fd))  # which may write, and so block

    async def close(self) -> None:
        """Close the file; a file system that does not answer is waited for within a bound."""
        self._let_go(self.fd)
        self.fd = -1
        await self._disk.close(FAREWELL)

    def _look_at_loss(self, now: float) -> None:
        lost = self._columns.sum(LOG_LOST)
        if lost > self._lost:
            if self._losing is None:
                self._before = self._lost
                self._tell(
                    "lines of the connection log are lost: there are too many, or the reader is too slow",
                    "warning",
                )
            self._losing = now
            self._lost = lost
        elif self._losing is not None and now - self._losing >= QUIET:
            self._losing = None
            self._tell(f"no lines of the connection log are lost any more; {lost - self._before} were", "info")


def _is_same(path: str, fd: int) -> bool:
    """Return whether a path leads to the file that is open."""
    if fd < 0:
        return False
    try:
        there, ours = Path(path).stat(), os.fstat(fd)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def open_safely(path: str) -> int:
    """Return a descriptor to append to a plain file of root's or ours, made where missing; OSError in words."""
    *ahead, name = path.strip("/").split("/")
    at = _directory(ahead)
    try:
        _check(os.fstat(at), "its directory", sticky=False)
        # O_NONBLOCK: a planted FIFO must not hang us; it means nothing to a plain file.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(name, flags, MODE, dir_fd=at)
    finally:
        os.close(at)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
            raise OSError("it is not a plain file with one name")  # noqa: TRY301 - one way out
        _check(info, "it", sticky=False)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _directory(parts: list[str]) -> int:
    """Return a descriptor (O_PATH) of the directory that a path leads to."""
    ahead = deque(parts)
    at = [os.open("/", _DIRECTORY)]  # the way down, for ".." in a link
    links = 0
    try:
        while ahead:
            part = ahead.popleft()
            if part in {"", "."}:
                continue
            if part == "..":
                if len(at) > 1:
                    os.close(at.pop())
                continue
            info = os.stat(part, dir_fd=at[-1], follow_symlinks=False)
            if stat.S_ISLNK(info.st_mode):
                links += 1
                if info.st_uid not in {0, os.geteuid()} or links > _LINKS:
                    raise OSError(f"{part} on the way is a symbolic link of another user, or there are too many")
                target = os.readlink(part, dir_fd=at[-1])
                if target.startswith("/"):
                    while len(at) > 1:
                        os.close(at.pop())
                ahead.extendleft(reversed(target.split("/")))
                continue
            at.append(os.open(part, _DIRECTORY, dir_fd=at[-1]))
            _check(os.fstat(at[-1]), f"{part} on the way", sticky=True)
        return os.dup(at[-1])
    finally:
        for fd in at:
            with contextlib.suppress(OSError):
                os.close(fd)


def _check(info: os.stat_result, what: str, *, sticky: bool) -> None:
    if info.st_uid not in {0, os.geteuid()}:
        raise OSError(f"{what} belongs to another user (uid {info.st_uid})")
    if info.st_mode & stat.S_IWOTH and not (sticky and info.st_mode & stat.S_ISVTX):
        raise OSError(f"{what} can be written by any user")
