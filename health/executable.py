"""Checks that a file is safe to run or to obey: no other user can change it or replace it (S4, S7)."""

import functools
import os
import pwd
import stat
from collections import deque
from pathlib import Path

_LINKS = 40  # symbolic links that are followed at most, as in the kernel


class Unsafe(Exception):  # noqa: N818 - named for what the file is
    """The file must not or cannot be used; the text says why, and `hint` says what to do."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


def trusted(path: str, user: int, group: int = 0) -> str:
    """Return the path of the file itself, with every symbolic link followed; raises `Unsafe`.

    Each directory, link and file on the way must belong to root or `user`.  Only its owner, group root or `group` may
    have write permission.  A directory with the sticky bit may be writable by everybody, because there no user can
    replace another user's entries; its entries are checked like all others.
    """
    ahead = deque(part for part in path.split("/") if part)
    at = "/"
    _look(at, os.lstat(at), user, group)
    links = 0
    while ahead:
        part = ahead.popleft()
        if part in {".", ""}:
            continue
        if part == "..":
            at = os.path.dirname(at)  # noqa: PTH120 - text, as links were followed
            continue
        here = os.path.join(at, part)  # noqa: PTH118 - an absolute path of text
        try:
            info = os.lstat(here)
        except OSError as error:
            raise Unsafe(f"{here}: {(error.strerror or 'unreadable').lower()}") from None
        _look(here, info, user, group)
        if stat.S_ISLNK(info.st_mode):
            links += 1
            if links > _LINKS:
                raise Unsafe(f"{path}: too many links")
            target = os.readlink(here)  # noqa: PTH115 - text
            at = "/" if target.startswith("/") else at
            ahead.extendleft(reversed([one for one in target.split("/") if one]))
            continue
        if ahead and not stat.S_ISDIR(info.st_mode):
            raise Unsafe(f"{here} is not a directory")
        at = here
    if not stat.S_ISREG(os.lstat(at).st_mode):
        raise Unsafe(f"{at} is not a file")
    return at


def runnable(path: str, user: int, group: int) -> None:
    """Check that `user`, with `group` as the only group, may enter each directory of the path and run the program.

    Raises `Unsafe` if not.
    """
    for one in {path, os.path.realpath(path)}:
        at = Path(one)
        for part in (*reversed(at.parents), at):
            try:
                info = part.stat()
            except OSError as error:
                raise Unsafe(f"{part}: {(error.strerror or 'unreadable').lower()}") from None
            bit = stat.S_IXUSR if info.st_uid == user else stat.S_IXGRP if info.st_gid == group else stat.S_IXOTH
            if user != 0 and not info.st_mode & bit:
                what = "may not enter" if part != at else "may not run"
                raise Unsafe(f"{_name(user)} {what} {part}")


def _name(user: int) -> str:
    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"


def _look(path: str, info: os.stat_result, user: int, group: int) -> None:
    if info.st_uid not in {0, user, _outside()}:
        raise Unsafe(f"{path} belongs to another user (uid {info.st_uid}), who could change it", f"chown {user} {path}")
    if stat.S_ISLNK(info.st_mode):
        return  # a link has no permissions of its own
    if stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX:
        return
    if info.st_mode & stat.S_IWOTH:
        raise Unsafe(f"{path} is writable by everybody, so anybody could change it", f"chmod o-w {path}")
    if info.st_mode & stat.S_IWGRP and info.st_gid not in {0, group}:
        raise Unsafe(f"{path} is writable by group {info.st_gid}, so its members could change it", f"chmod g-w {path}")


@functools.cache
def _outside() -> int:
    """Return the UID that stands for users outside this user namespace, -1 if the namespace has a user with that UID.

    In a namespace of one user (unshare -r) the files of the real root have this UID (user_namespaces(7)).
    """
    try:
        number = int(Path("/proc/sys/kernel/overflowuid").read_text())
        rows = [[int(field) for field in row.split()] for row in Path("/proc/self/uid_map").read_text().splitlines()]
    except (OSError, ValueError):
        return -1
    return -1 if any(first <= number < first + count for first, _, count in rows) else number
