"""A FIFO that stays open, as keepalived's does: lines wait in the pipe for a reader that comes late, or comes back."""

import contextlib
import os
import select
import stat
from collections.abc import Callable
from pathlib import Path

_LOOK = 100  # ms between two checks whether to give up on a full pipe


class NoFifo(Exception):  # noqa: N818 - named for what it says
    """The FIFO cannot be written; the text begins with the path and gives the reason."""


class Fifo:
    """The FIFO at `path`, created (0600) if missing.  Every method may block: call it in a thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def open(self) -> None:
        """Open the FIFO at the path, unless that one is open already.  Raises NoFifo."""
        if self._fd >= 0 and self._is_there():
            return
        self.close()
        with contextlib.suppress(OSError):
            os.mkfifo(self._path, 0o600)
        try:
            # Open for reading as well, the pipe needs no reader and outlives each of them.  Links are not followed (S5).
            fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            raise NoFifo(f"{self._path} cannot be opened: {(error.strerror or 'unknown').lower()}") from error
        found = os.fstat(fd)
        if not stat.S_ISFIFO(found.st_mode) or found.st_uid not in {0, os.geteuid()}:
            os.close(fd)
            why = "belongs to another user" if stat.S_ISFIFO(found.st_mode) else "is not a FIFO"
            raise NoFifo(f"{self._path} {why}: it is left alone")
        self._fd = fd

    def write(self, line: bytes, give_up: Callable[[], bool]) -> bool:
        """Write a line once there is room; return False, with nothing written, once `give_up()`.  Raises NoFifo."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while True:
            try:
                os.write(self._fd, line)  # all or nothing: it is shorter than PIPE_BUF
            except BlockingIOError:
                if give_up():
                    return False
                poll.poll(_LOOK)
            except OSError as error:
                raise NoFifo(f"{self._path} cannot be written: {(error.strerror or 'unknown').lower()}") from error
            else:
                return True

    def close(self) -> None:
        """Close the FIFO; a reader gets the lines in the pipe, and then end of file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_there(self) -> bool:
        try:
            there = Path(self._path).lstat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._fd))
