"""A Redis session of one probe: redis-py's parser over the sockets, the deadline and the bounds of an `Attempt`.

redis-py opens no connection here, so that a cancelled run leaves none open.  Its parser (RESP2) reads through `_Stream`,
which refuses lines and lengths that no wanted answer has: the parser would follow a negative length backwards, and a
length of a gigabyte to its end (H4).
"""

import socket
from typing import Any, Final

from redis._parsers import Encoder, _AsyncRESP2Parser
from redis.connection import PythonRespSerializer

from health.probes.base import Attempt, Failed, excerpt

_LINE: Final = 1024  # octets of a line: no wanted answer has a longer one
_BULK: Final = 16384  # octets of a string: INFO replication of a primary with a hundred replicas
_ITEMS: Final = 64  # of an array
_CHUNK: Final = 4096  # octets a read
_MASK: Final = "****"
_KINDS: Final = frozenset(b"+-:$*")
_Encoder: Final[Any] = Encoder  # redis-py's classes have no types here
_END: Final = b"\r\n"
_NONE: Final = -1  # the length of a null


class ServerError(Exception):
    """An error from the server: its text, which begins with a word in capitals and may contain anything."""

    @property
    def code(self) -> str:
        """The first word: "NOAUTH"."""
        return str(self).partition(" ")[0]


class _Parser(_AsyncRESP2Parser):
    """redis-py's parser, which gives errors as the server wrote them."""

    @classmethod
    def parse_error(cls, response: str) -> ServerError:
        """Return an error of the server."""
        return ServerError(response)


class _Stream:
    """Gives the parser lines and strings of a bounded size."""

    def __init__(self, attempt: Attempt, connected: socket.SocketType) -> None:
        self._attempt = attempt
        self._wire = connected
        self._buffer = bytearray()

    async def readline(self) -> bytes:
        """Return one line with its end; raises `Failed` if it is none that an answer begins with."""
        while (end := self._buffer.find(_END)) < 0:
            self._checked(self._buffer)
            await self._more()
        line = bytes(self._buffer[: end + len(_END)])
        self._checked(line)
        del self._buffer[: len(line)]
        if line[:1] in {b"$", b"*"}:
            most, what = (_BULK, "string") if line[:1] == b"$" else (_ITEMS, "list")
            try:
                size = int(line[1:-2])
            except ValueError:
                raise Failed(f"malformed answer {excerpt(line)}") from None
            if not _NONE <= size <= most:
                raise Failed(f"announced a {what} of {size}, which no wanted answer has")
        return line

    async def readexactly(self, size: int) -> bytes:
        """Return `size` octets."""
        while len(self._buffer) < size:
            self._attempt.aside = f", only {len(self._buffer)} of {size} bytes"
            await self._more()
        self._attempt.aside = ""
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _checked(self, line: bytes | bytearray) -> None:
        if line and line[0] not in _KINDS:
            raise Failed(f"not Redis: answered {excerpt(line)}")
        if len(line) > _LINE:
            raise Failed(f"sent a line of more than {_LINE} bytes")

    async def _more(self) -> None:
        data = await self._attempt.receive(self._wire, _CHUNK)
        if not data:
            raise Failed(f"closed by the server{f' after {excerpt(self._buffer)}' if self._buffer else ''}")
        self._buffer += data


class _Plain:
    """What redis-py's parser takes for its connection."""

    def __init__(self, reader: _Stream, encoder: Any) -> None:
        self._reader = reader
        self.encoder = encoder


class Session:
    """One run on a fresh connection: `call` as often as needed, then `leave`."""

    def __init__(self, attempt: Attempt, connected: socket.SocketType, password: str = "") -> None:
        """Prepare a session on the socket `connected`; `password` shows as "****" if the server repeats it."""
        self._attempt = attempt
        self._wire = connected
        self._password = password
        encoder: Any = _Encoder(encoding="utf-8", encoding_errors="surrogateescape", decode_responses=True)
        self._serializer: Any = PythonRespSerializer(_CHUNK, encoder.encode)
        parser: Any = _Parser(socket_read_size=_CHUNK)
        parser.on_connect(_Plain(_Stream(attempt, connected), encoder))
        self._parser = parser

    async def call(self, *words: str, shown: str = "") -> Any:
        """Return the answer to a command, as text, number or list; raises `Failed` or `ServerError`.

        `shown` is the command's text in the transcript, if it contains a secret.
        """
        attempt = self._attempt
        text = shown or " ".join(words)
        attempt.sent(text)
        attempt.missing = f"no answer to {words[0]}"
        await attempt.send(self._wire, b"".join(self._serializer.pack(*words)))
        try:
            answer = await self._parser.read_response()
        except Failed:
            raise
        except Exception as error:  # hostile bytes can make it raise any exception
            raise Failed(f"malformed answer ({type(error).__name__})") from None
        if isinstance(answer, ServerError):
            attempt.got(f"{self.shown(str(answer))}, {attempt.took}")
            raise answer
        attempt.got(f"{self.shown(answer) if isinstance(answer, str) else type(answer).__name__}, {attempt.took}")
        return answer

    def shown(self, text: str) -> str:
        """Return the start of a server's text, without the password."""
        masked = text.replace(self._password, _MASK) if self._password else text
        return excerpt(masked.encode("utf-8", "surrogateescape"))

    def leave(self) -> None:
        """Hang up without waiting: Redis has no word for it that a server would need."""
        self._attempt.hang_up(self._wire)
