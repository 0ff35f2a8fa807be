"""What a relay reports of connections, sessions and queries.  An observer has these methods; the relay knows no more of it."""

from typing import Any, Protocol


class EndObserver(Protocol):
    """Learns of each end: the connection log is one."""

    def connection(self, conn: Any) -> None:
        """A TCP connection is about to be closed."""

    def session(self, session: Any, cell: int) -> None:
        """A UDP session has ended; this counter of its service says why."""

    def query(self, service: Any, query: Any, cell: int) -> None:
        """A DNS query was answered with SERVFAIL of our own making; this counter of its service says why."""


class Observer(Protocol):
    """Learns of each beginning and end of connections and sessions: the followers of a worker are one."""

    def opened(self, item: Any) -> None:
        """A connection's backend is connected, or a session has begun."""

    def connection(self, conn: Any) -> None:
        """A TCP connection is about to be closed."""

    def session(self, session: Any, cell: int) -> None:
        """A UDP session has ended; this counter of its service says why."""
