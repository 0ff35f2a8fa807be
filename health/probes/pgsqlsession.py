"""A PostgreSQL session of one probe: asyncpg's protocol over the sockets, the deadline and the bounds of an `Attempt`.

asyncpg implements the protocol below its connections and its pool: a class that takes in bytes and writes to a transport.
This module is that transport.  It passes on only whole messages of a known size, so that a server that announces a
gigabyte, or that never ends, costs no more than the bound of a run (H4).  asyncpg opens no connection, so that a cancelled
run leaves none open.

A password leaves this host in clear only inside verified TLS (S9).  Otherwise the server must ask for SCRAM or MD5, which
prove that we know the password but do not reveal it.  A server chooses the rounds of SCRAM, and they cost our time: more
than `SCRAM_ROUNDS` are not computed (H5).
"""

import asyncio
import re
import socket
import struct
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

import asyncpg
from asyncpg.connect_utils import SSLMode, SSLNegotiation, _ConnectionParameters
from asyncpg.protocol import Protocol, Record
from asyncpg.protocol.protocol import BUILTIN_TYPE_OID_MAP, NO_TIMEOUT

from health.probes.base import Attempt, Failed, OurFault, excerpt
from health.probes.words import counted
from health.spec import PgsqlProbe

SCRAM_ROUNDS: Final = 100_000  # about 50 ms of this process; PostgreSQL's default is 4096
_MESSAGE_LIMIT: Final = 16384  # octets of a message: no wanted answer is longer
_CHUNK: Final = 4096  # octets a read
_STATEMENT: Final = 100  # characters of a statement that a transcript shows at most
_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)  # PostgreSQL's documentation, "Message Formats", SSLRequest
_TERMINATE: Final = b"X\0\0\0\4"
_FIRST: Final = frozenset(b"REN")  # the first message of a server: authentication, error, notice
_HEADER: Final = 5  # octets: the kind, and the length, which counts itself
_LENGTH: Final = 4
_AUTHENTICATION: Final = ord("R")
_SASL_CONTINUE: Final = 11
_ROUNDS: Final = re.compile(rb",i=([0-9]{1,20})")
_LETTERS: Final = frozenset(range(0x20, 0x7F))

_Result = TypeVar("_Result")


