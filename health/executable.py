"""Whether a program is safe to run unasked: nobody else may put another one in its place (S4)."""

import os
import stat
from collections import deque

_LINKS = 40  # that are followed, as the kernel does


class Unsafe(Exception):  # noqa: N818 - named for what the program is
    """The program must not be run, or cannot; the text says why."""


def trusted(path: str, user: int) -> str:
    """Return the program's own path, with every link followed; raises `Unsafe` in words.

    Each directory, link and file on the way must belong to root or `user`, and be writable by its owner alone, or by
    group root.  In a directory with the sticky bit nobody can replace what is not his: there its entries are looked at.
    """
    ahead = deque(part for part in path.split("/") if part)
    at = "/"
    _look(at, os.lstat(at), user)
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
        _look(here, info, user)
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


def _look(path: str, info: os.stat_result, user: int) -> None:
    if info.st_uid not in {0, user}:
        raise Unsafe(f"{path} belongs to another user (uid {info.st_uid}), who could change what is run")
    if stat.S_ISLNK(info.st_mode):
        return  # a link has no permissions of its own
    if stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX:
        return
    if info.st_mode & stat.S_IWOTH:
        raise Unsafe(f"{path} can be written by everybody, who could change what is run")
    if info.st_mode & stat.S_IWGRP and info.st_gid != 0:
        raise Unsafe(f"{path} can be written by group {info.st_gid}, who could change what is run")
