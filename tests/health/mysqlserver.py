"""A scripted MySQL 8 for the mysql probe: what its protocol documentation says a server sends, byte by byte.

Sources: "MySQL Source Code Documentation" 8.0 (dev.mysql.com/doc/dev/mysql-server/8.0.43), pages Protocol::HandshakeV10,
Protocol::SSLRequest, Protocol::AuthSwitchRequest, Caching_sha2_password information, ERR_Packet and Text Resultset.
`GREETING` is the packet that a MySQL 8.0.20 sent, recorded with its salt and published by a reader of the protocol
(a dissection of the handshake dated 2020-05-07, server version 8.0.20, connection 11).
"""

import asyncio
import functools
import hashlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

GREETING = (
    b"J\x00\x00\x00\n8.0.20\x00\x0b\x00\x00\x00\x05?r66p\x029\x00\xff\xff\xff\x02\x00\xff\xc7\x15"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x1e\\<PRz\\\x03pNcr\x00caching_sha2_password\x00"
)
SALT = b"\x05?r66p\x029\x1e\\<PRz\\\x03pNcr"
SSL_FLAG = 0x0800
FAST, FULL, KEY_WANTED = 3, 4, 2
T = TypeVar("T")
Rows = Sequence[Mapping[str, str | None]]


def packet(number: int, payload: bytes) -> bytes:
    """Return a packet with its header: the length and its number."""
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def ok(number: int) -> bytes:
    """Return an OK_Packet."""
    return packet(number, b"\x00\x00\x00\x02\x00\x00\x00")


def error(number: int, code: int, text: str) -> bytes:
    """Return an ERR_Packet."""
    return packet(number, b"\xff" + code.to_bytes(2, "little") + b"#HY000" + text.encode())


def switch(number: int, plugin: str, data: bytes = SALT + b"\0") -> bytes:
    """Return an AuthSwitchRequest; the salt ends with a NUL."""
    return packet(number, b"\xfe" + plugin.encode() + b"\0" + data)


def greeting(plugin: str = "caching_sha2_password", *, tls: bool = True) -> bytes:
    """Return the recorded greeting with another default plugin, or as of a server that has no TLS."""
    payload = GREETING[4:].replace(b"caching_sha2_password", plugin.encode())
    if not tls:
        at = payload.index(b"\0") + 1 + 4 + 8 + 1
        flags = int.from_bytes(payload[at : at + 2], "little") & ~SSL_FLAG
        payload = payload[:at] + flags.to_bytes(2, "little") + payload[at + 2 :]
    return packet(0, payload)


def text(value: str | None) -> bytes:
    """Return a length-encoded string."""
    if value is None:
        return b"\xfb"
    data = value.encode()
    return (bytes([len(data)]) if len(data) < 251 else b"\xfc" + len(data).to_bytes(2, "little")) + data


def resultset(rows: Rows) -> bytes:
    """Return a text result of columns that are all VARCHAR."""
    names = list(rows[0]) if rows else ["nothing"]
    kind = b"\x0c\xff\x00\x00\x04\x00\x00\xfd\x00\x00\x00\x00\x00"
    columns = [text("def") + text("") * 3 + text(name) * 2 + kind for name in names]
    eof = b"\xfe\x00\x00\x02\x00"
    payloads = [bytes([len(names)]), *columns, eof, *(b"".join(map(text, row.values())) for row in rows), eof]
    return b"".join(packet(number % 256, payload) for number, payload in enumerate(payloads, 1))


def scramble(password: str, salt: bytes = SALT) -> bytes:
    """Return what the documentation says a client sends: XOR(SHA256(password), SHA256(SHA256(SHA256(password)), salt))."""
    once = hashlib.sha256(password.encode()).digest()
    mixed = hashlib.sha256(hashlib.sha256(once).digest() + salt).digest()
    return bytes(left ^ right for left, right in zip(once, mixed, strict=True))


