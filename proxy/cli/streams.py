"""The standard streams of the command line: if they are closed or full, that is the caller's fault, no bug."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

_OUT, _ERR = 1, 2


class OutputError(OSError):
    """Standard output cannot be written, for another reason than a reader that has left (BrokenPipeError)."""

    def __str__(self) -> str:
        why = "it is closed" if self.errno == errno.EBADF else (self.strerror or "it cannot be written").lower()
        return f"standard output: {why}"


class _Output(io.TextIOWrapper):
    """Standard output, whose failures can be told from those of any other file."""

    def write(self, text: str, /) -> int:
        with _blamed():
            return super().write(text)

    def flush(self) -> None:
        with _blamed():
            super().flush()


class _Errors(io.TextIOWrapper):
    """Standard error: if it takes nothing, the exit code alone reports the error."""

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


@contextlib.contextmanager
def _blamed() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


def prepare() -> None:
    """Make the standard streams safe to use; streams that other code has put in their place stay."""
    _occupy()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output, _OUT, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Errors, _ERR, sys.stderr)


def abandon() -> None:
    """Throw away what standard output has not taken: the interpreter's end would try to write it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _OUT)


def _occupy() -> None:
    """Let no socket become standard input, output or error where that is closed: what is written there would go astray."""
    # Read-only: writing to it fails just as writing to a closed descriptor does.
    while (fd := os.open(os.devnull, os.O_RDONLY)) <= _ERR:
        pass
    os.close(fd)


def _text(kind: type[io.TextIOWrapper], fd: int, before: TextIO | None) -> TextIO:
    encoding = "utf-8" if before is None else before.encoding
    errors = "backslashreplace" if before is None else before.errors
    # All below the text is the interpreter's own: no signal can come between a write and the note that it was done.
    buffer = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return kind(buffer, encoding, errors, line_buffering=fd == _ERR or buffer.isatty())
