"""The http probe: one request, the status of its answer and, if told, what its body holds (RFC 9110, RFC 9112; H10).

h11 speaks the protocol, over the attempt's own socket: it does no I/O, so all bounds are the attempt's.  (aiohttp opens its
own sockets, where a PROXY header has no place before the TLS handshake, and brings eight more packages.)  The body is read
only where `body` or `body-digest` needs it, and only its first 64 KiB.  `body-digest` is the MD5 sum of the body alone, as
keepalived's genhash prints it.  No compression is asked for and no redirection followed: what the backend itself says counts.

`status` says which answers are well, and every other is a failure, as 401, 403 and 503 are: a page that its visitors do not
get is one that fails.  Only 429 (too many requests, RFC 6585, section 4) says nothing but that there is no room now.
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
_BEGINNING: Final = b"HTTP/"  # of every answer (RFC 9112, section 4)
_TOO_MANY: Final = 429
_DEFAULT_PORTS: Final = {"off": 80, "implicit": 443}


class HttpCheck(Probe[HttpProbe]):
    """One GET, HEAD, OPTIONS or POST."""

    def __init__(self, spec: HttpProbe) -> None:
        """Read the wanted statuses once."""
        super().__init__(spec)
        self._wanted = statuses(spec.status)
        self._digest = (spec.body_digest or "").lower()

    async def check(self, attempt: Attempt) -> Finding:
        """Pass when the status is one of the wanted and the body holds what it is to hold."""
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
        address = attempt.address.partition("%")[0]  # a zone is for this host alone (RFC 6874, section 1)
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
        self._first = b""  # of what the server said
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
            pass  # 1xx: more is to come (RFC 9110, section 15.2)
        self._attempt.got(f"{event.status_code} {excerpt(event.reason)}, {self._attempt.took}")
        self._attempt.missing = "the body did not come whole"
        return event

    async def body_until(self, wanted: bytes | None) -> bool:
        """Read the body until `wanted` is in it or it ends; whether it is in it."""
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
    """Return the statuses that "200-299,304" means."""
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
