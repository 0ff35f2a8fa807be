"""Which worker polls which member of a listener's reuseport group.  Pure.

Laws:
- A group never changes while its listener exists: resizing it would re-hash UDP clients and reset queued handshakes.
- Member i belongs to worker i as long as that worker is able.  Else it stays where it is if that worker is able, and
  goes to the next able one after worker i if not: it never moves without need.
- A member of a closed listener, and any member while no worker is able, is polled by nobody: what arrives is queued.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

Key = tuple[int, int]
"""(listener, index of the member in its group)"""


@dataclass(frozen=True, slots=True)
class Moves:
    """What follows from a change: members to hand out and members to take back, by worker."""

    grants: dict[int, list[Key]] = field(default_factory=dict)
    releases: dict[int, list[Key]] = field(default_factory=dict)


def owner(index: int, able: Collection[int], workers: int) -> int | None:
    """Return the worker that polls member `index` of every group, None if none is able."""
    return next((worker for step in range(workers) if (worker := (index + step) % workers) in able), None)


class Members:
    """The table of who polls what."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._owners: dict[Key, int | None] = {}

    def add(self, listener: int) -> None:
        """Know a new listener, whose group has as many members as there are workers."""
        for index in range(self.workers):
            self._owners[listener, index] = None

    def remove(self, listener: int) -> None:
        """Forget a listener, whose members nobody polls any more."""
        for index in range(self.workers):
            del self._owners[listener, index]

    def polled_by(self, worker: int) -> list[Key]:
        """Return the members that a worker polls."""
        return [key for key, who in self._owners.items() if who == worker]

    def lost(self, worker: int) -> None:
        """A worker's process is gone, and with it its polling: nothing needs to be taken back."""
        for key in self.polled_by(worker):
            self._owners[key] = None

    def settle(self, able: Collection[int], listeners: Iterable[int]) -> Moves:
        """Bring the table in line with who is able and which listeners are open; the moves that this takes."""
        open_ = set(listeners)
        moves = Moves()
        for key, before in self._owners.items():
            listener, index = key
            if listener not in open_:
                after = None
            elif before is not None and before in able and index not in able:
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
