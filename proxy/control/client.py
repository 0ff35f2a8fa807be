"""Asks a running daemon through its control socket; synchronous, for commands that a person types."""

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any, Final, Self

from proxy.control.wire import (
    BAD_CONFIG,
    LINE_MAX,
    PERMISSION,
    UNKNOWN_NAME,
    BadConfigError,
    ControlError,
    PermissionDeniedError,
    UnknownNameError,
    UnreachableError,
)

TIMEOUT: Final = 10.0
"""Seconds that a daemon may take to accept, and to answer."""

ANSWER_MAX: Final = 64 * 1024 * 1024
_CHUNK: Final = 256 * 1024


class Client:
    """One connection to the daemon at `path`.

    Raises UnreachableError if no daemon answers in time, PermissionDeniedError, and ControlError with the daemon's
    own words where the command failed.
    """

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # While the daemon's queue is full a non-blocking connect fails at once; a blocking one waits this long.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
            self._socket.connect(path)
            self._socket.settimeout(timeout)
        except PermissionError as error:
            self.close()
            raise PermissionDeniedError(
                f"{path}: permission denied: run this as root or as a member of the socket's group"
            ) from error
        except (TimeoutError, BlockingIOError) as error:
            self.close()
            raise UnreachableError(
                f"{path}: the daemon accepts no connection: it is stuck or has too many clients"
            ) from error
        except OSError as error:
            self.close()
            raise UnreachableError(f"{path}: {_why(error)}: is the daemon running?") from error

    def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Return the daemon's answer to one command."""
        self._send(command, arguments)
        return self._answer()

    def stream(self, command: str, *, endless: bool = False, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the lines of a long answer; an `endless` one may be silent for as long as nothing happens."""
        self._send(command, arguments)
        while True:
            answer = self._answer()
            yield answer
            if not answer.get("more"):
                return
            if endless:
                self._socket.settimeout(None)

    def close(self) -> None:
        """Close the connection; harmless when done twice."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, command: str, arguments: dict[str, Any]) -> None:
        line = json.dumps({"command": command, **arguments}).encode() + b"\n"
        if len(line) > LINE_MAX:
            raise ControlError(f"the command is {len(line)} bytes long, {LINE_MAX} at most are taken")
        try:
            self._socket.settimeout(self._timeout)
            self._socket.sendall(line)
        except OSError as error:
            # A daemon that had no room for us said so before it closed.
            if isinstance(error, BrokenPipeError | ConnectionResetError):
                self._answer()
            raise UnreachableError(f"{self.path}: the daemon went away: {_why(error)}") from error

    def _answer(self) -> dict[str, Any]:
        try:
            answer = json.loads(self._line())
        except ValueError as error:
            raise ControlError(f"{self.path}: the answer is no JSON: is this a control socket?") from error
        if not isinstance(answer, dict):
            raise ControlError(f"{self.path}: the answer is no object: is this a control socket?")
        if answer.get("ok") is True:
            return answer
        message, code = str(answer.pop("error", "failed without a word")), str(answer.pop("code", ""))
        kind = {PERMISSION: PermissionDeniedError, UNKNOWN_NAME: UnknownNameError, BAD_CONFIG: BadConfigError}.get(
            code, ControlError
        )
        raise kind(message, code, **{key: value for key, value in answer.items() if key != "ok"})

    def _line(self) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > ANSWER_MAX:
                raise ControlError(f"{self.path}: the answer does not end")
            try:
                chunk = self._socket.recv(_CHUNK)
            except TimeoutError as error:
                raise UnreachableError(f"{self.path}: no answer within {self._timeout:g} s") from error
            except OSError as error:
                raise UnreachableError(f"{self.path}: the daemon went away: {_why(error)}") from error
            if not chunk:
                raise UnreachableError(f"{self.path}: the daemon closed the connection")
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("ll", whole, int((seconds - whole) * 1_000_000))  # 0 would wait for ever


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
