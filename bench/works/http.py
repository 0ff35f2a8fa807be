"""Requests on kept connections, and a new connection for each request: wrk, h2load and nginx."""

import json
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import bench.exchange
from bench.outputs import Sample, h2load_failed, h2load_latencies
from bench.results import Unit
from bench.works.base import Argv, Work
from tests.e2e.clients import HttpLoad, url
from tests.e2e.servers import Nginx

CONNECTIONS = 32


class Http(Work):
    """Requests on kept connections."""

    name = "http"
    about = "wrk (latency: h2load), 32 kept connections; two nginx; answers of 1 KiB"
    port = 80
    unit = Unit("requests/s", "us/request")
    tools: ClassVar[Sequence[str]] = ("wrk", "h2load", "nginx")
    connections_idle = True
    path = "/small"

    def serve(self) -> None:
        """Start one nginx for each address."""
        for address in self.backends:
            Nginx(self.bed, self.place.servers, [address], name=address, cpus=self.place.cpus)

    def _wrk(self, address: str, seconds: float) -> HttpLoad:
        argv = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{max(1, round(seconds))}s"]
        return HttpLoad.parse(self.ask([*argv, url(address, self.port, self.path)], seconds))

    def run(self, address: str, seconds: float) -> Sample:
        """Send requests on 32 connections."""
        result = self._wrk(address, seconds)
        return Sample(result.requests - result.not_ok, result.seconds, result.errors + result.not_ok)

    def latencies(self, address: str, seconds: float, rate: float) -> tuple[list[float], int]:
        """Send requests at a fixed rate, evenly on all connections."""
        log = self.files / "h2load.log"
        log.unlink(missing_ok=True)
        argv: Argv = ["h2load", "--h1", "-c", str(CONNECTIONS), f"--rps={max(1.0, rate / CONNECTIONS):.2f}"]
        argv += ["-D", f"{max(1, round(seconds))}", f"--log-file={log}", url(address, self.port, self.path)]
        text = self.ask(argv, seconds)
        return h2load_latencies(log.read_text()), h2load_failed(text)


class Connect(Http):
    """A new connection for every request: the server closes it after its answer."""

    name = "connect"
    about = "wrk (latency: bench/exchange.py), a new connection for each request; two nginx that close"
    unit = Unit("connections/s", "us/connection")
    tools = ("wrk", "nginx")
    connections_idle = False
    path = "/close"

    def run(self, address: str, seconds: float) -> Sample:
        """Connect, ask, read to the end, from 32 places; wrk counts a close by the server as a read error."""
        result = self._wrk(address, seconds)
        return Sample(result.requests - result.not_ok, result.seconds, result.not_ok)

    def latencies(self, address: str, seconds: float, rate: float) -> tuple[list[float], int]:
        """Connect at a fixed rate; the latency is that of the whole, from SYN to the end of the answer."""
        request = f"GET {self.path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
        return exchange(self, "connect", address, seconds, rate, [request])


def exchange(
    work: Work, kind: str, address: str, seconds: float, rate: float, requests: list[bytes]
) -> tuple[list[float], int]:
    """Run the bench's own client at a fixed rate; return its latencies and what failed."""
    found = exchange_run(work, kind, address, seconds, rate, requests)
    return list(found["latencies"]), int(found["failed"])


def exchange_run(
    work: Work, kind: str, address: str, seconds: float, rate: float, requests: list[bytes]
) -> dict[str, Any]:
    """Run the bench's own client (bench/exchange.py), and return what it printed."""
    path = work.files / f"{kind}-requests"
    if not path.exists():
        path.write_text("\n".join(request.hex() for request in requests))
    argv: Argv = [sys.executable, "-I", bench.exchange.__file__, kind, address, str(work.port)]
    argv += [f"{seconds:g}", str(CONNECTIONS), f"{rate:.2f}", path]
    found: dict[str, Any] = json.loads(work.ask(argv, seconds))
    return found
