"""Where snapshots and events come from, as a dashboard and the commands see it."""

from collections.abc import Iterator
from typing import Any, Protocol

from proxy.status.schema import Status


class Source(Protocol):
    """Where snapshots come from; both methods block, and raise an error whose text says why there is none."""

    where: str
    writable: bool

    def status(self) -> Status:
        """Return the snapshot of now."""
        ...

    def events(self, last: int, since: float | None = None) -> list[dict[str, Any]]:
        """Return the last events, the oldest first; `since` in Unix seconds."""
        ...

    def stream(self, command: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the lines of the answer to another command."""
        ...
