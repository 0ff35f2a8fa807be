"""Where a snapshot and the timeline come from: the control socket of this host, or the URL of a daemon's web server."""

from typing import TYPE_CHECKING, Any, Final

from proxy.control.client import TIMEOUT, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.dashboard.source import Source
    from proxy.status.schema import Status

SCHEMES: Final = ("http://", "https://")


class SocketSource:
    """The control socket: everything may be asked, and commanded."""

    writable = True

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self.where = path
        self._timeout = timeout

    def status(self) -> "Status":
        """Return the snapshot of now."""
        with Client(self.where, self._timeout) as client:
            status: Status = client.request("status")["status"]
            return status

    def events(self, last: int, since: float | None = None) -> list[dict[str, Any]]:
        """Return the last events, the oldest first."""
        wanted: dict[str, Any] = {"last": last} if since is None else {"last": last, "since": since}
        with Client(self.where, self._timeout) as client:
            return [event for answer in client.stream("events", **wanted) for event in answer["events"]]

    def stream(self, command: str, **arguments: Any) -> "Iterator[dict[str, Any]]":
        """Yield the lines of the answer to another command."""
        with Client(self.where, self._timeout) as client:
            yield from client.stream(command, **arguments)


def is_url(text: str | None) -> bool:
    """Return True for what is to be asked over HTTP."""
    return text is not None and text.startswith(SCHEMES)


def source(where: str, timeout: float = TIMEOUT) -> "Source":
    """Return the source at a path or a URL; ValueError, in words, for a URL that is none."""
    if not is_url(where):
        return SocketSource(where, timeout)
    from proxy.cli.http_source import HttpSource  # its imports would slow down every command

    return HttpSource(where, timeout)
