"""A MySQL session of one probe: aiomysql's protocol over the sockets, the deadline and the bounds of an `Attempt`.

aiomysql implements the protocol (greeting, password plugins, results); this module overrides everything else that it does.
aiomysql opens no connection, so that a cancelled run leaves none open.  It reads through `_read_bytes`, which counts the
bytes, so that neither a packet of 16 MB nor a million small ones cost much (H4).  It sends nothing that the configuration
does not allow: no login without TLS if TLS is configured, and no whole password to an unverified server (S9).

A scramble proves that we know the password but does not reveal it.  Some logins need the password itself, in clear or
encrypted with a key: caching_sha2_password if the server has no login of the account in its cache, sha256_password, and
mysql_clear_password.  The probe sends it only over verified TLS, or encrypted with the key of `public-key-file`.  It never
uses a key that the server sends, because an impostor would send its own key.  MySQL's own clients do the same
(get-server-public-key is off).

This module corrects a fault of aiomysql 0.3.2: a request to switch to caching_sha2_password ends with a NUL, which
aiomysql includes in the salt, so that every scramble is wrong and each login costs the server a full authentication.
"""

import socket
import struct
from types import TracebackType
from typing import Any, Final, NoReturn

# PyMySQL's RSA code imports this module at the first full login, when this process may no longer be able to read it.
import cryptography.hazmat.backends.openssl.backend  # noqa: F401
from aiomysql.connection import Connection
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from pymysql.charset import charset_by_name
from pymysql.connections import MAX_PACKET_LEN
from pymysql.constants import CLIENT, COMMAND
from pymysql.err import MySQLError
from pymysql.protocol import MysqlPacket

from health.probes.base import Attempt, Failed, OurFault, excerpt
from health.probes.words import counted
from health.spec import MysqlProbe

READ_LIMIT: Final = 1 << 20  # bytes that one run reads at most (H4)
_ENDLESS: Final = f"sends data without end: {READ_LIMIT >> 20} MiB read"
_READ_COST: Final = 256  # bytes that each of the two reads of a packet counts as at least: small packets cost time
_CHUNK: Final = 16384  # bytes of one read from the socket; the other probes have their turn before each read (H5)
_HEADER: Final = 4  # bytes of a packet's header
_READS_A_PACKET: Final = 2  # its header and its content
_STATEMENT: Final = 100  # characters of a statement that a transcript shows at most
_PROTOCOL: Final = 10  # the protocol version of a greeting
_CLIENT_ERRORS: Final = range(2000, 3000)  # numbers of errors that the client finds, not the server

_CHARSET: Final = "utf8mb4"
_IN_CLEAR: Final = frozenset(("mysql_clear_password", "dialog"))  # plugins that send the password in clear
_TOO_OLD: Final = "mysql_old_password"  # the plugin from before 2003
_UNPROVED: Final = (
    "the server wants the password itself, which needs verified TLS or public-key-file"
    " (caching_sha2_password asks for it while the account is not in its cache, and for a wrong password)"
)
_KNOWN: Final = frozenset(("mysql_native_password", "caching_sha2_password", "sha256_password", "mysql_clear_password"))
_FIRST_WORD: Final = frozenset(("mysql_native_password", "caching_sha2_password"))
_FALLBACK: Final = "mysql_native_password"  # if the server has another default, it can ask for its plugin
_NO_PASSWORD: Final = b"\0"  # no request for a key, and of the wrong length: the server refuses the login
_SWITCH: Final = b"\xfe"  # the first byte of a request to use another plugin


class _Unproved(OurFault):
    """The server asks for the password itself, and its identity is not verified."""


