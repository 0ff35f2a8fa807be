"""Adverts that wait for nothing else on the machine, nor for ourselves: real-time scheduling, locked memory, no long collections (V17).

sched(7), mlockall(2).  Both want privileges (CAP_SYS_NICE, CAP_IPC_LOCK): take them before these are dropped.
"""

import ctypes
import gc
import os
import resource

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PRIORITY = 1  # the lowest of real-time: above all that is ordinary, below what the kernel itself runs so


def take_precedence() -> list[str]:
    """Run before all ordinary processes, and never wait for memory from disk; what was not permitted, in words.

    To be called once everything is imported.
    """
    refused = []
    # A full collection looks at all that the imports have made, 38,000 objects, and takes 35 ms: leave those out for good.
    gc.freeze()
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
