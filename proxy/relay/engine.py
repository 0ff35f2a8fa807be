"""The interface of an engine: all that a worker process asks of its data plane.

`python_engine.PythonEngine` implements it, on the native modules.
"""

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from proxy.relay.observe.follow import Tell
from proxy.relay.observe.listing import Row
from proxy.relay.observe.wanted import Wanted
from proxy.relay.plan import LogPlan, Member, ServicePlan
from proxy.stats.table import Table

Want = Callable[[int, int, int], None]
"""Asks the master for transparent sockets: (family, type, count). They arrive by `Engine.prepared`."""

HandOn = Callable[[list[list[Any]], list[int], bool], bool]
"""Called with rows of UDP sessions (`udp.handover`), as many descriptors, and whether they are the last ones.

It returns False if it cannot take them yet.
"""


class Engine(Protocol):
    """The data plane as its worker sees it."""

    def listen(self, member: Member, sock: socket.socket) -> None:
        """Poll a member's socket. The engine owns it from now on."""

    def unlisten(self, listener: int, index: int, drain: bool = False) -> None:
        """Stop polling a member. Clients already taken from it are still served; then the socket is closed.

        With `drain` the listener goes for good: clients that are queued in it are served first.
        """

    def apply(self, changes: Sequence[tuple[int, int, str, str]]) -> None:
        """Apply verdicts and admin states: (service slot, backend slot, verdict, admin)."""

    def change(
        self,
        services: Sequence[ServicePlan],
        gone: Sequence[tuple[int, float]],
        generation: int,
        confirm: Callable[[int], None],
    ) -> None:
        """Add these services, or change those that are there, whole; let the `gone` ones, (slot, seconds), finish.

        What is open goes on; new backends are `unknown`.  `confirm(generation)` is called when nothing is used any more
        that is not in this generation; only the newest generation is confirmed.
        """

    def settings(self, max_connections: int, log: LogPlan) -> None:
        """Use another limit on connections, and another connection log; a new file of it comes by `log_to`."""

    def weigh(self, changes: Sequence[tuple[int, int, int]]) -> None:
        """Apply weights: (service slot, backend slot, weight)."""

    def siblings(self, tables: Iterable[Table]) -> None:
        """Add up the counters of the other workers from these columns. The engine owns them from now on."""

    def log_to(self, fd: int) -> None:
        """Write the connection log to this file from now on. The engine owns the descriptor."""

    def replay(self, fd: int) -> int:
        """Send the queries in a dead worker's journal again; return how many there were."""

    def prepared(self, family: int, kind: int, asked: int, socks: Sequence[socket.socket]) -> None:
        """Take the transparent sockets that the master made, of `asked` ones. The engine owns them from now on."""

    def browse(self, listing: int, wanted: Wanted | None, *, reset: bool) -> tuple[list[Row], int, bool]:
        """Show or reset a portion of the open connections and sessions: (rows, how many, whether there are more)."""

    def follow(self, number: int, wanted: Wanted | None, tell: Tell) -> None:
        """Report connections and sessions that begin or end from now on; None as `wanted` stops that."""

    def foretell(self, service: str, host: str, port: int, name: str) -> dict[str, Any]:
        """Return the backend that this client would get; empty if this worker polls no listener of the service."""

    def drain(self) -> None:
        """Serve the clients that are queued already, and none after them."""

    def hand_over(self, tell: HandOn) -> None:
        """Stop polling at once: a successor serves the clients that are queued, and gets the UDP sessions by `tell`."""

    def adopt(self, rows: Sequence[list[Any]], fds: Sequence[int]) -> int:
        """Continue UDP sessions that a predecessor handed over; return how many cannot go on.

        The engine owns the descriptors from now on.
        """

    @property
    def idle(self) -> bool:
        """Return True if no connection is open and no query waits for an answer."""

    def close(self) -> None:
        """End all connections, sessions and queries."""
