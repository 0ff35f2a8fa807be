"""Giving up what a process no longer needs: user, groups, capabilities, the way back to any of them.

capabilities(7), prctl(2).  A child drops after its imports, as the interpreter itself may lie where only root can read.
"""

import ctypes
import os
import pwd
import resource
from collections.abc import Collection
from pathlib import Path

CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
CAP_SYS_NICE = 23

_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
# SECBIT_NOROOT 0x01, NO_SETUID_FIXUP 0x04 and NO_CAP_AMBIENT_RAISE 0x40, each with its lock, and KEEP_CAPS locked off.
# Without the fix-up a change of user takes no capabilities away: capset does, and leaves those that are to be kept.
_SECURE_ALL = 0x03 | 0x0C | 0xC0 | 0x20
_CAP_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two 32-bit words each


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Words(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)


def user_ids(name: str) -> tuple[int, int]:
    """(uid, gid) of a user; KeyError for an unknown one."""
    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid


def can_become(uid: int, gid: int) -> bool:
    """Whether this process may become another user: it is root, and the IDs exist in its user namespace."""
    return os.geteuid() == 0 and _mapped("uid_map", uid) and _mapped("gid_map", gid)


def alone() -> bool:
    """Return True if this user namespace has a single user, so that root in it cannot become another one (unshare -r)."""
    return sum(count for _, _, count in _rows("uid_map")) == 1


def _mapped(table: str, number: int) -> bool:
    return any(first <= number < first + count for first, _, count in _rows(table))


def _rows(table: str) -> list[tuple[int, int, int]]:
    """Rows of user_namespaces(7)'s maps: first number inside, first outside, how many."""
    try:
        text = Path("/proc/self", table).read_text(encoding="ascii")
    except OSError:
        return []
    return [(int(first), int(outside), int(count)) for first, outside, count in map(str.split, text.splitlines())]


def drop(uid: int | None, gid: int | None, keep: Collection[int] = ()) -> None:
    """Become `uid` and `gid` (None: stay), keep only the capabilities `keep`, and make sure none can come back.

    OSError if the kernel refuses what makes it safe; the process must then not go on.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_bytes())  # octets: no codec needs to be imported here
    held = _effective()
    if held >> 8 & 1:  # CAP_SETPCAP
        for capability in range(last + 1):
            if capability not in keep:
                _prctl(_PR_CAPBSET_DROP, capability)
        _prctl(_PR_SET_SECUREBITS, _SECURE_ALL)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    if uid is not None and gid is not None and (os.getuid(), os.getgid()) != (uid, gid):
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    wanted = sum(1 << capability for capability in keep) & held
    words = (_Words * 2)(*(_Words(part := wanted >> shift & 0xFFFFFFFF, part, 0) for shift in (0, 32)))
    if _libc.capset(ctypes.byref(_Header(_CAP_VERSION, 0)), words):
        raise _error("capset")


def effective() -> int:
    """Capabilities in force, as a bit mask."""
    return _effective()


def holds(*capabilities: int) -> bool:
    """Whether all of these are in force."""
    held = _effective()
    return all(held >> capability & 1 for capability in capabilities)


def _effective() -> int:
    for line in Path("/proc/self/status").read_bytes().splitlines():
        if line.startswith(b"CapEff:"):
            return int(line.split()[1], 16)
    return 0


def raise_open_files() -> int:
    """Raise the soft limit of open files to the hard one; the limit now in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return 1 << 20  # what a kernel that knows no such limit allows by default (fs.nr_open)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0):
        raise _error(f"prctl {option}")


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
