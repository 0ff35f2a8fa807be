"""The standard streams of the command line: they may be closed or full, which is the caller's doing and no bug of ours."""

import errno
import io
import os
import select
import sys
from typing import Any, TextIO

_OUT, _ERR = 1, 2


class OutputError(OSError):
    """Standard output cannot be written, for another reason than a reader that has left (BrokenPipeError)."""

    def __str__(self) -> str:
        why = "it is closed" if self.errno == errno.EBADF else (self.strerror or "it cannot be written").lower()
        return f"standard output: {why}"


class _Output(io.FileIO):
    """Standard output, whose failures can be told from those of any other file."""

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:  # somebody made the pipe non-blocking
                _wait(self.fileno())
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error
        return written


class _Errors(io.FileIO):
    """Standard error: where it takes nothing there is nobody left to tell, and the exit code still counts."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def prepare() -> None:
    """Make the standard streams safe to use; streams that somebody else has put in their place stay."""
    _occupy()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(_OUT, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Errors(_ERR, "w", closefd=False), sys.stderr)


def abandon() -> None:
    """Throw away what standard output has not taken: the interpreter's end would try to write it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _OUT)


def _occupy() -> None:
    """Let no socket become standard input, output or error where that is closed: what is written there would go astray."""
    # Read-only: writing to it fails just as writing to a closed descriptor does.
    while (fd := os.open(os.devnull, os.O_RDONLY)) <= _ERR:
        pass
    os.close(fd)


def _text(raw: io.FileIO, before: TextIO | None) -> TextIO:
    encoding = "utf-8" if before is None else before.encoding
    errors = "backslashreplace" if before is None else before.errors
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=before is None or raw.isatty())


def _wait(fd: int) -> None:
    ready = select.poll()
    ready.register(fd, select.POLLOUT)
    ready.poll()
