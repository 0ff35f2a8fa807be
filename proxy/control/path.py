"""Puts the control socket into the file system, private from its first instant and never over a living daemon's.

`claim` holds a lock from the look at what is there until the bind, so that two daemons that start together cannot each
take the other's socket for a stale one.  The lock is a private file beside the socket, and no daemon waits for it.  A
lock on the directory itself would let any user who can open the directory block the start of a daemon.
"""

import contextlib
import ctypes
import errno
import fcntl
import grp
import os
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from proxy.control.wire import ControlError

BACKLOG: Final = 64
_PEERCRED: Final = struct.Struct("3i")
_SO_PEERGROUPS: Final = getattr(socket, "SO_PEERGROUPS", 59)  # socket(7), since Linux 4.13
_TRIES: Final = 10
_libc = ctypes.CDLL(None, use_errno=True)


def peer_credentials(connection: socket.socket) -> tuple[int, int, int]:
    """Return (pid, uid, gid) of the process that connected, or, asked by a client, of the one that listens."""
    pid, uid, gid = _PEERCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    return pid, uid, gid


def peer_groups(connection: socket.socket) -> Sequence[int]:
    """Return the supplementary groups that the peer had when it connected; empty where the kernel does not say.

    Not with `socket.getsockopt`, which takes no more than 1024 octets (256 groups), and not from /proc, which knows of a
    process what it is now: the kernel keeps what held at the moment of the connect.
    """
    size = ctypes.c_uint32(0)
    for _ in range(_TRIES):
        groups = (ctypes.c_uint32 * (size.value // 4))()
        if not _libc.getsockopt(connection.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, groups, ctypes.byref(size)):
            return groups[: size.value // 4]
        if ctypes.get_errno() != errno.ERANGE:  # which comes with the size that is needed
            break
    return ()


def group_id(name: str | None) -> int | None:
    """Return the number of the group that may read; ControlError for one that this host does not know."""
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ControlError(f'control.group: this host has no group "{name}"') from None


def claim(path: Path, gid: int | None = None) -> socket.socket:
    """Return a listening socket at `path`, mode 0600 from its creation, or 0660 for the group `gid`.

    Makes the directory (0755) when it is missing and removes a socket on which no daemon answers. ControlError, with
    nothing changed, where another daemon answers there (it names that one's pid), where something that is no socket
    is in the way, and where the directory is one that another user may tamper with.
    """
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ControlError(f"{path.parent}: {error.strerror}") from error
    try:
        _refuse_shared(path.parent, directory)
        with _locked(path, directory):
            _clear(path)
            return _bind(path, gid)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _locked(path: Path, directory: int) -> Iterator[None]:
    """Be the only daemon that looks at a path; ControlError where another one does so at this moment."""
    name = f"{path.name}.lock"
    try:
        lock = _lock(name, directory)
    except BlockingIOError:
        raise ControlError(f"{path}: another daemon is starting there") from None
    except OSError as error:
        raise ControlError(f"{path.parent / name}: {error.strerror or error}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        os.close(lock)


def _lock(name: str, directory: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    for _ in range(_TRIES):
        lock = os.open(name, flags, 0o600, dir_fd=directory)
        try:
            status = os.fstat(lock)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise OSError("it is in the way: not the daemon's own private file")  # noqa: TRY301 - one way out
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # its last owner has removed it meanwhile: it locks nothing
    raise BlockingIOError


def _refuse_shared(path: Path, directory: int) -> None:
    status = os.fstat(directory)
    if status.st_mode & stat.S_ISVTX:
        return  # no other user can replace the daemon's files in it
    if status.st_mode & stat.S_IWOTH:
        raise ControlError(
            f"{path}: any user may replace files in this directory: choose another for the control socket"
        )
    if status.st_uid not in {0, os.geteuid()}:
        raise ControlError(
            f"{path}: uid {status.st_uid} may replace files in this directory: choose another for the control socket"
        )


def _clear(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ControlError(f"{path}: a file that is not a socket is in the way")
    if status.st_uid not in {0, os.geteuid()}:
        raise ControlError(f"{path}: the socket there belongs to another user (uid {status.st_uid})")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.setblocking(False)
        try:
            trial.connect(os.fspath(path))
        except BlockingIOError:
            raise ControlError(f"{path}: another daemon listens there, and is too busy to answer") from None
        except OSError as error:
            if error.errno not in {errno.ECONNREFUSED, errno.ENOENT}:
                raise ControlError(f"{path}: {error.strerror}") from error
        else:
            raise ControlError(f"{path}: another daemon, pid {peer_credentials(trial)[0]}, answers there")
    path.unlink(missing_ok=True)


def admit(path: Path, gid: int | None) -> None:
    """Let the group `gid`, and no other, read at a socket that another daemon has bound; ControlError if that fails."""
    try:
        os.chown(path, -1, os.getegid() if gid is None else gid, follow_symlinks=False)
        path.chmod(0o600 if gid is None else 0o660)
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}") from error


def _bind(path: Path, gid: int | None) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    try:
        # The file gets the mode of its socket: it is right from the first instant, and no other thread meets another umask.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(os.fspath(path))
        if gid is not None:
            os.chown(path, -1, gid, follow_symlinks=False)
            path.chmod(0o660)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ControlError(f"{path}: {error.strerror or error}") from error
    return listener
