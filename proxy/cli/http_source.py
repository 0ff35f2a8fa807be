"""The web server of a daemon as a source of snapshots and events."""

import http.client
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from proxy.control.client import ANSWER_MAX, TIMEOUT
from proxy.control.wire import ControlError, UnreachableError
from proxy.status.shape import shaped
from proxy.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.status.schema import Status

_CHUNK: Final = 256 * 1024


class HttpSource:
    """The web server of a daemon: it is only read, and nothing that it says is trusted to have the right shape."""

    writable = False

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        """Keep the URL of the server; ValueError, in words, for one that is none."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f'"{printable(url)[:80]}" is no URL of a server: write http://127.0.0.1:9600')
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("the URL of a server has no user, query or fragment: write http://127.0.0.1:9600")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._base = parts.path.rstrip("/").removesuffix("/status.json")
        if any(char <= " " or char > "~" for char in self._host + self._base):
            raise ValueError("a URL is written in ASCII, without spaces")
        self.where = printable(url)
        self._timeout = timeout

    def status(self) -> "Status":
        """Return the snapshot of now."""
        try:
            return shaped(self._get("/status.json"))
        except ValueError as error:
            raise ControlError(f"{self.where}: that is no status of Steelyard: {error}") from error

    def events(self, last: int, since: float | None = None) -> list[dict[str, Any]]:
        """Return the last events, the oldest first."""
        document = self._get(f"/events.json?n={last}" + ("" if since is None else f"&since={since}"))
        found = document.get("events") if isinstance(document, dict) else None
        if not isinstance(found, list):
            raise ControlError(f"{self.where}: those are no events of Steelyard")
        return [event for event in found if isinstance(event, dict)][-last:]

    def stream(self, command: str, **arguments: Any) -> "Iterator[dict[str, Any]]":
        """Refuse: over HTTP a daemon is only read."""
        del arguments
        raise ControlError(f"{command} needs the control socket: over HTTP the daemon is only read")

    def _get(self, path: str) -> Any:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        with self._blamed():
            connection = kind(self._host, self._port, timeout=self._timeout)
            try:
                connection.request("GET", self._base + path, headers={"Accept": "application/json"})
                response = connection.getresponse()
                body = self._read(response)
            finally:
                connection.close()
        if response.status != http.client.OK:
            raise ControlError(f"{self.where}{path}: answered {response.status} {printable(response.reason)[:80]}")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ControlError(f"{self.where}{path}: the answer is no JSON") from error

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """Return the body, which must end within the bounds of time and size."""
        ends, body = time.monotonic() + self._timeout, bytearray()
        while chunk := response.read1(_CHUNK):
            body += chunk
            if len(body) > ANSWER_MAX:
                raise ControlError(f"{self.where}: the answer does not end")
            if time.monotonic() > ends:
                raise TimeoutError
        return bytes(body)

    @contextmanager
    def _blamed(self) -> "Iterator[None]":
        """Turn what goes wrong on the way into words that say whose fault it is."""
        try:
            yield
        except TimeoutError as error:
            raise UnreachableError(f"{self.where}: no answer within {self._timeout:g} s") from error
        except http.client.HTTPException as error:
            raise UnreachableError(f"{self.where}: that is no web server: {type(error).__name__}") from error
        except (OSError, UnicodeError) as error:
            why = (getattr(error, "strerror", None) or str(error)).lower()
            raise UnreachableError(f"{self.where}: {printable(why)}: is the daemon running, with [web]?") from error
