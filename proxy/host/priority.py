"""Lets a process start beside a busy one without taking its processor time.

The start of a daemon costs some seconds of processor time.  On a host without time to spare, clients of the daemon that
still serves would wait so long, and queues would overflow.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from proxy.host.privileges import CAP_SYS_NICE, holds

LOWER: Final = 10
"""How much nicer a starting process is: it gets about a tenth of the time of one that is not (sched(7))."""


def lower() -> int | None:
    """Lower the priority of this process, and of its children to come; return the one that it had.

    None, and nothing has changed, if this process has no right to raise it again.
    """
    if not holds(CAP_SYS_NICE):
        return None
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, before + LOWER)
    return before


def restore(priority: int | None, pids: Iterable[int]) -> None:
    """Give these processes, with all their threads, the priority that `lower` has returned."""
    if priority is None:
        return
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(task.name), priority)
