"""Who follows what begins and ends in the workers."""

from collections.abc import Callable, Iterable
from typing import Any

from proxy.processes.messages import worker as messages

Heard = Callable[[int, list[dict[str, Any]], int], None]
"""Called with a worker's index, rows of what happened there, and how many rows were lost."""


class Followers:
    """The followers of all workers; `tell(message)` reaches the workers that are ready."""

    def __init__(self, tell: Callable[[messages.Follow], None]) -> None:
        self._tell = tell
        self._followers: dict[int, tuple[messages.Follow, Heard]] = {}

    @property
    def wishes(self) -> Iterable[messages.Follow]:
        """What each worker is told when it is ready."""
        return [wish for wish, _ in self._followers.values()]

    def add(self, wish: messages.Follow, heard: Heard) -> None:
        """Have all workers, and later ones, report to a follower what begins and ends."""
        self._followers[wish.follower] = wish, heard
        self._tell(wish)

    def remove(self, follower: int) -> None:
        """End the reports to a follower."""
        if self._followers.pop(follower, None) is not None:
            self._tell(messages.Follow(follower, "", "", "", "off"))

    def happened(self, index: int, message: messages.Happened) -> None:
        """Pass on a worker's report; one for a follower that has left meanwhile is dropped."""
        if message.follower in self._followers:
            self._followers[message.follower][1](index, message.rows, message.lost)
