"""What every child does first: it takes over what the master started it with, and gives up what it is not to have.

Imports little, as each child waits for it.
"""

import os
import resource
import signal
import socket
from collections.abc import Collection
from typing import cast

from proxy.host import privileges
from proxy.processes.signals import OURS
from proxy.records import log


def inherit(arguments: list[str], keep: Collection[int] = ()) -> socket.socket:
    """Read the arguments that every child is started with: FD UID GID LEVEL FORMAT ("-" keeps the present user or group).

    The child ignores signals to the whole process group: the master handles them.  Of the capabilities only `keep` stay.
    Raises SystemExit in a process that no master has started.
    """
    try:
        fd, uid, gid, level, form = arguments
        kind = socket.socket(fileno=os.dup(int(fd)))
        with kind:
            if (kind.family, kind.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
                raise ValueError("no channel")  # noqa: TRY301 - told like all else that is wrong
    except (ValueError, OSError):
        raise SystemExit(
            "steelyard: this is a part of `steelyard run`, which starts it: not to be run by hand"
        ) from None
    for number in OURS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)
    log.setup(level, cast("log.Format", form))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold clients' data and probes' passwords
    privileges.drop(None if uid == "-" else int(uid), None if gid == "-" else int(gid), keep)
    return socket.socket(fileno=int(fd))