class ServerError(Exception):
    """An error from the server: its SQLSTATE (five characters) and its text, which may contain anything."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class _Transport:
    """What asyncpg takes for a connection: keeps what it writes until the session sends it."""

    def __init__(self, clear: bytes | None) -> None:
        """Refuse to send the message `clear`, which contains the password; None: everything may be sent."""
        self.outgoing = bytearray()
        self.refused = False
        self._clear = clear

    def write(self, data: Any) -> None:
        """Take in what asyncpg sends."""
        octets = bytes(data)
        if octets == self._clear:
            self.refused = True
        else:
            self.outgoing += octets

    def writelines(self, buffers: Iterable[Any]) -> None:
        """Take in several buffers."""
        for data in buffers:
            self.write(data)

    def get_extra_info(self, _name: str) -> None:
        """Return nothing: there is no socket for asyncpg."""

    def abort(self) -> None:
        """Do nothing: the attempt closes its sockets."""


class Session:
    """One run on a fresh connection: `login`, then `rows` as often as needed, then `quit`."""

    def __init__(self, attempt: Attempt, connected: socket.SocketType, spec: PgsqlProbe, password: str) -> None:
        """Prepare a session on the socket `connected`; it sends nothing before `login`."""
        self._attempt = attempt
        self._wire = connected
        self._spec = spec
        self._password = password
        self._incoming = bytearray()
        self._greeted = False
        proved = spec.tls != "off" and spec.tls_verify
        secret = password.encode() + b"\0"
        clear = None if proved or not password else b"p" + struct.pack("!I", _LENGTH + len(secret)) + secret
        self._transport = _Transport(clear)

    async def login(self) -> None:
        """Log in, with TLS if configured; raises `Failed`, `OurFault` or `ServerError`."""
        attempt, spec = self._attempt, self._spec
        if spec.tls != "off":
            await self._start_tls()
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[Any] = loop.create_future()
        parameters = _ConnectionParameters(
            user=spec.user,
            password=self._password,
            database=spec.database or spec.user,
            ssl=None,
            sslmode=SSLMode.disable,
            ssl_negotiation=SSLNegotiation.postgres,
            server_settings={"application_name": "steelyard"},
            target_session_attrs="any",
            krbsrvname=None,
            gsslib="gssapi",
        )
        self._protocol: Any = Protocol((attempt.address, attempt.port), ready, parameters, Record, loop)
        secret = "with a password ****" if self._password else "without a password"
        attempt.sent(f"login as {excerpt(spec.user.encode())} {secret}")
        attempt.missing = "no answer to the login"
        self._protocol.connection_made(self._transport)
        await self._await(ready)
        _result(ready)
        version = getattr(self._protocol.get_settings(), "server_version", "a server without a version")
        attempt.got(f"logged in to {excerpt(str(version).encode())}, {attempt.took}")

    async def rows(self, sql: str, most: int = 1) -> list[list[str | None]]:
        """Return the first `most` rows of one statement, each value as the server writes it; None is NULL.

        Raises `Failed`, `OurFault` or `ServerError`.
        """
        attempt = self._attempt
        attempt.sent(sql if len(sql) <= _STATEMENT else f"{sql[:_STATEMENT]}…")
        attempt.missing = "no answer to the query"
        statement = await self._drive(self._protocol.prepare("", sql, NO_TIMEOUT, record_class=Record))
        try:
            self._decoded(statement)
        except Exception as error:
            raise _translated(error) from None
        found = await self._drive(self._protocol.bind_execute(statement, (), "", most, False, NO_TIMEOUT))
        rows = [[None if value is None else str(value) for value in record] for record in found or ()]
        attempt.got(f"{counted(len(rows), 'row')}, {attempt.took}")
        return rows

    def _decoded(self, statement: Any) -> None:
        """Prepare to decode a statement's rows; a type that is not the server's own is read as text too."""
        for oid in statement._init_types():  # noqa: SLF001 - as asyncpg's connections do
            _as_text(self._protocol.get_settings(), oid, str(oid))
        statement._init_codecs()  # noqa: SLF001

    async def read_only(self) -> None:
        """Begin a transaction in which the server refuses to write, and in which values are text."""
        await self.rows("BEGIN READ ONLY")
        # The server would go on with a query whose client is gone.
        await self.rows(f"SET LOCAL statement_timeout = {max(1, int(self._spec.timeout * 1000))}")
        for oid, name in BUILTIN_TYPE_OID_MAP.items():
            _as_text(self._protocol.get_settings(), oid, name)

    def quit(self) -> None:
        """Say that we leave without waiting, so that the server logs no broken connection."""
        self._attempt.sent("terminate")
        self._attempt.send_at_once(self._wire, _TERMINATE)
        self._attempt.hang_up(self._wire)

    async def _start_tls(self) -> None:
        attempt = self._attempt
        attempt.sent("SSLRequest")
        attempt.missing = "no answer to the SSLRequest"
        await attempt.send(self._wire, _SSL_REQUEST)
        answer = await attempt.receive(
            self._wire, 1
        )  # one octet: what follows in clear text is not read (CVE-2021-23222)
        if answer == b"N":
            raise Failed("the server offers no TLS")
        if answer != b"S":
            raise Failed(
                f"not PostgreSQL: answered {excerpt(answer)}" if answer else "closed by the server without TLS"
            )
        await attempt.start_tls(self._wire, self._spec)

    async def _drive(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        """Return the result of a call of asyncpg: reads from the server whenever it waits for an answer."""
        try:
            while True:
                await self._await(call.send(None))
        except StopIteration as stop:
            result: _Result = stop.value
            return result
        except Exception as error:
            raise _translated(error) from None
        finally:
            call.close()

    async def _await(self, future: "asyncio.Future[Any]") -> None:
        """Return when `future` is done, which the messages of the server decide."""
        while not future.done():
            outgoing, self._transport.outgoing = self._transport.outgoing, bytearray()
            if outgoing:
                await self._attempt.send(self._wire, bytes(outgoing))
            if self._transport.refused:
                raise OurFault("the server wants the password in clear, which needs verified TLS")
            data = await self._attempt.receive(self._wire, _CHUNK)
            if not data:
                self._protocol.connection_lost(None)
                if not future.done():
                    raise Failed("closed by the server")
                return
            self._incoming += data
            while not future.done() and (message := self._message()):
                try:
                    self._protocol.data_received(message)
                except Exception as error:
                    raise _translated(error) from None

    def _message(self) -> bytes:
        """Return the next whole message, b"" if there is none yet; raises `Failed` or `OurFault`."""
        incoming = self._incoming
        if incoming and not self._greeted and incoming[0] not in _FIRST:
            raise Failed(f"not PostgreSQL: answered {excerpt(incoming)}")
        if len(incoming) < _HEADER:
            return b""
        size = int.from_bytes(incoming[1:_HEADER], "big") + 1
        if not self._greeted and all(octet in _LETTERS for octet in incoming[:_HEADER]):
            raise Failed(f"not PostgreSQL: answered {excerpt(incoming)}")
        if not _HEADER <= size <= _MESSAGE_LIMIT:
            raise Failed(f"announced a message of {size - 1} bytes, which no wanted answer has")
        if len(incoming) < size:
            return b""
        message = bytes(incoming[:size])
        del incoming[:size]
        self._greeted = True
        if message[0] == _AUTHENTICATION:
            _bounded(message[_HEADER:])
        return message


def _bounded(body: bytes) -> None:
    """Raise `OurFault` if an authentication message asks for more rounds of SCRAM than a probe computes."""
    if int.from_bytes(body[:_LENGTH], "big") != _SASL_CONTINUE:
        return
    asked = _ROUNDS.search(body)
    if asked and int(asked[1]) > SCRAM_ROUNDS:
        raise OurFault(
            f"the server asks for {int(asked[1])} rounds of SCRAM, and a probe computes {SCRAM_ROUNDS} at most"
        )


def _as_text(settings: Any, oid: int, name: str) -> None:
    settings.add_python_codec(oid, name, "pg_catalog", [], "scalar", str, str, "text")


def _result(future: "asyncio.Future[Any]") -> None:
    """Raise the error of a done future as ours."""
    error = future.exception()
    if error is not None:
        raise _translated(error) from None


def _translated(error: BaseException) -> BaseException:
    """Return an exception of asyncpg as `ServerError` or `Failed`; hostile bytes can make it raise any exception."""
    if isinstance(error, (Failed, OurFault)):
        return error
    lost = isinstance(error, (asyncpg.ConnectionDoesNotExistError, ConnectionError))
    if lost and isinstance(error.__cause__, asyncpg.PostgresError):
        error = error.__cause__
    elif lost:
        return Failed("closed by the server before it had answered")
    if isinstance(error, asyncpg.PostgresError):
        return ServerError(str(getattr(error, "sqlstate", None) or ""), str(error.args[0] if error.args else ""))
    if isinstance(error.__cause__, asyncpg.InterfaceError):
        error = error.__cause__
    if isinstance(error, asyncpg.InterfaceError):
        return OurFault(f"a login method that this probe lacks ({excerpt(str(error).encode())})")
    return Failed(f"malformed answer ({type(error).__name__})")
