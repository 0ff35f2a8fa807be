"""A place for a worker, which one process after the other fills."""

from typing import TYPE_CHECKING

from proxy.processes.child import Child, Pace
from proxy.processes.heartbeat import Pulse
from proxy.status.rows import WorkerRow

if TYPE_CHECKING:
    import asyncio


class Place:
    """A place for a worker, and the process that fills it now."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.child: Child | None = None
        self.life: int | None = None
        """The number of the process among all workers that this daemon has started."""
        self.journal = -1
        """The descriptor of its queries in flight, -1 without a process."""
        self.restarts = 0
        self.stalled = False
        self.pulse = Pulse()
        self.pace = Pace()
        self.waiting: asyncio.TimerHandle | None = None
        """The timer of the next start."""

    @property
    def name(self) -> str:
        """The worker's name in events."""
        return f"worker {self.index}"

    @property
    def able(self) -> bool:
        """Whether the worker may poll members."""
        return self.child is not None and self.child.ready and not self.stalled and self.child.alive

    @property
    def row(self) -> WorkerRow:
        """The worker as the status shows it."""
        pid = self.child.pid if self.child is not None and self.child.alive else None
        return WorkerRow(self.index, pid, self.able, self.restarts, self.life)
