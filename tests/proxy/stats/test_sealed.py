"""proxy.stats.sealed: memory files that no process can resize, or change at all."""

import errno
import fcntl
import mmap
import os
from pathlib import Path

import pytest

from proxy.stats import sealed


def open_files():
    """Count our descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def close():
    """Close descriptors at the end."""
    fds = []
    yield fds.append
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("make", [lambda: sealed.zeroed("test", 16), lambda: sealed.frozen("test", bytes(16))])
def test_nobody_resizes_it(close, make):
    """No file can be made shorter or longer, or sealed further; its mode keeps other users from opening it again."""
    fd = make()
    close(fd)
    for size in (0, 8, 24):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert os.fstat(fd).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(fd)


def test_a_zeroed_file_is_written_to(close):
    """A zeroed file begins with zeros, and its holders share their writes."""
    fd = sealed.zeroed("test", 16)
    close(fd)
    assert os.pread(fd, 17, 0) == bytes(16)
    with mmap.mmap(fd, 16) as one, mmap.mmap(fd, 16) as other:
        one[3] = 7
        assert other[3] == 7


def test_a_frozen_file_is_not(close):
    """What a frozen file holds, a megabyte or nothing, stays as it was made."""
    for data in (b"", b"words", os.urandom(1 << 20)):
        fd = sealed.frozen("test", data)
        close(fd)
        assert os.pread(fd, len(data) + 1, 0) == data
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"other", 0)


def test_nothing_is_left_of_a_failure(monkeypatch):
    """Where there is no memory for it, the error is the caller's and no descriptor stays open."""

    def full(fd, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = open_files()
    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(OSError, match="No space left"):
        sealed.zeroed("test", 16)
    assert open_files() == before
