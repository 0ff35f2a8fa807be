"""Which worker polls which member of a listener's reuseport group.  Pure.

Laws:
- A group never changes while its listener exists: resizing it would re-hash UDP clients and reset queued handshakes.
- Worker i polls member i as long as worker i is able.  Otherwise the member stays with the worker that polls it now,
  or, if that one is not able, goes to the next able worker after worker i: it never moves without need.
- A group that was bound for another number of workers keeps its size: of W workers, worker i modulo W polls member i.
- No worker polls a member of a closed listener, or any member while no worker is able: the kernel queues clients there.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

Key = tuple[int, int]
"""(listener, index of the member in its group)"""


@dataclass(frozen=True, slots=True)
class Moves:
    """The effect of a change: members to hand out and members to take back, by worker."""

    grants: dict[int, list[Key]] = field(default_factory=dict)
    releases: dict[int, list[Key]] = field(default_factory=dict)


def owner(index: int, able: Collection[int], workers: int) -> int | None:
    """Return the worker that polls member `index` of every group, None if none is able."""
    return next((worker for step in range(workers) if (worker := (index + step) % workers) in able), None)


class Members:
    """The table of which worker polls which member."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._owners: dict[Key, int | None] = {}

    def add(self, listener: int, members: int | None = None) -> None:
        """Add a listener, whose group has as many members as there are workers, unless it was bound for others."""
        for index in range(self.workers if members is None else members):
            self._owners[listener, index] = None

    def remove(self, listener: int) -> None:
        """Remove a listener whose members no worker polls any more."""
        for key in [key for key in self._owners if key[0] == listener]:
            del self._owners[key]

    def owner(self, listener: int, index: int) -> int | None:
        """Return the worker that polls a member, None if none does or there is no such member."""
        return self._owners.get((listener, index))

    def polled_by(self, worker: int) -> list[Key]:
        """Return the members that a worker polls."""
        return [key for key, polling in self._owners.items() if polling == worker]

    def lost(self, worker: int) -> None:
        """Note that a worker's process has ended: it polls nothing, and there is nothing to take back."""
        for key in self.polled_by(worker):
            self._owners[key] = None

    def settle(self, able: Collection[int], listeners: Iterable[int]) -> Moves:
        """Update the table for the able workers and the open listeners; return the moves that this takes."""
        open_ = set(listeners)
        moves = Moves()
        for key, before in self._owners.items():
            listener, index = key
            if listener not in open_:
                after = None
            elif before is not None and before in able and index % self.workers not in able:
                after = before
            else:
                after = owner(index, able, self.workers)
            if after == before:
                continue
            if before is not None:
                moves.releases.setdefault(before, []).append(key)
            if after is not None:
                moves.grants.setdefault(after, []).append(key)
            self._owners[key] = after
        return moves
