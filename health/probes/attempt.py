"""An attempt: one run of a probe with its descriptors, its transcript and its reasons.

A run opens every descriptor through its `Attempt`, which closes them at the end, however the run ends, so no step of a
probe can leak a descriptor (H4).

If the service sends PROXY headers, every TCP connection begins with one.  A connection may continue in TLS: after
`start_tls`, `send` and `receive` encrypt and decrypt, so that a protocol need not handle it.
"""

import contextlib
import errno
import functools
import os
import socket
import ssl
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

from health.probes import proxyheader, tls
from health.probes.words import Failed, OurFault, blamed, excerpt, in_words, where
from health.secrets import AUTHORITIES, FromDisk, NoSecret, Source
from health.spec import ProbeBase
from health.waiting import IN, OUT, Waits

READ_LIMIT = 65536  # bytes that one run of a probe reads at most (H4)
READ_COST = 64  # bytes that each read counts as at least, so that tiny segments and empty datagrams are limited too
OWN_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")  # it applies to IPv6 too

_IP_RECVERR: Final = 11  # linux/in.h
_IPV6_RECVERR: Final = 25  # linux/in6.h


class Attempt:
    """One run of a probe against `address`, `port`; it may take `timeout` seconds from its creation.

    `send_proxy` ("off", "v1" or "v2") is the PROXY header that its TCP connections begin with; with "v2" its datagrams
    have one too.  `lines` is the transcript: "-> " for the probe's acts, "<- " for the server's answers.  It stays empty
    unless `recording` is set.  `files` has the CA certificates that TLS trusts.
    """

    __slots__ = (
        "_begun", "_files", "_opened", "_sessions", "address", "aside", "lines", "missing", "port", "recording",
        "send_proxy", "timeout", "unread", "waits",
    )  # fmt: skip

    def __init__(
        self, address: str, port: int, timeout: float, send_proxy: str | None = None,
        *, recording: bool = True, waits: Waits | None = None, files: Source | None = None,
    ) -> None:  # fmt: skip
        self.recording = recording
        self._files = files or FromDisk()
        self.address = address
        self.port = port
        self.timeout = timeout
        self.send_proxy = send_proxy or "off"
        self.lines: list[str] = []
        self.missing = "no answer"
        self.aside = ""
        self.unread = READ_LIMIT
        self._begun = time.perf_counter()
        self.waits = waits or Waits()
        self._opened: list[socket.SocketType] = []
        self._sessions: dict[socket.SocketType, tls.Session] = {}

    @property
    def elapsed(self) -> float:
        """The seconds since the run began."""
        return time.perf_counter() - self._begun

    @property
    def took(self) -> str:
        """The time that the run has taken so far, as text."""
        return f"{self.elapsed * 1000:.1f} ms"

    @property
    def late(self) -> str:
        """The reason if the deadline passes now."""
        return f"{self.missing} within {self.timeout:g} s{self.aside}"

    def sent(self, text: str) -> None:
        """Note an act of the probe in the transcript."""
        if self.recording:
            self.lines.append(f"-> {text}")

    def got(self, text: str) -> None:
        """Note an answer of the server in the transcript."""
        if self.recording:
            self.lines.append(f"<- {text}")

    def close(self) -> None:
        """Close all descriptors of the run."""
        for opened in self._opened:
            opened.close()
        self._opened.clear()
        self._sessions.clear()

    def name(self) -> tuple[Any, ...]:
        """Return the server's address in the form that a socket takes."""
        if "%" not in self.address:
            return self.address, self.port
        # A link-local address: the zone becomes a number, without any DNS query.
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        try:
            return socket.getaddrinfo(self.address, self.port, socket.AF_INET6, socket.SOCK_DGRAM, 0, numeric)[0][4]
        except OSError:
            raise OurFault(f"no interface {self.address.partition('%')[2]} on this host") from None

    def _open(self, kind: socket.SocketKind, protocol: int = 0) -> tuple[socket.SocketType, tuple[Any, ...]]:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        name = self.name()
        try:
            # The base class of `socket.socket`: a probe does not use the additions of the subclass, which cost time.
            opened = socket.SocketType(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        except PermissionError:
            if protocol:
                raise
            raise in_words(PermissionError(errno.EACCES, "")) from None
        except OSError as error:
            raise in_words(error) from None
        self._opened.append(opened)
        return opened, name

    async def connect_tcp(self, *, mute: bool = False) -> socket.SocketType:
        """Return a connected TCP socket, after the PROXY header if one is configured; raises `Failed`.

        `mute` means that the probe will not send anything else.
        """
        if self.recording:
            self.sent(f"connect {where(self.address, self.port)}/tcp")
        self.missing = "no answer to the connect"
        opened, name = self._open(socket.SOCK_STREAM)
        if not mute:
            # A small request after another one (TLS, LDAP) would wait 40 ms for the server's delayed acknowledgement.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        result = opened.connect_ex(name)
        if result in {errno.EINPROGRESS, errno.EWOULDBLOCK}:
            events = await self.writable(opened)
            result = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & ~OUT else 0
        if result == 0 and self.port >= first_own_port() and _met_itself(opened, self.port):
            result = errno.ECONNREFUSED  # we met ourselves: no server listens there, and our own port is the same
        if result:
            raise in_words(OSError(result, os.strerror(result)))
        if self.recording:
            self.got(f"connected, {self.took}")
        if self.send_proxy != "off":
            try:
                header, words = proxyheader.build(self.send_proxy, opened)
            except OSError as error:  # the server has reset the connection meanwhile
                raise in_words(error) from None
            self.missing = "could not send the PROXY header"
            await self.send(opened, header)
            self.sent(words)
        return opened

    def connect(self, spec: ProbeBase, name: str | None = None, *, mute: bool = False) -> Awaitable[socket.SocketType]:
        """Return an awaitable TCP socket that is ready for the protocol: after the PROXY header and an implicit TLS handshake.

        `name` is the server name for TLS if `tls_name` is not set.  `mute` means that without TLS the probe will not send
        anything else.
        """
        return self._connect_tls(spec, name) if spec.tls == "implicit" else self.connect_tcp(mute=mute)

    async def _connect_tls(self, spec: ProbeBase, name: str | None) -> socket.SocketType:
        opened = await self.connect_tcp()
        await self.start_tls(opened, spec, name)
        return opened

    async def start_tls(self, opened: socket.SocketType, spec: ProbeBase, name: str | None = None) -> None:
        """Continue in TLS, verified as `spec` says; raises `Failed`, or `OurFault` if `tls-ca-file` is not usable.

        Without any name the certificate must be for the server's address.
        """
        name = spec.tls_name or name
        expected = name or self.address.partition("%")[0]
        try:
            session = tls.Session(self._trust(spec), expected if spec.tls_verify else name)
        except tls.NoTrust as fault:
            raise OurFault(str(fault)) from None
        self.sent(f"TLS handshake{f' for {name}' if name else ''}")
        self.missing = "no answer to the TLS handshake"
        try:
            await self._shake_hands(opened, session)
        except tls.Refused as refused:
            with contextlib.suppress(OSError):
                opened.send(session.take())  # the alert is for the server's log: no reason to wait
            raise blamed(refused.meaning, str(refused)) from None
        self._sessions[opened] = session
        self.got(f"{session.describe()}, {self.took}")

    def _trust(self, spec: ProbeBase) -> ssl.SSLContext:
        """Return the TLS context of `spec`; raises `OurFault` if its `tls-ca-file` is not usable, and `tls.NoTrust`."""
        path = spec.tls_ca_file
        if path is None or not spec.tls_verify:
            return tls.context(verify=spec.tls_verify)
        try:
            return tls.context(verify=True, authorities=self._files.content(path, AUTHORITIES))
        except NoSecret as why:
            raise OurFault(str(why)) from None
        except tls.NoTrust as why:
            raise OurFault(f"{AUTHORITIES.label} {path} holds {why}") from None

    async def _shake_hands(self, opened: socket.SocketType, session: tls.Session) -> None:
        heard = False
        while not session.handshake():
            await self._send_raw(opened, session.take())
            data = await self._receive_raw(opened, tls.CHUNK)
            if not data:
                raise Failed("closed by the server in the TLS handshake")
            if not heard and data[0] not in tls.RECORD_TYPES:
                raise Failed(f"not TLS: answered {excerpt(data)}")
            session.feed(data)
            heard = True
            self.missing = "the TLS handshake did not end"
        await self._send_raw(opened, session.take())

    def connect_udp(self) -> socket.SocketType:
        """Return a UDP socket on a random local port.  It is connected, so that ICMP errors arrive at once (H3)."""
        if self.recording:
            self.sent(f"connect {where(self.address, self.port)}/udp")
        opened, name = self._open(socket.SOCK_DGRAM)
        result = opened.connect_ex(name)
        if result:
            raise in_words(OSError(result, os.strerror(result)))
        return opened

    async def send_datagram(self, opened: socket.SocketType, data: bytes) -> None:
        """Send one datagram, after a PROXY header if version 2 is configured: version 1 is for TCP only."""
        if self.send_proxy == "v2":
            data = proxyheader.LOCAL + data
            self.sent("PROXY v2 LOCAL")
        await self.send(opened, data)

    def connect_icmp(self) -> socket.SocketType | None:
        """Return an ICMP socket that also receives errors, None if this process may not open one.

        Only the groups in net.ipv4.ping_group_range may open ICMP datagram sockets (icmp(7)), for IPv6 as well.
        """
        version6 = ":" in self.address
        try:
            opened, name = self._open(socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if version6 else socket.IPPROTO_ICMP)
        except PermissionError:
            return None
        level, option = (socket.IPPROTO_IPV6, _IPV6_RECVERR) if version6 else (socket.IPPROTO_IP, _IP_RECVERR)
        opened.setsockopt(level, option, 1)
        result = opened.connect_ex(name)
        if result:
            raise in_words(OSError(result, os.strerror(result)))
        return opened

    async def receive_exactly(self, opened: socket.SocketType, size: int, what: str) -> bytes:
        """Return exactly `size` bytes of a stream; raises `Failed`, naming `what` is missing, if the server closes early."""
        read = bytearray()
        while len(read) < size:
            data = await self.receive(opened, size - len(read))
            if not data:
                raise Failed(f"closed by the server after {len(read)} of {size} bytes of {what}")
            read += data
        return bytes(read)

    def send(self, opened: socket.SocketType, data: bytes) -> Awaitable[None]:
        """Return an awaitable that sends all of `data`."""
        session = self._sessions.get(opened)
        return self._send_raw(opened, data) if session is None else self._send_tls(opened, session, data)

    async def _send_tls(self, opened: socket.SocketType, session: tls.Session, data: bytes) -> None:
        try:
            session.write(data)
        except tls.Refused as refused:
            raise blamed(refused.meaning, str(refused)) from None
        await self._send_raw(opened, session.take())

    async def _send_raw(self, opened: socket.SocketType, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[opened.send(view) :]
            except BlockingIOError:
                await self.writable(opened)
            except OSError as error:
                raise in_words(error, opened) from None

    def receive(self, opened: socket.SocketType, size: int) -> Awaitable[bytes]:
        """Return an awaitable that waits for data and gives at most `size` bytes; b"" at the end of a stream.

        Raises `Failed` when the run has read `READ_LIMIT` bytes.  Yields to the other probes each time, so that a server
        that never stops sending can neither pass the deadline nor delay other probes (H4, H5).
        """
        session = self._sessions.get(opened)
        return self._receive_raw(opened, size) if session is None else self._receive_tls(opened, session, size)

    async def _receive_tls(self, opened: socket.SocketType, session: tls.Session, size: int) -> bytes:
        try:
            while (data := session.read(size)) is None:
                await self._send_raw(opened, session.take())  # answers of the TLS session itself, e.g. to a key update
                session.feed(await self._receive_raw(opened, tls.CHUNK))
        except tls.Refused as refused:
            raise blamed(refused.meaning, str(refused)) from None
        return data

    async def _receive_raw(self, opened: socket.SocketType, size: int) -> bytes:
        while True:
            await self.readable(opened)
            try:
                data = opened.recv(size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise in_words(error, opened) from None
            self.unread -= max(READ_COST, len(data))
            if self.unread < 0:
                raise Failed(f"sends data without end: {READ_LIMIT // 1024} KiB read")
            return data

    def send_at_once(self, opened: socket.SocketType, data: bytes) -> None:
        """Send as much of `data` as the server takes now, as a courtesy after the result is clear."""
        with contextlib.suppress(OSError, tls.Refused):
            session = self._sessions.get(opened)
            if session is not None:
                session.write(data)
                data = session.take()
            opened.send(data)

    def hang_up(self, opened: socket.SocketType) -> None:
        """End the session, in TLS too, and read the remaining data, so that closing sends FIN rather than RST."""
        session = self._sessions.pop(opened, None)
        if session is not None:
            session.close()
            with contextlib.suppress(OSError):
                opened.send(session.take())
        drain(opened)
        self.sent("close")

    def readable(self, opened: socket.SocketType) -> Awaitable[int]:
        """Wait until `opened` has data or an error; raises `CannotWait`."""
        return self.waits.ready(opened.fileno(), IN)

    def writable(self, opened: socket.SocketType) -> Awaitable[int]:
        """Wait until `opened` is connected or takes more data, or has an error; raises `CannotWait`."""
        return self.waits.ready(opened.fileno(), OUT)


@functools.cache
def first_own_port() -> int:
    """Return the lowest local port that the kernel gives to a connecting socket; below it no socket can meet itself."""
    try:
        return int(OWN_PORTS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 1


def _met_itself(opened: socket.SocketType, port: int) -> bool:
    try:
        return bool(opened.getsockname()[1] == port and opened.getsockname() == opened.getpeername())
    except OSError:  # the server has reset the connection, which shows at the next step
        return False


def drain(opened: socket.SocketType, limit: int = READ_LIMIT) -> None:
    """Read the remaining data, so that closing sends FIN rather than RST."""
    try:
        while limit > 0 and (data := opened.recv(min(limit, 16384))):
            limit -= len(data)
    except OSError:
        return
