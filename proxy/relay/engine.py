"""The interface of an engine: what a worker process tells its data plane, and nothing more.

`python_engine.PythonEngine` is one; a native engine has the same methods and takes the same values.
"""

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from proxy.relay.observe.follow import Tell
from proxy.relay.observe.listing import Row
from proxy.relay.observe.wanted import Wanted
from proxy.relay.plan import Member, ServicePlan
from proxy.stats.table import Table

Want = Callable[[int, int, int], None]
"""Called with (family, type, count) when transparent sockets are wanted; `Engine.prepared` is the answer."""


class Engine(Protocol):
    """What a worker asks of its data plane."""

    def listen(self, member: Member, sock: socket.socket) -> None:
        """Poll a member's socket, which is the engine's from now on."""

    def unlisten(self, listener: int, index: int) -> None:
        """Poll it no more; what was taken from it is still served, and then the socket is closed."""

    def apply(self, changes: Sequence[tuple[int, int, str, str]]) -> None:
        """Take over verdicts: (service slot, backend slot, verdict, admin)."""

    def relist(self, plan: ServicePlan, generation: int) -> None:
        """Serve a service with other backends from now on: what stays keeps all it has, what is new is unknown yet."""

    def weigh(self, changes: Sequence[tuple[int, int, int]]) -> None:
        """Take over weights: (service slot, backend slot, weight)."""

    def siblings(self, tables: Iterable[Table]) -> None:
        """Count with these columns of the other workers; they are the engine's from now on."""

    def log_to(self, fd: int) -> None:
        """Write the connection log to this file from now on; it is the engine's."""

    def replay(self, fd: int) -> int:
        """Ask again what a dead worker's journal holds; how many queries that were."""

    def prepared(self, family: int, kind: int, asked: int, socks: Sequence[socket.socket]) -> None:
        """Take over the transparent sockets that came for `asked` of them; they are the engine's from now on."""

    def browse(self, listing: int, wanted: Wanted | None, *, reset: bool) -> tuple[list[Row], int, bool]:
        """Show or reset a portion of what is open: (rows, how many, whether there are more)."""

    def follow(self, number: int, wanted: Wanted | None, tell: Tell) -> None:
        """Tell what begins and ends from now on; None ends that."""

    def foretell(self, service: str, host: str, port: int, name: str) -> dict[str, Any]:
        """Which backend this client of a service would get; empty where no listener of it is polled here."""

    def drain(self) -> None:
        """Take what is queued already, and nothing after it."""

    @property
    def idle(self) -> bool:
        """Whether nothing is open that could still end by itself."""

    def close(self) -> None:
        """End everything."""
