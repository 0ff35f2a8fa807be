"""The journals of dead workers: a sibling asks again the queries that a dead worker had in flight.

A journal stays here until the heir confirms that it has read it: if the heir dies first, the next one gets the journal.
"""

import os
from collections.abc import Iterable

from proxy.processes.messages import worker as worker_messages
from proxy.relay.dns import journal
from proxy.workers.place import Place


class Inheritance:
    """The journals without a worker, and those that an heir has not confirmed yet."""

    def __init__(self) -> None:
        self._replays = 0
        self._left_behind: list[int] = []  # journals without an heir
        self._given: dict[int, dict[int, int]] = {}
        """By the heir's index: the journals that it has not confirmed, by replay."""

    def leave(self, place: Place) -> None:
        """Take the journal of a worker that has died, and those that it had inherited and not confirmed."""
        self._left_behind += self._given.pop(place.index, {}).values()
        if place.journal >= 0:
            self._left_behind.append(place.journal)
            place.journal = -1

    def take(self, fd: int) -> None:
        """Take the journal of a predecessor's worker that is gone."""
        self._left_behind.append(fd)

    def hand_on(self, places: Iterable[Place]) -> None:
        """Give the journals that are left behind to the first worker that is able; they wait if there is none."""
        heir = next((place for place in places if place.able), None)
        if heir is None or heir.child is None:
            return
        for fd in self._left_behind:
            if journal.used(fd):
                self._replays += 1
                self._given.setdefault(heir.index, {})[self._replays] = fd
                heir.child.send(worker_messages.Replay(self._replays), [fd])
            else:
                os.close(fd)
        self._left_behind.clear()

    def confirmed(self, place: Place, replay: int) -> bool:
        """Close the journal that an heir has read; False if it was not given this one."""
        fd = self._given.get(place.index, {}).pop(replay, -1)
        if fd < 0:
            return False
        os.close(fd)
        return True

    def waits_for(self, place: Place) -> list[int]:
        """Return the replays that a worker was given and has not confirmed."""
        return list(self._given.get(place.index, {}))

    def close(self) -> None:
        """Close all journals."""
        for fd in (*self._left_behind, *(fd for given in self._given.values() for fd in given.values())):
            os.close(fd)
        self._left_behind.clear()
        self._given.clear()