class Secured:
    """A server's end of TLS that begins amid a connection: asyncio's own loses what has come already."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    @classmethod
    async def accept(
        cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext
    ) -> "Secured":
        """Shake hands."""
        secured = cls(reader, writer, context)
        await secured._until(secured._session.do_handshake)
        return secured

    async def readexactly(self, size: int) -> bytes:
        """Return that many bytes."""
        found = b""
        while len(found) < size:
            data = await self._until(functools.partial(self._session.read, size - len(found)))
            if not data:
                raise asyncio.IncompleteReadError(found, size)
            found += data
        return found

    def write(self, data: bytes) -> None:
        """Send."""
        self._session.write(data)
        self._writer.write(self._outgoing.read())

    async def _until(self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._writer.write(self._outgoing.read())
                data = await self._reader.read(16384)
                if not data:
                    raise asyncio.IncompleteReadError(b"", 1) from None
                self._incoming.write(data)
            except ssl.SSLError as error:
                raise ConnectionError(str(error)) from None
            else:
                self._writer.write(self._outgoing.read())
                return result


class Mysql8:
    """Plays a MySQL 8 with one account: `talk` is what a TcpServer runs.  `seen` is what the client did, step by step."""

    def __init__(
        self,
        password: str,
        *,
        cached: bool = True,
        first: str = "caching_sha2_password",
        tls: ssl.SSLContext | None = None,
        answers: Mapping[str, Rows | tuple[int, str]] | None = None,
    ) -> None:
        self.password = password
        self.cached = cached
        self.first = first
        self.tls = tls
        self.answers = dict(answers or {})
        self.seen: list[str] = []
        self.statements: list[str] = []
        self.refused: bytes | None = None  # what came in the place of the right password
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def public_key(self) -> bytes:
        """Its key in PEM form, as in its public_key.pem."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client to its end."""
        writer.write(greeting(self.first, tls=self.tls is not None))
        number, payload = await self._read(reader)
        if len(payload) == 32:  # SSLRequest: the head of the answer only
            self.seen.append("tls")
            reader = writer = await Secured.accept(reader, writer, self.tls)
            number, payload = await self._read(reader)
        name, _, rest = payload[32:].partition(b"\0")
        self.seen.append(name.decode())
        given = rest[1 : 1 + rest[0]]
        if self.first != "caching_sha2_password":
            writer.write(switch(number + 1, "caching_sha2_password"))
            number, given = await self._read(reader)
            self.seen.append("switched")
        if not await self._let_in(reader, writer, number, given):
            return
        while True:
            _, payload = await self._read(reader)
            if payload == b"\x01":
                self.seen.append("quit")
                return
            self._answer(writer, payload[1:].decode())

    async def _let_in(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, given: bytes
    ) -> bool:
        if self.cached and given == scramble(self.password):
            self.seen.append("fast")
            writer.write(packet(number + 1, bytes([1, FAST])) + ok(number + 2))
            return True
        self.seen.append("full")
        writer.write(packet(number + 1, bytes([1, FULL])))
        number, given = await self._read(reader)
        if given == bytes([KEY_WANTED]):
            self.seen.append("key")
            writer.write(packet(number + 1, b"\x01" + self.public_key))
            number, given = await self._read(reader)
        if len(given) == self._key.key_size // 8:
            self.seen.append("encrypted")
            mixed = self._key.decrypt(given, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))
            given = bytes(letter ^ SALT[at % 20] for at, letter in enumerate(mixed))
        if given != self.password.encode() + b"\0":
            self.refused = given
            writer.write(error(number + 1, 1045, "Access denied for user 'probe'@'192.0.2.1' (using password: YES)"))
            return False
        writer.write(ok(number + 1))
        return True

    def _answer(self, writer: asyncio.StreamWriter, statement: str) -> None:
        self.statements.append(statement)
        found = self.answers.get(statement, [{"1": "1"}] if statement == "SELECT 1" else (1064, "You have an error"))
        writer.write(error(1, *found) if isinstance(found, tuple) else resultset(found))

    async def _read(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = await reader.readexactly(4)
        return head[3], await reader.readexactly(int.from_bytes(head[:3], "little"))
