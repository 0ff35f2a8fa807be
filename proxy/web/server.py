"""The HTTP server of the herald process: read-only, for whoever may connect.

    /               the page             /status.json   what `steelyard status --json` prints
    /metrics        for Prometheus       /events.json   the last events; n=, since=
    /healthz        this process         /events        a stream of them, for the page
    /readyz         this host can serve

Each connection has passed `proxy.web.gate`.  There is one request a connection, and no request changes anything.
"""

import asyncio
import ipaddress
import json
import logging
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiohttp import web

from proxy.processes.faults import Faults
from proxy.web import page, query
from proxy.web.gate import Door, Gate
from proxy.web.headers import SECURITY
from proxy.web.host import is_own
from proxy.web.metrics import rendered
from proxy.web.ready import why_not_ready
from proxy.web.stream import streamed
from proxy.web.view import Seen, View

PATIENCE: Final = 3.0
"""Seconds that an answer waits for the first snapshot."""
BACKLOG: Final = 128
"""Clients that may wait in a socket, as the master has set it."""
ACCEPTED: Final = 0.05
"""Seconds until a connection that was accepted last is known to its server and to the gate: asyncio makes it in a task."""
STREAMS: Final = 32
"""Streams of events at a time."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_silent = logging.getLogger("steelyard.herald.http")  # aiohttp writes a traceback for each bad request
_silent.addHandler(logging.NullHandler())
_silent.propagate = False
_log = logging.getLogger("steelyard.herald")


class Server:
    """Answers on the listening sockets that the master has opened."""

    def __init__(self, view: View, files: Mapping[str, page.Content]) -> None:
        """Answer from `view`; `files` are those of the page, by path."""
        self._view = view
        self._faults = Faults(lambda text: _log.error("%s", text))
        self._app = web.Application(middlewares=[self._guarded], client_max_size=1024)
        self._app.on_response_prepare.append(_secured)
        for path, handler in {
            "/metrics": self._metrics,
            "/status.json": self._status,
            "/events.json": self._events,
            "/events": self._stream,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }.items():
            self._app.router.add_get(path, handler)
        for path, content in files.items():
            self._app.router.add_get(path, _static(content))
        self._runner = web.AppRunner(
            self._app, access_log=None, logger=_silent, handle_signals=False, lingering_time=0, shutdown_timeout=0.0
        )
        self._gate: Gate | None = None
        self._listening: dict[int, asyncio.Server] = {}  # by inode of the socket
        self._stopping: set[asyncio.Server] = set()  # that accept no more
        self._streams = 0
        self._thread = ThreadPoolExecutor(1, "metrics")
        self._text: tuple[int, str, asyncio.Future[tuple[bytes, str]]] | None = None

    @property
    def refused(self) -> Counter[str]:
        """What was refused so far, by reason."""
        return Counter() if self._gate is None else self._gate.refused

    async def serve(self, sockets: Sequence[socket.socket], allow: Sequence[str]) -> None:
        """Answer on these sockets, which are owned here, and on no others."""
        if self._gate is None:
            await self._runner.setup()
            made = self._runner.server
            assert made is not None  # noqa: S101 - for the type checker
            self._gate = Gate(made, allow)
        self._gate.allow(allow)
        wanted = {_inode(sock): sock for sock in sockets}
        for inode in self._listening.keys() - wanted.keys():
            self._stop(self._listening.pop(inode))
        for inode, sock in wanted.items():
            if inode in self._listening:
                sock.close()
            else:
                self._listening[inode] = await asyncio.get_running_loop().create_server(
                    self._gate, sock=sock, backlog=BACKLOG
                )

    async def close(self, patience: float) -> None:
        """Take no new clients, let answers end within `patience` seconds, and cut the streams."""
        for server in self._listening.values():
            self._stop(server)
        self._listening.clear()
        if self._gate is None:
            return
        ends = asyncio.get_running_loop().time() + patience
        await asyncio.sleep(min(ACCEPTED, patience))
        for server in list(self._stopping):
            self._stopped(server)
        while len(self._gate.doors) > self._streams and asyncio.get_running_loop().time() < ends:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(0.02)
        self._gate.close()
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self._runner.cleanup()

    def _stop(self, server: asyncio.Server) -> None:
        """Accept no more; close the socket once what was accepted is known to the server, which else would drop it."""
        loop = asyncio.get_running_loop()
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
        self._stopping.add(server)
        loop.call_later(ACCEPTED, self._stopped, server)

    def _stopped(self, server: asyncio.Server) -> None:
        if server in self._stopping:
            self._stopping.remove(server)
            server.close()

    # -- each request

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what is no plain reading, count it, and let no exception end anything but its own request."""
        try:
            if request.method not in {"GET", "HEAD"}:
                answer: web.StreamResponse = self._refused(405, "method", "only GET and HEAD: this is read-only")
                answer.headers["Allow"] = "GET, HEAD"
            elif _on_loopback(request) and not is_own(request.headers.get("Host")):
                answer = self._refused(
                    421, "bad_host", "the Host header is not an address, nor localhost: no other name is answered here"
                )
            else:
                answer = await handler(request)
        except web.HTTPException as error:
            if error.status == 404:  # noqa: PLR2004 - not found
                answer = self._refused(404, "not_found", "there is no such page")
            else:
                answer = self._refused(error.status, "malformed", error.reason)
        except ConnectionError:
            raise
        except Exception as error:
            self._faults.add(error, f"in a request for {request.path[:100]!r}")
            answer = _text(500, "internal error: the log has it")
        answer.force_close()
        return answer

    def _refused(self, status: int, reason: str, text: str) -> web.Response:
        self.refused[reason] += 1
        return _text(status, text)

    async def _snapshot(self) -> Seen | web.Response:
        """Return a fresh snapshot, or the answer of a host without one."""
        seen = await self._view.snapshot(PATIENCE)
        return _json({"error": self._missing()}, 503) if seen is None else seen

    def _missing(self) -> str:
        age = self._view.age
        since = "yet" if age is None else f"for {age:.0f} s"
        return f"the daemon has sent no snapshot {since}"

    async def _healthz(self, _: web.Request) -> web.Response:
        return _text(200, "ok")

    async def _readyz(self, _: web.Request) -> web.Response:
        seen = await self._view.snapshot(PATIENCE)
        why = self._missing() if seen is None else why_not_ready(json.loads(seen.status))
        return _text(503, why) if why else _text(200, "ok")

    async def _status(self, _: web.Request) -> web.Response:
        seen = await self._snapshot()
        if isinstance(seen, web.Response):
            return seen
        return web.Response(body=seen.status + b"\n", content_type="application/json")

    async def _events(self, request: web.Request) -> web.Response:
        try:
            n, since = query.wanted(request.query)
        except query.QueryError as error:
            self.refused["malformed"] += 1
            return _json({"error": str(error)}, 400)
        return _json({"events": query.selected(self._view.events(), n, since)})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(content_type="text/event-stream")
        if self._streams >= STREAMS:
            return self._refused(503, "too_many", f"{STREAMS} streams are open already")
        protocol = getattr(request.transport, "get_protocol", lambda: None)()
        if isinstance(protocol, Door):
            protocol.stream()
        self._streams += 1
        try:
            return await streamed(self._view, request)
        finally:
            self._streams -= 1

    async def _metrics(self, request: web.Request) -> web.Response:
        seen = await self._snapshot()
        if isinstance(seen, web.Response):
            return _text(503, self._missing())
        body, content_type = await self._rendered(seen, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _rendered(self, seen: Seen, accept: str) -> tuple[bytes, str]:
        """Return the metrics; made once a snapshot, in a thread, however many ask."""
        form = "openmetrics" if "openmetrics" in accept else "text"
        if self._text is None or self._text[:2] != (seen.number, form):
            age = self._view.age or 0.0
            work = asyncio.get_running_loop().run_in_executor(self._thread, rendered, seen, age, accept)
            self._text = seen.number, form, work
        return await asyncio.shield(self._text[2])


async def _secured(_: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(SECURITY)


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(value) + "\n", content_type="application/json")


def _static(content: page.Content) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=content.body, headers={"Content-Type": content.kind})

    return answer


def _on_loopback(request: web.Request) -> bool:
    """Return True if the client came to an address of loopback."""
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    try:
        return name is None or ipaddress.ip_address(str(name[0]).partition("%")[0]).is_loopback
    except ValueError:
        return True


def _inode(sock: socket.socket) -> int:
    """Return what tells one socket from another, whichever descriptor it has."""
    return os.fstat(sock.fileno()).st_ino
