"""Adverts that wait for nothing else on the machine: real-time scheduling and locked memory (V17).

sched(7), mlockall(2).  Both want privileges (CAP_SYS_NICE, CAP_IPC_LOCK): take them before these are dropped.
"""

import ctypes
import os
import resource

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PRIORITY = 1  # the lowest of real-time: above all that is ordinary, below what the kernel itself runs so


def take_precedence() -> list[str]:
    """Run before all ordinary processes, and never wait for memory from disk; what was not permitted, in words."""
    refused = []
    try:
        # What we start (scripts) is ordinary again.
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    except OSError as error:
        refused.append(f"no real-time scheduling: {error.strerror}")
    flags = _MCL_CURRENT
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        flags |= _MCL_FUTURE  # with a limit, and without the privilege, memory would run out instead
    except (OSError, ValueError):
        pass
    if ctypes.CDLL(None, use_errno=True).mlockall(flags):
        refused.append(f"memory not locked: {os.strerror(ctypes.get_errno())}")
    return refused
