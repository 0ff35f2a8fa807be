"""Servers that behave badly, for each protocol to meet, and scripted ones that behave well up to a step."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Talk = Callable[[Reader, Writer], Awaitable[None]]


async def mute(reader: Reader, writer: Writer) -> None:
    """Say nothing."""
    await reader.read(-1)


async def endless_lines(reader: Reader, writer: Writer) -> None:
    """Say lines without end, of a form that each line protocol takes for "more is to come"."""
    while True:
        writer.write(b"220-and so on\r\n* OK still here\r\n" * 1000)
        await writer.drain()


async def endless_line(reader: Reader, writer: Writer) -> None:
    """Say one line without end: what a length of 16 MB announces."""
    while True:
        writer.write(b"+OK " * 5000)
        await writer.drain()


async def empty_lines(reader: Reader, writer: Writer) -> None:
    """Say the shortest lines without end."""
    while True:
        writer.write(b"\r\n" * 5000)
        await writer.drain()


async def trickle(reader: Reader, writer: Writer) -> None:
    """Say one byte at a time."""
    while True:
        writer.write(b"2")
        await writer.drain()
        await asyncio.sleep(0.02)


async def garbage(reader: Reader, writer: Writer) -> None:
    """Say every byte."""
    writer.write(bytes(range(256)) + b"\r\n")
    await reader.read(-1)


async def tls_garbage(reader: Reader, writer: Writer) -> None:
    """Say what begins as a TLS record of 16 KiB and goes on as nonsense."""
    writer.write(b"\x16\x03\x03\x40\x00" + b"\xff" * 20000)
    await reader.read(-1)


async def tls_alert(reader: Reader, writer: Writer) -> None:
    """Refuse TLS by a fatal alert, handshake_failure."""
    writer.write(b"\x15\x03\x03\x00\x02\x02\x28")
    await reader.read(-1)


async def ssh(reader: Reader, writer: Writer) -> None:
    """Speak another protocol."""
    writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    await reader.read(-1)


async def hang_up(reader: Reader, writer: Writer) -> None:
    """Close."""
    writer.close()


async def half(reader: Reader, writer: Writer) -> None:
    """Close within a word."""
    writer.write(b"2")
    writer.close()


async def reset(reader: Reader, writer: Writer) -> None:
    """Reset the connection."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


HOSTILE: tuple[Talk, ...] = (
    mute, endless_lines, endless_line, empty_lines, trickle, garbage, tls_garbage, tls_alert, ssh, hang_up, half, reset,
)  # fmt: skip


def scripted(
    replies: Sequence[bytes], then: Talk = mute, *, heard: list[bytes] | None = None, wait: bool = True
) -> Talk:
    """Return a server that says the first reply at once, each further one after a line of the client, and then `then`.

    Without `wait` it says all replies after the client's first empty line.
    """

    async def talk(reader: Reader, writer: Writer) -> None:
        if not wait:
            await reader.readuntil(b"\r\n\r\n")
        for number, reply in enumerate(replies):
            if number and wait:
                line = await reader.readline()
                if heard is not None:
                    heard.append(line)
            writer.write(reply)
            await writer.drain()
        if wait and replies:
            heard.append(await reader.readline()) if heard is not None else await reader.readline()
        await then(reader, writer)

    return talk


def in_tls(context: ssl.SSLContext, talk: Talk, *, after: Sequence[bytes] = ()) -> Talk:
    """Return a server that starts TLS, after the replies in clear text of `after`, and goes on as `talk`."""

    async def secure(reader: Reader, writer: Writer) -> None:
        for number, reply in enumerate(after):
            if number:
                await reader.readline()
            writer.write(reply)
            await writer.drain()
        await writer.start_tls(context)
        await talk(reader, writer)

    return secure
