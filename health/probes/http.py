"""The http probe: one request, the status of its answer and, if configured, its body (RFC 9110, RFC 9112; H10).

h11 implements the protocol over the attempt's socket.  It does no I/O, so the attempt's limits apply.  (aiohttp opens its
own sockets, which leave no place for a PROXY header before the TLS handshake, and it brings eight more packages.)  The
probe reads the body only if `body` or `body-digest` needs it, and only the first 64 KiB.  `body-digest` is the MD5 sum of
the body alone, as keepalived's genhash prints it.  The probe asks for no compression and follows no redirection: only the
backend's own answer counts.

`status` lists the statuses that pass.  Every other status is a failure, including 401, 403 and 503: if visitors do not get
a page, the page fails.  Only 429 (too many requests, RFC 6585, section 4) means that the server has no room now.
"""

import hashlib
import ipaddress
import socket
from typing import Final

import h11

from health.probes.base import EXCERPT, READ_LIMIT, Attempt, Failed, Finding, Full, Probe, excerpt, where
from health.probes.words import counted
from health.spec import HttpProbe

_CHUNK = 16384  # bytes a read
_BEGINNING: Final = b"HTTP/"  # the beginning of every answer (RFC 9112, section 4)
_TOO_MANY: Final = 429
_DEFAULT_PORTS: Final = {"off": 80, "implicit": 443}


class HttpCheck(Probe[HttpProbe]):
    """Sends one GET, HEAD, OPTIONS or POST."""

    def __init__(self, spec: HttpProbe) -> None:
        """Parse the wanted statuses once."""
        super().__init__(spec)
        self._wanted = statuses(spec.status)
        self._digest = (spec.body_digest or "").lower()

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the status is a wanted one and the body has the wanted content."""
        spec = self.spec
        host = spec.host or spec.tls_name or self._authority(attempt)
        exchange = _Exchange(attempt, await attempt.connect(spec, host_name(spec.host)))
        response = await exchange.ask(spec.method, spec.path, host)
        took = attempt.took
        if response.status_code not in self._wanted:
            said = f" {excerpt(response.reason)}" if response.reason else ""
            words = f"answered {response.status_code}{said}, not {spec.status}"
            raise Full(words) if response.status_code == _TOO_MANY else Failed(words)
        if spec.body and not await exchange.body_until(spec.body.encode()):
            raise Failed(f"answered {response.status_code}, but its body lacks {excerpt(spec.body.encode())}")
        if self._digest:
            await exchange.body_until(None)
            found = hashlib.md5(exchange.body, usedforsecurity=False).hexdigest()
            if found != self._digest:
                raise Failed(
                    f"answered {response.status_code}, but its body has the digest {found}, not {self._digest}"
                )
        exchange.close()
        return Finding(f"answered {response.status_code} in {took}")

    def _authority(self, attempt: Attempt) -> str:
        address = attempt.address.partition("%")[0]  # a zone has a meaning on this host only (RFC 6874, section 1)
        if attempt.port == _DEFAULT_PORTS.get(self.spec.tls):
            return f"[{address}]" if ":" in address else address
        return where(address, attempt.port)


class _Exchange:
    """One request and its answer."""

    def __init__(self, attempt: Attempt, opened: socket.SocketType) -> None:
        self.body = bytearray()
        self._attempt = attempt
        self._opened = opened
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=READ_LIMIT)
        self._first = b""  # the first bytes of the answer
        self._closed = False  # by the server
        self._ended = False  # the answer is whole

    async def ask(self, method: str, path: str, host: str) -> h11.Response:
        """Send the request and return the head of the answer."""
        headers = [("Host", host), ("User-Agent", "steelyard"), ("Accept", "*/*"), ("Connection", "close")]
        if method == "POST":
            headers.append(("Content-Length", "0"))
        request = self._http.send(h11.Request(method=method, target=path, headers=headers)) or b""
        request += self._http.send(h11.EndOfMessage()) or b""
        self._attempt.missing = "could not send the request: the server does not read"
        self._attempt.sent(f"{method} {path} HTTP/1.1, Host: {host}")
        await self._attempt.send(self._opened, request)
        self._attempt.missing = "no answer to the request"
        while not isinstance(event := await self._next(), h11.Response):
            pass  # 1xx: the final answer follows (RFC 9110, section 15.2)
        self._attempt.got(f"{event.status_code} {excerpt(event.reason)}, {self._attempt.took}")
        self._attempt.missing = "the body did not come whole"
        return event

    async def body_until(self, wanted: bytes | None) -> bool:
        """Read the body until it contains `wanted` or ends; return True if it contains `wanted`."""
        searched = 0
        while not self._ended and (wanted is None or wanted not in self.body[searched:]):
            searched = max(0, len(self.body) - len(wanted or b""))
            try:
                event = await self._next()
            except Failed:
                if self._attempt.unread >= 0:
                    raise
                raise Failed(f"the body is longer than the {READ_LIMIT // 1024} KiB that a probe reads") from None
            if isinstance(event, h11.Data):
                self.body += event.data
            else:
                self._ended = True
        self._attempt.got(f"{counted(len(self.body), 'byte')} of body {excerpt(self.body)}")
        return wanted is not None and wanted in self.body

    def close(self) -> None:
        """Hang up."""
        self._attempt.hang_up(self._opened)

    async def _next(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data = await self._attempt.receive(self._opened, _CHUNK)
                if not data and not self._first:
                    raise Failed("closed by the server without an answer")
                self._first += data[: EXCERPT + 1 - len(self._first)]
                if not self._first.startswith(_BEGINNING[: len(self._first)]):  # else h11 waits for an empty line
                    raise Failed(f"not HTTP: answered {excerpt(self._first)}")
                self._closed = not data
                self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Failed(self._wrong(error)) from None
        if isinstance(event, h11.ConnectionClosed):
            raise Failed("closed by the server without an answer")
        return event

    def _wrong(self, error: h11.RemoteProtocolError) -> str:
        if self._closed:
            return "closed by the server in the middle of its answer"
        return f"malformed answer: {excerpt(str(error).encode())}"


def statuses(text: str) -> frozenset[int]:
    """Return the statuses of a list such as "200-299,304"."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def host_name(host: str | None) -> str | None:
    """Return the name in a Host header, None for an address: "www.example.net:8443" is "www.example.net"."""
    if host is None or host.startswith("["):
        return None
    name = host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name
    return None
