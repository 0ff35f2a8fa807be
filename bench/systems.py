"""The systems under test: Steelyard, its peers, and no balancer at all, each with one thread and fair defaults.

Each run starts its system anew, on the balancer's host and processor.  A system has the address and port at which the
client finds the service.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.bed import INSIDE, SERVICE, Bed
from tests.e2e.daemon import Daemon
from tests.e2e.process import Proc, until

PATIENCE = 10.0


class System(ABC):
    """One balancer, or none, in front of `backends` (addresses) on `port`."""

    name: str
    protocols: tuple[str, ...]

    def __init__(self, bed: Bed, protocol: str, backends: Sequence[str], port: int, cpus: str) -> None:
        self.bed, self.protocol, self.backends, self.port, self.cpus = bed, protocol, list(backends), port, cpus
        self.address = SERVICE
        self.proc: Proc | None = None
        self.start()

    @abstractmethod
    def start(self) -> None:
        """Start the system, and return when its port is open."""

    def cpu_seconds(self) -> float:
        """Return the processor time of all processes of the system so far, in seconds."""
        return self.proc.cpu_seconds() if self.proc else 0.0

    def stop(self) -> None:
        """Stop the system."""
        if self.proc:
            self.proc.terminate()

    def _spawn(self, argv: Sequence[str | Path]) -> None:
        self.proc = self.bed.spawn("balancer", argv, cpus=self.cpus)
        kind = "-u" if self.protocol == "dns" else "-t"
        listening = ["ss", "-Hln", kind, f"sport = :{self.port}"]
        until(lambda: self.bed.run("balancer", listening).stdout, PATIENCE, f"{self.name} to listen")

    def _file(self, text: str) -> Path:
        path = self.bed.dir / f"{self.name}.conf"
        path.write_text(text)
        return path


class Direct(System):
    """No balancer: the client sends to the first backend, and the balancer's host only routes."""

    name = "none"
    protocols = ("dns", "tcp")

    def start(self) -> None:
        """Point the client at the backend."""
        self.address = self.backends[0]


class Steelyard(System):
    """The installed command, one worker."""

    name = "steelyard"
    protocols = ("dns", "tcp")

    def start(self) -> None:
        """Start the daemon, and wait until every backend has a verdict."""
        transport = "udp" if self.protocol == "dns" else "tcp"
        probe = '{ type = "dns", query = "example.net SOA" }' if self.protocol == "dns" else '{ type = "tcp" }'
        names = ", ".join(f'"{address}"' for address in self.backends)
        text = f"""
[service.bench]
listen   = ["{SERVICE}:{self.port}/{transport}"]
protocol = "{"dns" if self.protocol == "dns" else "plain"}"
backends = [{names}]
probe    = {probe}
"""
        command = Path(sys.executable).with_name("steelyard")
        self.daemon = Daemon(self.bed, "balancer", text, workers=1, command=(str(command),), cpus=self.cpus)
        self.proc = self.daemon.proc


class Dnsdist(System):
    """Dnsdist with one listener (so one thread in each direction), no cache, and its default policy."""

    name = "dnsdist"
    protocols = ("dns",)

    def start(self) -> None:
        """Start it in the foreground."""
        servers = "\n".join(
            f'newServer{{address="{address}:{self.port}", checkName="example.net.", checkType="SOA"}}'
            for address in self.backends
        )
        text = f'setLocal("{SERVICE}:{self.port}")\nsetACL({{"0.0.0.0/0"}})\nsetServerPolicy(leastOutstanding)\n{servers}\n'
        self._spawn(["dnsdist", "--supervised", "--disable-syslog", "-C", self._file(text)])


class Haproxy(System):
    """HAProxy with one thread, mode tcp, leastconn, and checks of the backends every 2 s, like Steelyard's."""

    name = "haproxy"
    protocols = ("tcp",)

    def start(self) -> None:
        """Start it in the foreground."""
        servers = "\n".join(f"  server s{n} {a}:{self.port} check inter 2s" for n, a in enumerate(self.backends))
        text = f"""global
  nbthread 1
  maxconn 8000
defaults
  mode tcp
  timeout connect 3s
  timeout client 1h
  timeout server 1h
listen bench
  bind {SERVICE}:{self.port} backlog 4096
  balance leastconn
{servers}
"""
        self._spawn(["haproxy", "-db", "-f", self._file(text)])


SYSTEMS: dict[str, type[System]] = {system.name: system for system in (Steelyard, Dnsdist, Haproxy, Direct)}


def bench_bed() -> Bed:
    """Return client, balancer and servers: three namespaces, connected by two cables without a switch."""
    bed = Bed()
    try:
        for name in ("client", "balancer", "servers"):
            bed.host(name, forward=name == "balancer")
        bed.wire("client", "balancer", ["198.51.100.2/24"], [f"{SERVICE}/24"])
        bed.wire("balancer", "servers", [f"{INSIDE}/24"], ["10.0.0.11/24", "10.0.0.12/24"])
        bed.route("client", "10.0.0.0/24", SERVICE)
        bed.route("servers", "default", INSIDE)
    except BaseException:
        bed.close()
        raise
    return bed
