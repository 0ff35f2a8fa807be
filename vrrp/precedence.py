"""Keeps adverts punctual: real-time scheduling, locked memory, no long garbage collections (V17).

sched(7), mlockall(2).  Both need privileges (CAP_SYS_NICE, CAP_IPC_LOCK): call this before they are dropped.
"""

import ctypes
import gc
import os
import resource

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PRIORITY = 1  # the lowest real-time priority: above all ordinary processes, below the kernel's real-time threads


def take_precedence() -> list[str]:
    """Run before all ordinary processes, and never wait for memory from disk; return the refusals, in words.

    Call it after all imports.
    """
    refused = []
    # A full collection visits the 38,000 objects of the imports, and takes 35 ms: exclude them for good.
    gc.freeze()
    try:
        # The scripts that this process starts run at ordinary priority.
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    except OSError as error:
        refused.append(f"no real-time scheduling: {error.strerror}")
    flags = _MCL_CURRENT
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        flags |= _MCL_FUTURE  # with a limit and without the privilege, allocations would fail
    except (OSError, ValueError):
        pass
    if ctypes.CDLL(None, use_errno=True).mlockall(flags):
        refused.append(f"memory not locked: {os.strerror(ctypes.get_errno())}")
    return refused
