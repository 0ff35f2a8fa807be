"""Serves the control socket: checks each client's rights, has a task for each, bounds every wait and every buffer.

A command takes effect only if its whole line has arrived, is a JSON object, names a known command, and comes from a user
with the right to give it. A client that stalls, floods or leaves harms only itself.
"""

import asyncio
import contextlib
import inspect
import json
import logging
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy.control import wire
from proxy.control.path import BACKLOG, admit, claim, peer_credentials, peer_groups
from proxy.control.wire import ControlError

CLIENTS_MAX: Final = 32
READERS_MAX: Final = 24
"""Of the clients, those that only the socket's group lets in: they cannot lock the administrator out."""
IDLE: Final = 30.0
"""Seconds that a client may take for its next whole line."""
WRITE: Final = 10.0
"""Seconds that a client may take to read its answer."""
PAUSE: Final = 1.0
"""Seconds without accepting when descriptors have run out."""
FAREWELL: Final = 2.0
"""Seconds that clients have for the rest of their answers when a successor has the socket."""
HANGUP: Final = 1.0
"""Seconds between looks at whether a client that sends nothing more still listens."""


@dataclass(frozen=True, slots=True)
class Handed:
    """An answer that has a socket with it, which is closed here when it is sent."""

    answer: Mapping[str, Any]
    socket: socket.socket


Result = Mapping[str, Any] | wire.Encoded | AsyncIterator[Mapping[str, Any]] | Handed
Handler = Callable[["Request"], Result | Awaitable[Result]]

log = logging.getLogger("steelyard.control")


@dataclass(frozen=True, slots=True)
class Request:
    """A command that was checked: `arguments` is the object that the client sent, the peer is as the kernel says."""

    command: str
    arguments: Mapping[str, Any]
    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class _Command:
    handler: Handler
    mutates: bool


@dataclass(frozen=True, slots=True)
class _Peer:
    pid: int
    uid: int
    commands: bool  # may change something
    reads: bool


