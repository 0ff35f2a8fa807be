"""What a daemon begins with instead of nothing: the state and the descriptors of the one before it."""

import os
import socket
from typing import Any

from proxy.herald.listeners import Place, adopted
from proxy.succession.document import State
from proxy.workers.listeners import Adopted


class Legacy:
    """Owns the descriptors, by name, until they are taken."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}
        self._state: State | None = None

    @property
    def state(self) -> State:
        """The state, once it has been received."""
        assert self._state is not None  # noqa: S101 - for the type checker: nobody asks earlier
        return self._state

    def take(self, name: str) -> int:
        """Return a descriptor, which the caller owns from now on; -1 if there is none of this name."""
        return self._descriptors.pop(name, -1)

    def listeners(self) -> Adopted:
        """Return the listeners, whose sockets the caller owns from now on.  A group with a gap is left out."""
        found = {}
        for row in self.state.listeners:
            fds = [self.take(f"listener-{row.number}-{index}") for index in range(row.members)]
            if -1 in fds:
                for fd in fds:
                    if fd >= 0:
                        os.close(fd)
                continue
            group = [socket.socket(fileno=fd) for fd in fds]
            for sock in group:
                sock.setblocking(False)
            found[row.transport, row.address, row.port] = row.number, group
        return found

    def herald(self) -> dict[Place, socket.socket]:
        """Return the listening sockets of the herald process, which the caller owns from now on."""
        rows = [Place(row.use, row.address, row.port) for row in self.state.herald]
        return adopted([(place, self.take(f"herald-{number}")) for number, place in enumerate(rows)])

    def keep(self, names: list[Any], fds: list[int]) -> None:
        """Own descriptors; of two with one name the later one is kept."""
        for name, fd in zip(map(str, names), fds, strict=True):
            before = self._descriptors.get(name)
            if before is not None:
                os.close(before)
            self._descriptors[name] = fd

    def drop(self) -> None:
        """Close what was not taken."""
        for fd in self._descriptors.values():
            os.close(fd)
        self._descriptors.clear()
