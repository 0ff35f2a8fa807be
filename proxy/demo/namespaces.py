"""Kernel namespaces: a process namespace in which everything runs and ends, and a network namespace for each host.

unshare(2), setns(2), pid_namespaces(7), user_namespaces(7).  By ctypes: `os.unshare` came with Python 3.12 only.
"""

import ctypes
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000  # sched.h
_PR_SET_PDEATHSIG = 1
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NETWORK = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(Exception):
    """The kernel creates no namespaces for this user; the message says why."""


def enclosed(work: Callable[[], int]) -> int:
    """Run `work` as process 1 of a new process namespace, as root, with a new network; return its exit status.

    When `work` ends, the kernel kills every process that it has started (pid_namespaces(7)), even if this process is
    killed by SIGKILL.  SIGINT, SIGTERM and SIGHUP end it too.  The calling process must have one thread only, and cannot
    be used for anything else afterwards.  Raises NamespaceError before `work` begins if the kernel refuses.
    """
    _leave()
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    child = os.fork()
    if child == 0:
        _be_first(work)
    first = os.pidfd_open(child)
    caught = []

    def end(number: int, _: object) -> None:
        caught.append(number)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(first, signal.SIGKILL)

    before = [signal.signal(number, end) for number in _ENDING]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    _, status = os.waitpid(child, 0)
    for number, handler in zip(_ENDING, before, strict=True):
        signal.signal(number, handler)
    os.close(first)
    code = os.waitstatus_to_exitcode(status)
    return 128 + caught[0] if caught else code if code >= 0 else 128 - code


def _be_first(work: Callable[[], int]) -> NoReturn:
    """Run `work` as process 1; never return."""
    code = 1
    try:
        _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setsid()  # signals of the terminal go to the parent, which ends this process
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        code = work()
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # the reader of the output has gone
    except OSError as error:
        print(f"steelyard: demo: {error}", file=sys.stderr)  # noqa: T201 - this process is the command
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _leave() -> None:
    """Put the next child into new namespaces: as root if the kernel allows it, else as root of a user namespace."""
    try:
        if os.geteuid() == 0:
            try:
                return _call("unshare", _NEWNET | _NEWPID)
            except PermissionError:
                pass  # root of a container, for example
        uid, gid = os.geteuid(), os.getegid()
        _call("unshare", _NEWUSER | _NEWNET | _NEWPID)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
    except OSError as error:
        raise NamespaceError(_advice(error)) from error


def _advice(error: OSError) -> str:
    """Return what the operator can do about a refusal."""
    why = error.strerror or str(error)
    if error.errno == errno.EINVAL:
        return f"this kernel lacks namespaces of users, processes or networks: {why}"
    return (
        f"no namespaces for this user: {why}\n"
        "Run it as root (`sudo steelyard demo --pair`), or set these sysctls, as far as they exist:\n"
        "    user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1,"
        " kernel.apparmor_restrict_unprivileged_userns=0"
    )


def new_network() -> int:
    """Create a network namespace; return a descriptor that keeps it alive and is closed on exec."""
    home = os.open(_NETWORK, os.O_RDONLY)
    try:
        _call("unshare", _NEWNET)
        made = os.open(_NETWORK, os.O_RDONLY)
        enter(home)
    finally:
        os.close(home)
    return made


def enter(network: int) -> None:
    """Move the calling thread to a network namespace; processes and sockets that it creates afterwards belong there."""
    _call("setns", network, _NEWNET)


@contextmanager
def within(network: int) -> Iterator[None]:
    """Move the calling thread to a network namespace for the block; sockets and processes created in it stay there."""
    home = os.open(_NETWORK, os.O_RDONLY)
    try:
        enter(network)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
