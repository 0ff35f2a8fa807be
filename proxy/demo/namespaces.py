"""Namespaces of the kernel: one that everything lives in and ends with, and one for the network of each host.

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
    """The kernel makes no namespaces for this user; says why."""


def enclosed(work: Callable[[], int]) -> int:
    """Run `work` as process 1 of a process namespace, as its root and with a network of its own; return its exit status.

    When it ends all that it has started is dead, whatever it was doing: the kernel sees to that (pid_namespaces(7)), also
    when this process is killed by SIGKILL.  SIGINT, SIGTERM and SIGHUP end it too.  This process has to have one thread
    only, and is of no use for anything else afterwards.  NamespaceError, and `work` not begun, where that is impossible.
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
    """Be process 1; never returns."""
    code = 1
    try:
        _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setsid()  # what a terminal sends is for the process above, which ends this one
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        code = work()
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # nobody reads any more
    except OSError as error:
        print(f"steelyard: demo: {error}", file=sys.stderr)  # noqa: T201 - this process is the command
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _leave() -> None:
    """Have the next child in new namespaces: as root if this is root and may, else as root of a user namespace."""
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
    """Say what is to be done about a refusal."""
    why = error.strerror or str(error)
    if error.errno == errno.EINVAL:
        return f"this kernel lacks namespaces of users, processes or networks: {why}"
    return (
        f"no namespaces for this user: {why}\n"
        "Run it as root (`sudo steelyard demo --pair`), or allow user namespaces, whichever of these sysctls exists:\n"
        "    user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1,"
        " kernel.apparmor_restrict_unprivileged_userns=0"
    )


def new_network() -> int:
    """Make a network namespace; return the descriptor that keeps it, closed on exec."""
    home = os.open(_NETWORK, os.O_RDONLY)
    try:
        _call("unshare", _NEWNET)
        made = os.open(_NETWORK, os.O_RDONLY)
        enter(home)
    finally:
        os.close(home)
    return made


def enter(network: int) -> None:
    """Move the calling thread, and what it starts from now on, to a network namespace."""
    _call("setns", network, _NEWNET)


@contextmanager
def within(network: int) -> Iterator[None]:
    """Put the calling thread into a network namespace: the sockets and processes made in the block stay there."""
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
