"""Runs a program in the sandbox of the unit, as far as one process can make it: `python sandbox.py UNIT COMMAND…`.

The filter of system calls, the address families, W^X memory, namespaces, set-uid files and real-time scheduling as the unit
has them, the capabilities, NoNewPrivileges, the umask.  Not the mounts, which only systemd makes.  libseccomp(3), which
systemd itself uses, builds the filters; `systemd-analyze` says which calls a group has.  Standard library only.
"""

import contextlib
import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

UNIT = Path(__file__).resolve().parents[2] / "packaging" / "steelyard.service"

_ALLOW = 0x7FFF0000
_DENY = 0x00050000 | errno.EPERM  # SCMP_ACT_DENY
_UNKNOWN = 0x00050000 | errno.ENOSYS
_EQUAL, _MASKED_EQUAL = 4, 7
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
# fmt: off
_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)
# fmt: on


class _Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def settings(unit: Path = UNIT) -> dict[str, list[str]]:
    """Return the values of each key of a unit, in their order; an empty value clears those before it."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def system_calls(values: Iterable[str]) -> set[str]:
    """Return the calls that SystemCallFilter= allows: its first value is a list of what is allowed."""
    allowed: set[str] = set()
    for value in values:
        names = _expanded(value.removeprefix("~").split())
        allowed = allowed - names if value.startswith("~") else allowed | names
    return allowed | _expanded(["@default"])  # systemd adds these to each such list


def _expanded(names: list[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
            continue
        done = subprocess.run(
            ["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True
        )
        lines = [line.strip() for line in done.stdout.splitlines()[1:]]
        found |= _expanded([line for line in lines if line and not line.startswith("#")])
    return found


class Filter:
    """One filter of libseccomp; `action` is what happens to calls without a rule."""

    def __init__(self, action: int) -> None:
        self._lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._lib.seccomp_rule_add_array.argtypes = (
            ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Compare),
        )  # fmt: skip
        self._lib.seccomp_load.argtypes = (ctypes.c_void_p,)
        self._context = self._lib.seccomp_init(action)

    def add(self, action: int, name: str, *compare: tuple[int, int, int, int]) -> None:
        """Add a rule for a call of this architecture; one that it does not have is left out."""
        number = self._lib.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return
        rows = (_Compare * len(compare))(*(_Compare(*row) for row in compare))
        code = self._lib.seccomp_rule_add_array(self._context, action, number, len(compare), rows)
        if code:
            raise OSError(-code, f"seccomp_rule_add {name}")

    def load(self) -> None:
        """Put it into force, for this process and all that it starts."""
        if code := self._lib.seccomp_load(self._context):
            raise OSError(-code, "seccomp_load")


def confine(unit: Path = UNIT) -> None:
    """Put the sandbox of a unit around this process."""
    found = settings(unit)
    calls = system_calls(found["SystemCallFilter"])
    kept = {name.removeprefix("CAP_") for value in found["CapabilityBoundingSet"] for name in value.split()}
    assert found["LimitMEMLOCK"] == ["infinity"]
    with contextlib.suppress(ValueError):  # only with CAP_SYS_RESOURCE
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    libc = ctypes.CDLL(None, use_errno=True)
    for number, name in enumerate(_CAPABILITIES):
        if name not in kept and libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
            raise OSError(ctypes.get_errno(), f"PR_CAPBSET_DROP {name}")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    os.umask(int(found["UMask"][-1], 8))
    _families({getattr(socket, name) for name in found["RestrictAddressFamilies"][-1].split()})
    if found["MemoryDenyWriteExecute"] == ["yes"]:
        _memory()
    if found["RestrictNamespaces"] == ["yes"]:
        _namespaces()
    assert found["SystemCallErrorNumber"] == ["EPERM"]
    allowed = Filter(_DENY)
    for name in sorted(calls):
        allowed.add(_ALLOW, name)
    allowed.load()


def _families(families: set[int]) -> None:
    denied = Filter(_ALLOW)
    for family in range(64):
        if family not in families:
            denied.add(_DENY, "socket", (0, _EQUAL, family, 0))
    denied.load()


def _memory() -> None:
    """Deny memory that is writable and executable, as MemoryDenyWriteExecute= (seccomp_memory_deny_write_execute)."""
    denied = Filter(_ALLOW)
    denied.add(_DENY, "mmap", (2, _MASKED_EQUAL, 6, 6))  # PROT_WRITE | PROT_EXEC
    denied.add(_DENY, "mprotect", (2, _MASKED_EQUAL, 4, 4))  # PROT_EXEC
    denied.add(_DENY, "pkey_mprotect", (2, _MASKED_EQUAL, 4, 4))
    denied.add(_DENY, "shmat", (2, _MASKED_EQUAL, 0o100000, 0o100000))  # SHM_EXEC
    denied.load()


def _namespaces() -> None:
    denied = Filter(_ALLOW)
    denied.add(_DENY, "setns")
    denied.add(_UNKNOWN, "clone3")  # its flags are in memory, which no filter sees: libraries go on with clone
    for bit in (1 << number for number in range(32) if _NAMESPACES >> number & 1):
        denied.add(_DENY, "unshare", (0, _MASKED_EQUAL, bit, bit))
        denied.add(_DENY, "clone", (0, _MASKED_EQUAL, bit, bit))
    denied.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
