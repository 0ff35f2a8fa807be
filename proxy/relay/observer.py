"""The interfaces by which the relay reports connections, sessions and queries to an observer."""

from typing import Any, Protocol


class EndObserver(Protocol):
    """Is called at each end; the connection log is such an observer."""

    def connection(self, conn: Any) -> None:
        """A TCP connection is about to be closed."""

    def session(self, session: Any, cell: int) -> None:
        """A UDP session has ended; this counter of its service says why."""

    def query(self, service: Any, query: Any, cell: int) -> None:
        """A DNS query was answered with the relay's own SERVFAIL; this counter of its service says why."""


class Observer(Protocol):
    """Is called at each beginning and end of connections and sessions; a worker's followers are such an observer."""

    def opened(self, item: Any) -> None:
        """A connection's backend is connected, or a session has begun."""

    def connection(self, conn: Any) -> None:
        """A TCP connection is about to be closed."""

    def session(self, session: Any, cell: int) -> None:
        """A UDP session has ended; this counter of its service says why."""
