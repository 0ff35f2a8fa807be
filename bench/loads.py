"""The loads: each runs a real client against real servers for some seconds, and returns one sample.

dns      dnsperf, 200 unanswered queries on 10 sockets, two nsd
http     wrk, 32 kept connections, requests of 1 KiB answers, two nginx
connect  wrk, a new connection for each request, two nginx
bulk     iperf3, one connection, one server
"""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass

from tests.e2e import clients
from tests.e2e.bed import Bed
from tests.e2e.servers import Nginx, Nsd

BACKENDS = ("10.0.0.11", "10.0.0.12")


@dataclass(frozen=True)
class Sample:
    """The client's results: units of work done, the seconds they took, failures, and the mean seconds of a unit."""

    work: float
    seconds: float
    failed: int
    latency: float | None


class Load(ABC):
    """A client with the servers that it needs, on the processors `cpus`."""

    protocol: str
    port: int
    backends: tuple[str, ...] = BACKENDS
    rate_unit: str  # unit of `work` a second, multiplied by `rate_scale`
    rate_scale: float = 1.0
    cost_unit: str  # unit of seconds for each unit of work, multiplied by `cost_scale`
    cost_scale: float = 1e6

    def __init__(self, bed: Bed, cpus: str) -> None:
        self.bed, self.cpus = bed, cpus
        self.serve()

    @abstractmethod
    def serve(self) -> None:
        """Start the servers."""

    @abstractmethod
    def run(self, address: str, seconds: int) -> Sample:
        """Load `address` for `seconds`."""


class Dns(Load):
    """Queries over UDP."""

    protocol, port = "dns", 53
    rate_unit, cost_unit = "queries/s", "us/query"

    def serve(self) -> None:
        """Start one nsd for each address."""
        for address in BACKENDS:
            Nsd(self.bed, "servers", [address], name=address, cpus=self.cpus)

    def run(self, address: str, seconds: int) -> Sample:
        """Send queries as fast as 200 unanswered ones allow."""
        load = clients.dnsperf_start(
            self.bed, address, seconds, port=self.port, outstanding=200, clients=10, cpus=self.cpus
        )
        result = clients.dnsperf_result(load, seconds + 30)
        bad = result.lost + result.completed - result.rcodes.get("NOERROR", 0)
        return Sample(result.completed, result.seconds, bad, result.latency)


class Http(Load):
    """Requests on kept connections."""

    protocol, port = "tcp", 80
    rate_unit, cost_unit = "requests/s", "us/request"
    path = "/small"
    failures = True

    def serve(self) -> None:
        """Start one nginx for each address."""
        for address in BACKENDS:
            Nginx(self.bed, "servers", [address], name=address, cpus=self.cpus)

    def run(self, address: str, seconds: int) -> Sample:
        """Send requests on 32 connections."""
        target = clients.url(address, self.port, self.path)
        result = clients.wrk(self.bed, target, seconds, connections=32, cpus=self.cpus)
        errors = result.errors if self.failures else 0
        return Sample(result.requests, result.seconds, errors + result.not_ok, result.latency)


class Connect(Http):
    """A new connection for every request: the server closes it after its answer."""

    rate_unit, cost_unit = "connections/s", "us/connection"
    path = "/close"
    failures = False  # wrk counts a close by the server as a read error


class Bulk(Load):
    """One connection that carries as much as it can from the client to the server."""

    protocol, port = "tcp", 5201
    backends = BACKENDS[:1]  # iperf3's two connections must reach the same server
    rate_unit, rate_scale = "Gbit/s", 8e-9
    cost_unit, cost_scale = "s/GB", 1e9

    def serve(self) -> None:
        """Start one iperf3."""
        self.bed.spawn("servers", ["iperf3", "-s", "-p", str(self.port)], cpus=self.cpus)

    def run(self, address: str, seconds: int) -> Sample:
        """Send for `seconds`, and count the octets that arrived."""
        argv = ["iperf3", "-c", address, "-p", str(self.port), "-t", str(seconds), "-J"]
        done = self.bed.run("client", argv, timeout=seconds + 30, check=True, cpus=self.cpus)
        received = json.loads(done.stdout)["end"]["sum_received"]
        return Sample(received["bytes"], received["seconds"], 0, None)


LOADS: dict[str, type[Load]] = {"dns": Dns, "http": Http, "connect": Connect, "bulk": Bulk}