class ServerError(Exception):
    """An error from the server: its number and its text, which may contain anything."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class Session(Connection):  # type: ignore[misc]  # aiomysql has no types
    """One run on a fresh connection: `login`, then `query` as often as needed, then `quit`."""

    def __init__(
        self, attempt: Attempt, connected: socket.SocketType, spec: MysqlProbe, password: str, public_key: bytes = b""
    ) -> None:
        """Prepare a session on the socket `connected`; it sends nothing before `login`.

        `public_key` is the server's configured key in PEM form, b"" for none.
        """
        self._public_key = public_key
        super().__init__(
            host=attempt.address,
            port=attempt.port,
            user=spec.user,
            password=password.encode().decode("latin1"),  # aiomysql encodes it as latin1 again
            charset=_CHARSET,
            autocommit=None,  # no setting after the login
            conv={},  # all values as text
            program_name="steelyard",
        )
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS
        self.client_flag |= CLIENT.MULTI_RESULTS
        self._attempt = attempt
        self._spec = spec
        self._wire = connected
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._budget = attempt.unread = READ_LIMIT
        self._reads = 0
        self._let_in = False
        self._next_seq_id = 0

    @property
    def server_public_key(self) -> bytes:
        """The configured key, which encrypts a whole password; raises `OurFault` if there is none."""
        if not self._public_key:
            raise _Unproved(_UNPROVED)
        try:
            usable = isinstance(serialization.load_pem_public_key(self._public_key), RSAPublicKey)
        except (ValueError, UnsupportedAlgorithm):
            usable = False
        if not usable:
            raise _Unproved(f"public-key-file {self._spec.public_key_file} holds no RSA key in PEM form")
        return self._public_key

    @server_public_key.setter
    def server_public_key(self, _of_the_server: object) -> None:
        """Ignore a key from the server: its owner is unknown."""

    async def login(self) -> None:
        """Log in, with TLS if configured; raises `Failed`, `OurFault` or `ServerError`."""
        attempt = self._attempt
        attempt.missing = "no greeting"
        with _Translated():
            await self._get_server_information()
            self._greeted()
            if self._spec.tls != "off":
                await self._start_tls()
            self._choose_plugin()
            secret = "with a password ****" if self._password else "without a password"
            attempt.sent(f"login as {excerpt(self._spec.user.encode())} {secret}")
            attempt.missing = "no answer to the login"
            try:
                await self._request_authentication()
            except _Unproved:
                self._give_nothing()
                raise
            self._let_in = True
        attempt.got(f"logged in by {excerpt(str(self._auth_plugin_used).encode())}, {attempt.took}")

    def _give_nothing(self) -> None:
        """Send an invalid password: after max_connect_errors aborted logins the server would block this whole host."""
        self._outgoing.clear()
        self.write_packet(_NO_PASSWORD)
        self._attempt.send_at_once(self._wire, bytes(self._outgoing))
        self._attempt.hang_up(self._wire)

    async def query(self, sql: str, unbuffered: bool = False) -> list[dict[str, str | None]]:
        """Return the rows of one statement, each keyed by column names in lower case; raises `Failed` or `ServerError`."""
        del unbuffered  # a parameter of the overridden method
        attempt = self._attempt
        attempt.sent(sql if len(sql) <= _STATEMENT else f"{sql[:_STATEMENT]}…")
        attempt.missing = "no answer to the query"
        with _Translated():
            await self._execute_command(COMMAND.COM_QUERY, sql)
            await self._read_query_result()
            result = self._result
            names = [str(column[0]).lower() for column in result.description or ()]
            rows = [dict(zip(names, map(_text, row), strict=False)) for row in result.rows or ()]
        attempt.got(f"{counted(len(rows), 'row')}, {attempt.took}")
        return rows

    def quit(self) -> None:
        """Send COM_QUIT without waiting, so that the server counts and logs no aborted client."""
        self._attempt.sent("quit")
        self._attempt.send_at_once(self._wire, struct.pack("<iB", 1, COMMAND.COM_QUIT))
        self._attempt.hang_up(self._wire)

    def close(self) -> None:
        """Do nothing: the attempt closes its sockets."""

    def _ensure_alive(self) -> None:
        """Do nothing: the next read shows that a connection is closed."""

    def _greeted(self) -> None:
        """Check the greeting; raises `Failed`."""
        if self.protocol_version != _PROTOCOL:
            raise Failed(f"not MySQL: a greeting of protocol version {self.protocol_version}, not {_PROTOCOL}")
        if not self.server_capabilities & CLIENT.PLUGIN_AUTH:
            raise OurFault("a server without password plugins: older than MySQL 5.5")
        version = self.server_version.removeprefix("5.5.5-")  # MariaDB adds this prefix for old replicas
        self._attempt.got(f"greeting of {excerpt(version.encode())}, {self._attempt.took}")

    async def _start_tls(self) -> None:
        """Continue in TLS, which the server must offer (Protocol::SSLRequest)."""
        if not self.server_capabilities & CLIENT.SSL:
            raise Failed("offers no TLS")
        if self._incoming:
            raise Failed("sent more data after its greeting, before TLS")
        self.client_flag |= CLIENT.SSL
        charset = charset_by_name(_CHARSET).id
        self.write_packet(struct.pack("<iIB23s", self.client_flag, MAX_PACKET_LEN, charset, b""))
        await self._flush()
        await self._attempt.start_tls(self._wire, self._spec)
        self._secure = self._spec.tls_verify

    def _choose_plugin(self) -> None:
        """Answer the greeting with one of two plugins, neither of which reveals the password at once."""
        if self._server_auth_plugin not in _FIRST_WORD:
            self._client_auth_plugin = _FALLBACK

    async def _process_auth(self, plugin_name: bytes, auth_packet: MysqlPacket) -> Any:
        """Change to the plugin that the server asks for, unless that would reveal the password."""
        name = plugin_name.decode("ascii", "replace")
        if name in _IN_CLEAR and not self._secure:
            await self._decline(f"the server asks for the password in clear ({name}): that needs verified TLS")
        if name == _TOO_OLD:
            await self._decline(f"the server asks for the password as MySQL 4.0 did ({name}): that is not safe")
        if name not in _KNOWN:
            await self._decline(
                f"the server asks for a password plugin that this probe lacks: {excerpt(name.encode())}"
            )
        if name == "caching_sha2_password":
            auth_packet._data = auth_packet._data.removesuffix(b"\0")  # noqa: SLF001 - see above
        return await super()._process_auth(plugin_name, auth_packet)

    async def _decline(self, why: str) -> NoReturn:
        """Send an invalid password, so that the server refuses the login; raises `OurFault`.

        If the probe closed the connection instead, the server would count an aborted login.  After max_connect_errors of
        them it blocks this host, and then no client's connection gets through.
        """
        self.write_packet(b"")
        await self._flush()
        raise OurFault(why)

    async def _read_packet(self, packet_type: type[MysqlPacket] = MysqlPacket) -> MysqlPacket:
        packet = await super()._read_packet(packet_type)
        data = packet.get_all_data()
        if not self._let_in and data[:1] == _SWITCH and b"\0" not in data:
            raise OurFault("the server asks for the password as MySQL 4.0 did: that is not safe")
        return packet

    async def _read_bytes(self, num_bytes: int) -> bytes:
        """Return the next `num_bytes` bytes from the server; raises `Failed` if that is too much."""
        await self._flush()
        self._budget -= max(_READ_COST, num_bytes)
        if num_bytes > READ_LIMIT:
            raise Failed(f"announced a packet of {num_bytes} bytes, more than a probe reads")
        if self._budget < 0:
            raise Failed(_ENDLESS)
        while len(self._incoming) < num_bytes:
            data = await self._received()
            if not data:
                raise Failed(self._cut_short())
            self._incoming += data
            if not self._reads and len(self._incoming) >= _HEADER and all(map(_is_letter, self._incoming[:_HEADER])):
                # A packet begins with its length, which contains a NUL in a greeting: this is another protocol.
                raise Failed(f"not MySQL: answered {excerpt(self._incoming)}")
        self._reads += 1
        data = bytes(self._incoming[:num_bytes])
        del self._incoming[:num_bytes]
        return data

    async def _received(self) -> bytes:
        try:
            return await self._attempt.receive(self._wire, _CHUNK)
        except Failed as failed:
            raise (Failed(_ENDLESS) if self._attempt.unread < 0 else failed) from None

    def _cut_short(self) -> str:
        if self._reads >= _READS_A_PACKET:
            return "closed by the server before it had answered"
        return "closed by the server amid its greeting" if self._reads else "closed by the server without a greeting"

    def _write_bytes(self, data: bytes) -> None:
        self._outgoing += data

    async def _flush(self) -> None:
        if self._outgoing:
            data = bytes(self._outgoing)
            self._outgoing.clear()
            await self._attempt.send(self._wire, data)


class _Translated:
    """Turns aiomysql's exceptions into `ServerError` and `Failed`; hostile bytes can make it raise any exception."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if error is None or not isinstance(error, Exception) or isinstance(error, (Failed, OurFault, ServerError)):
            return
        if isinstance(error, MySQLError) and error.args:
            code, *rest = error.args
            text = str(rest[0]) if rest else str(code)
            if isinstance(code, int) and code not in _CLIENT_ERRORS:
                raise ServerError(code, text) from None
            raise Failed(f"not understood: {excerpt(text.encode())}") from None
        raise Failed(f"malformed answer ({type(error).__name__})") from None


def _is_letter(byte: int) -> bool:
    return 0x20 <= byte <= 0x7E  # noqa: PLR2004 - the printable characters of ASCII


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