class ControlServer:
    """The commands, and the clients that give them. Register first, `start` then.

    `idle` and `write` are in seconds; `gid` is the group that may read.
    """

    def __init__(self, path: Path | str, gid: int | None = None, *, idle: float = IDLE, write: float = WRITE) -> None:
        self.path = Path(path)
        self._gid = gid
        self._idle = idle
        self._write = write
        self._commands: dict[str, _Command] = {}
        self._clients: dict[asyncio.Task[None], _Peer] = {}
        self._listener: socket.socket | None = None
        self._inode: tuple[int, int] | None = None
        self._refusal: str | None = None
        self.refused = 0
        self._told_refusal = float("-inf")

    def register(self, name: str, handler: Handler, *, mutates: bool) -> None:
        """Answer the command `name` with what `handler` returns: an object, its JSON, or an async iterator of several.

        A handler that raises ControlError fails in its own words. `mutates` keeps the socket's group from it.
        """
        if name in self._commands:
            raise ValueError(f"the command {name} is registered already")
        self._commands[name] = _Command(handler, mutates)

    async def start(self, inherited: socket.socket | None = None) -> None:
        """Claim the path and answer from now on; ControlError where that cannot be.

        `inherited` is the socket on which a predecessor answered; it is used if it listens at this path.
        """
        if inherited is not None and inherited.getsockname() == os.fspath(self.path):
            admit(self.path, self._gid)
            inherited.setblocking(False)
            inherited.listen(BACKLOG)  # again: the kernel tells clients which process listens
            self._listener = inherited
        else:
            self._listener = claim(self.path, self._gid)
        status = self.path.lstat()
        self._inode = (status.st_dev, status.st_ino)
        self._listen()

    def regroup(self, gid: int | None) -> None:
        """Let another group read from now on, None: no group; clients that are connected stay.  Raises OSError."""
        self._gid = gid
        status = self.path.lstat()
        if (status.st_dev, status.st_ino) != self._inode:
            raise FileNotFoundError(f"{self.path} is not the daemon's socket any more")
        # Never open to a group that is not to read: the mode is narrow while the group changes.
        self.path.chmod(0o600)
        if gid is not None:
            os.chown(self.path, -1, gid, follow_symlinks=False)
            self.path.chmod(0o660)

    async def close(self) -> None:
        """Stop answering, let go of every client, and remove the socket if it is still ours."""
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        try:
            status = self.path.lstat()
            if (status.st_dev, status.st_ino) == self._inode:
                self.path.unlink()
        except OSError:
            pass  # it has been removed already
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    @property
    def listener(self) -> socket.socket | None:
        """The socket that clients connect to, None before `start`."""
        return self._listener

    def refuse_changes(self, why: str | None) -> None:
        """Refuse commands that change something, in these words; None: obey them again."""
        self._refusal = why

    def pause(self) -> None:
        """Accept no clients until `resume`: they wait for a successor.  Those that are here are answered."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)

    def resume(self) -> None:
        """Accept clients again."""
        if self._listener is not None:
            self._listener.listen(BACKLOG)
        self._listen()

    async def abandon(self) -> None:
        """Leave the path to a successor, let the clients that are here have their answers within a bound, and let them go."""
        if self._listener is None:
            return
        self.pause()
        self._listener.close()
        self._listener = None
        clients = list(self._clients)
        if clients:
            await asyncio.wait(clients, timeout=FAREWELL)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._clients)

    # Accepting is done here and not by asyncio.start_unix_server: the caps hold before anything is built for a client,
    # and asyncio loses a connection that it accepted in the instant in which the server closed.

    def _listen(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        if self._listener is None:
            return
        for _ in range(CLIENTS_MAX):  # then it is the others' turn
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("control clients wait for %g s: %s", PAUSE, error.strerror)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener)
                loop.call_later(PAUSE, self._listen)
                return
            connection.setblocking(False)
            self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        peer = self._identify(connection)
        if not peer.reads:
            self._turn_away(connection, f"uid {peer.uid} may not use this socket", wire.PERMISSION)
        elif len(self._clients) >= CLIENTS_MAX or (not peer.commands and self._readers() >= READERS_MAX):
            self._turn_away(connection, "too many clients: try again", wire.BUSY)
        else:
            task = asyncio.get_running_loop().create_task(self._serve(peer, connection), name="control client")
            self._clients[task] = peer
            task.add_done_callback(lambda done: self._forget(done, connection))

    def _forget(self, client: asyncio.Task[None], connection: socket.socket) -> None:
        # Not in the task: one that is cancelled before its first step runs no `finally`.
        self._clients.pop(client, None)
        connection.close()

    def _readers(self) -> int:
        return sum(not peer.commands for peer in self._clients.values())

    def _identify(self, connection: socket.socket) -> _Peer:
        pid, uid, gid = peer_credentials(connection)
        trusted = uid in {0, os.geteuid()}
        member = self._gid is not None and (gid == self._gid or self._gid in peer_groups(connection))
        return _Peer(pid, uid, trusted, trusted or member)

    def _turn_away(self, connection: socket.socket, why: str, code: str) -> None:
        self.refused += 1
        now = time.monotonic()
        if now - self._told_refusal >= 1.0:  # one line a second, however many knock
            self._told_refusal = now
            log.warning("control client refused: %s", why)
        with connection, contextlib.suppress(OSError):
            connection.send(_encode(_failure(why, code)))

    async def _serve(self, peer: _Peer, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=wire.LINE_MAX)
        try:
            writer.transport.set_write_buffer_limits(high=wire.LINE_MAX)
            while (line := await self._line(reader, writer)) is not None:
                if not await self._obey(line, peer, reader, writer):
                    break
            writer.close()
            async with asyncio.timeout(self._write):
                await writer.wait_closed()
        except (_ClientGoneError, OSError, TimeoutError):
            pass  # the client's own affair: gone, or not reading
        finally:
            writer.transport.abort()

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """Return the next whole line; None when there will be none."""
        try:
            async with asyncio.timeout(self._idle):
                return await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return None  # a line without its end is no command
        except TimeoutError:
            await self._send(writer, _failure(f"no command within {self._idle:g} s", wire.BAD_REQUEST))
            return None
        except asyncio.LimitOverrunError:
            await self._send(writer, _failure(f"the line is longer than {wire.LINE_MAX} bytes", wire.BAD_REQUEST))
            return None

    async def _obey(self, line: bytes, peer: _Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one line; say whether the client may send another: not after an answer of several lines."""
        try:
            result = self._handle(line, peer)
            if inspect.isawaitable(result):
                result = await result
            if isinstance(result, wire.Encoded):
                await self._write_out(writer, b'{"ok": true, ', result, b"}\n")
            elif isinstance(result, Handed):
                self._hand_over(writer, result)
            elif isinstance(result, Mapping):
                await self._send(writer, {"ok": True, **result})
            else:
                await self._stream(result, reader, writer)
                return False
        except ControlError as error:
            await self._send(writer, {**error.details, **_failure(str(error), error.code)})
        except _ClientGoneError:
            raise
        except Exception:
            log.exception("internal error in a control command")
            await self._send(writer, _failure("an internal error: the daemon's log has it", wire.INTERNAL))
        return True

    def _handle(self, line: bytes, peer: _Peer) -> Result | Awaitable[Result]:
        try:
            arguments = json.loads(line)
        except (ValueError, RecursionError):
            raise ControlError("the line is no JSON", wire.BAD_REQUEST) from None
        if not isinstance(arguments, dict) or not isinstance(name := arguments.get("command"), str):
            raise ControlError('the line is no object with a "command"', wire.BAD_REQUEST)
        command = self._commands.get(name)
        if command is None:
            raise ControlError(f"unknown command {name[:40]!r}", wire.UNKNOWN_COMMAND)
        if command.mutates and not peer.commands:
            raise ControlError(f"uid {peer.uid} may only read: this command changes something", wire.PERMISSION)
        if command.mutates and self._refusal is not None:
            raise ControlError(self._refusal, wire.BUSY)
        return command.handler(Request(name, arguments, peer.pid, peer.uid))

    async def _stream(
        self, lines: AsyncIterator[Mapping[str, Any]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send each line as it comes, until there is no more or the client is gone, which is noticed in silence too."""
        gone = asyncio.ensure_future(_departure(reader, writer.get_extra_info("socket")))
        coming: asyncio.Future[Mapping[str, Any] | None] | None = None
        try:
            while True:
                coming = asyncio.ensure_future(anext(lines, None))
                await asyncio.wait({gone, coming}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    raise _ClientGoneError
                line = coming.result()
                if line is None:
                    return
                await self._send(writer, {"ok": True, **line})
        finally:
            waits: list[asyncio.Future[Any]] = [gone] if coming is None else [gone, coming]
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            close = getattr(lines, "aclose", None)  # a generator lets go of what it holds
            if close is not None:
                await close()

    def _hand_over(self, writer: asyncio.StreamWriter, handed: Handed) -> None:
        """Send a short answer and a socket; asyncio's streams know no descriptors, and nothing waits in this one."""
        fd = os.dup(writer.get_extra_info("socket").fileno())
        with handed.socket, socket.socket(fileno=fd) as connection:
            try:
                socket.send_fds(connection, [_encode({"ok": True, **handed.answer})], [handed.socket.fileno()])
            except OSError as error:
                raise _ClientGoneError from error

    async def _send(self, writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
        await self._write_out(writer, _encode(answer))

    async def _write_out(self, writer: asyncio.StreamWriter, *parts: bytes) -> None:
        try:
            for part in parts:
                writer.write(part)
            async with asyncio.timeout(self._write):
                await writer.drain()
        except (OSError, TimeoutError) as error:
            raise _ClientGoneError from error


class _ClientGoneError(Exception):
    """The client left, or does not read."""


async def _departure(reader: asyncio.StreamReader, connection: Any) -> None:
    """Return when the client is gone altogether; one that only said that it will send nothing more still listens."""
    while await reader.read(4096):
        pass
    hangup = select.poll()
    hangup.register(connection.fileno(), 0)
    while not hangup.poll(0):  # noqa: ASYNC110 - the kernel tells nobody who does not read
        await asyncio.sleep(HANGUP)


def _failure(error: str, code: str) -> dict[str, Any]:
    return {"ok": False, "error": error, "code": code}


def _encode(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer, default=str).encode() + b"\n"
