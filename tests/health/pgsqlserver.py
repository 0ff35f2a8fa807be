"""Messages of a PostgreSQL server, byte by byte (its documentation, "Message Formats"), and scripted servers of them."""

import asyncio
from collections.abc import Sequence

from tests.health.hostile import Reader, Talk, Writer


def message(kind: str, body: bytes = b"") -> bytes:
    """Return one message."""
    return kind.encode() + (4 + len(body)).to_bytes(4, "big") + body


def number(value: int, size: int = 4) -> bytes:
    """Return an integer of `size` octets."""
    return value.to_bytes(size, "big", signed=True)


def error(code: str, text: str, severity: str = "FATAL") -> bytes:
    """Return an ErrorResponse."""
    fields = {"S": severity, "V": severity, "C": code, "M": text}
    return message("E", b"".join(key.encode() + value.encode() + b"\0" for key, value in fields.items()) + b"\0")


def row_description(*names: str) -> bytes:
    """Return a RowDescription of columns of type text."""
    columns = b"".join(
        name.encode() + b"\0" + number(0) + number(0, 2) + number(25) + number(-1, 2) + number(-1) + number(0, 2)
        for name in names
    )
    return message("T", number(len(names), 2) + columns)


def data_row(*values: str | None) -> bytes:
    """Return a DataRow."""
    cells = [number(-1) if value is None else number(len(value)) + value.encode() for value in values]
    return message("D", number(len(values), 2) + b"".join(cells))


OK = message("R", number(0))
CLEAR = message("R", number(3))
SASL = message("R", number(10) + b"SCRAM-SHA-256\0\0")
VERSION = message("S", b"server_version\x0015.4\0")
KEY = message("K", number(1) + number(2))
READY = message("Z", b"I")
LOGGED_IN = OK + VERSION + KEY + READY
PREPARED = message("1") + message("t", number(0, 2)) + row_description("a", "b", "c", "d")
DONE = message("C", b"SELECT 1\0") + READY
PRIMARY = message("2") + data_row("false", "false", None, None) + DONE


def scripted(*replies: bytes) -> Talk:
    """Return a server that gives one reply to each message group of the client, and then closes after the last."""

    async def talk(reader: Reader, writer: Writer) -> None:
        for reply in replies:
            await reader.read(65536)
            writer.write(reply)
            await writer.drain()
        writer.write_eof()
        await reader.read(65536)

    return talk


def at_once(pieces: Sequence[bytes]) -> Talk:
    """Return a server that says everything at once."""

    async def talk(reader: Reader, writer: Writer) -> None:
        for piece in pieces:
            writer.write(piece)
        writer.write_eof()
        await asyncio.wait_for(reader.read(-1), 5)

    return talk
