"""A server of the web room in the test's own loop, on a real socket of loopback, and a client that says what it likes."""

import asyncio
import json
import socket
from collections.abc import Sequence
from typing import Any, Self

from proxy.web import page
from proxy.web.server import Server
from proxy.web.view import View


def backend(name: str = "b0", **changes: Any) -> dict[str, Any]:
    """Return a backend's part of a status."""
    made: dict[str, Any] = {
        "name": name, "address": "10.0.0.1:80", "state": "up", "reason": "connected", "admin": "ready", "admin_by": None,
        "admin_reason": None, "tier": 0, "weight": 1, "effective_weight": 1, "active": 2, "queued": 0, "total": 5,
        "rate": 1.0, "latency_ms": {"p50": 0.1, "p99": 2.0}, "bytes_in": 1, "bytes_out": 2,
        "errors": {"reset": 1, "connect_refused": 0}, "since": 1796054721.0, "origin": "file",
        "probes": [
            {"type": "tcp", "ok": True, "reason": "connected", "latency_ms": 1.0, "at": 1796054721.0}
        ],
    }  # fmt: skip
    return made | changes


def service(name: str = "dns", *backends: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a service's part of a status."""
    made: dict[str, Any] = {
        "name": name, "protocol": "plain", "listen": ["10.0.0.10:53/udp"], "scheduler": "least-connections",
        "state": "up", "quorum": 1, "backends": list(backends) or [backend()], "counters": {"sessions": 3, "denied": 4},
    }  # fmt: skip
    return made | changes


def status(*services: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a status."""
    made: dict[str, Any] = {
        "schema": 1, "node": "lb1", "state": "running", "version": "0.1.0", "uptime_s": 12.5, "generation": 1,
        "config": {"sha256": "ab" * 32, "valid": True, "error": None, "on_disk_sha256": "ab" * 32, "overrides": 0},
        "services": list(services) or [service()], "vrrp": [],
        "workers": [
            {"index": 0, "pid": 7, "alive": True, "restarts": 0, "generation": 1, "draining": False, "heartbeat_age_s": 0}
        ],
    }  # fmt: skip
    return made | changes


class Bed:
    """The server, its view, and how often the master was asked."""

    def __init__(self) -> None:
        """Make it; `start` lets it listen."""
        self.asked = 0
        self.view = View(self._ask)
        self.server = Server(self.view, page.files())
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]

    def _ask(self) -> None:
        self.asked += 1

    async def start(self, allow: Sequence[str] = ("127.0.0.0/8", "::1/128")) -> Self:
        """Listen."""
        await self.server.serve([self.sock], list(allow))
        return self

    def show(self, shown: Any = None, figures: Any = None) -> None:
        """Give it a snapshot."""
        self.view.take(json.dumps(shown or status()).encode(), json.dumps(figures or {}).encode())

    async def say(self, text: str | bytes, seconds: float = 10.0) -> str:
        """Send octets, and return all that comes until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(text if isinstance(text, bytes) else text.encode())
            async with asyncio.timeout(seconds):
                return (await reader.read()).decode()
        finally:
            writer.close()

    async def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
        """Return (status, headers and body) of a request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *headers, "", ""]
        answer = await self.say("\r\n".join(lines))
        head, _, body = answer.partition("\r\n\r\n")
        rows = [line.partition(": ") for line in head.split("\r\n")[1:]]
        return int(head.split()[1]), {name: value for name, _, value in rows}, body
