"""Whose processor time was used during a run: the balancer's, the client's and the servers', or anybody else's.

/proc/PID/task/TID/schedstat counts nanoseconds; utime and stime of /proc/PID/stat only hundredths of a second.  What the
kernel does for a packet is charged to the process that sent it, or to a ksoftirqd if there is much of it.
"""

import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.bed import Bed, processes_in
from tests.e2e.process import TICKS

PROCESSORS = os.cpu_count() or 1


def runtime(pids: Iterable[int]) -> float:
    """Return the processor time of living processes in seconds, with all their threads."""
    total = 0
    for pid in pids:
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return total / 1e9


def memory(pids: Iterable[int]) -> float:
    """Return the memory of living processes in octets; what several share is divided among them (PSS)."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return float(total)


def kernel_threads() -> list[int]:
    """Return the ids of the threads that process packets for everybody, ksoftirqd."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/comm"):
        try:
            if entry.read_text().startswith("ksoftirqd/"):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def idle_seconds() -> float:
    """Return for how long all processors together have been idle, in seconds."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (fields[3] + fields[4]) / TICKS


def clients_seconds() -> float:
    """Return the processor time of this process and of its children that have ended (the clients), in seconds."""
    used = [resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@dataclass(frozen=True)
class Used:
    """Processor seconds of a run: `own` of the balancer, `all` of all that take part; `others` is a share of the machine."""

    own: float
    all: float
    others: float


def account(elapsed: float, idle: float, own: float, ours: float) -> Used:
    """Return what was used: `ours` are the seconds of client, servers and the kernel's threads for packets.

    Everything else that was not idle counts as `others`, also what the kernel did for nobody, and what another guest of
    the host had.
    """
    whole = elapsed * PROCESSORS
    others = whole - idle - own - ours
    return Used(own, own + ours, min(1.0, max(0.0, others) / whole))


class Meter:
    """Measures one run of one balancer (the processes `pids`) beside servers in a namespace of the bed."""

    def __init__(self, bed: Bed, servers: str) -> None:
        holder = bed.hosts[servers]
        self.helpers = [pid for pid in processes_in({holder.inode}) if pid != holder.holder.pid] + kernel_threads()

    def begin(self, pids: Iterable[int]) -> None:
        """Note the state before a run."""
        self._pids = list(pids)
        self._before = self._read()

    def end(self) -> Used:
        """Return what was used since `begin`."""
        return account(*(after - before for after, before in zip(self._read(), self._before, strict=True)))

    def _read(self) -> tuple[float, float, float, float]:
        ours = runtime(self.helpers) + clients_seconds()
        return time.monotonic(), idle_seconds(), runtime(self._pids), ours
