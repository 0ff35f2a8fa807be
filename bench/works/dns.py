"""DNS over UDP and TCP, and the same datagrams as UDP sessions: dnsperf and nsd.

The queries are mixed in the sizes of names and of answers, and some names do not exist.  `udp` has the same client and
servers, but the balancer does not know that the datagrams are DNS: it relays sessions, one for each of dnsperf's sockets.
"""

from typing import ClassVar

from bench.outputs import Sample, dnsperf, dnsperf_latencies
from bench.results import Unit
from bench.works.base import Argv, Work
from tests.e2e.servers import Nsd

HOSTS = 400
LONG = "a-host-with-a-long-name-{}.of-some-department.in-the-main-building.example.net"
TIMEOUT = 1  # s without an answer after which a query is lost


def zone_lines() -> list[str]:
    """Return records beside those of the bed's zone: long names with IPv6 addresses, and texts of several sizes."""
    lines = [f"{LONG.format(number)}. 300 IN AAAA 2001:db8::{number:x}" for number in range(HOSTS)]
    for size in (250, 600, 1100):
        parts = " ".join(f'"{"x" * min(200, size - at)}"' for at in range(0, size, 200))
        lines.append(f"text{size}.example.net. 300 IN TXT {parts}")
    return lines


def query_lines(number: int = 2000) -> list[str]:
    """Return queries for dnsperf: of ten, five short, two long, two for texts (of which one is short), one missing."""
    kinds = (
        "h{host}.example.net A",
        "h{host}.example.net A",
        f"{LONG.format('{host}')} AAAA",
        "h{host}.example.net A",
        "nothing-{n}.example.net A",
        "h{host}.example.net A",
        "text250.example.net TXT",
        f"{LONG.format('{host}')} AAAA",
        "h{host}.example.net A",
        "{text}.example.net TXT",
    )
    return [
        kinds[n % len(kinds)].format(n=n, host=n % HOSTS, text="text1100" if n % 20 == 19 else "text600")  # noqa: PLR2004
        for n in range(number)
    ]


class MixedNsd(Nsd):
    """Nsd with more records, of more sizes."""

    def configure(self) -> None:
        """Add to the zone of the bed."""
        super().configure()
        with (self.dir / "zone").open("a") as zone:
            zone.write("\n".join(zone_lines()) + "\n")


class Dns(Work):
    """Queries over UDP."""

    name = "dns"
    about = "dnsperf, 200 unanswered queries on 20 sockets; two nsd; names and answers of several sizes, 10 % misses"
    port, transport, protocol = 53, "udp", "dns"
    unit = Unit("queries/s", "us/query")
    tools = ("dnsperf", "nsd")
    mode: ClassVar[str] = "udp"
    sockets: ClassVar[int] = 20

    def serve(self) -> None:
        """Start one nsd for each address."""
        for address in self.backends:
            MixedNsd(self.bed, self.place.servers, [address], name=address, cpus=self.place.cpus)

    def _argv(self, address: str, seconds: float, *more: str) -> Argv:
        queries = self.files / "mixed-queries"
        if not queries.exists():
            queries.write_text("\n".join(query_lines()) + "\n")
        argv: Argv = ["dnsperf", "-W", "-e", "-s", address, "-p", str(self.port), "-d", queries]
        argv += ["-l", f"{seconds:g}", "-c", str(self.sockets), "-T", "1", "-m", self.mode, "-b", "2048"]
        return [*argv, "-t", str(TIMEOUT), *more]

    def run(self, address: str, seconds: float) -> Sample:
        """Send queries as fast as 200 unanswered ones allow."""
        return dnsperf(self.ask(self._argv(address, seconds, "-q", "200"), seconds))

    def latencies(self, address: str, seconds: float, rate: float) -> tuple[list[float], int]:
        """Send queries at a fixed rate; dnsperf -v prints the latency of each."""
        text = self.ask(self._argv(address, seconds, "-q", "5000", "-Q", f"{rate:.0f}", "-v"), seconds)
        sample = dnsperf(text)
        return dnsperf_latencies(text), sample.failed + sample.lost


class DnsTcp(Dns):
    """Queries over kept TCP connections."""

    name = "dns-tcp"
    about = "the same over 20 TCP connections"
    transport = "tcp"
    mode = "tcp"


class Udp(Dns):
    """Datagrams of UDP sessions."""

    name = "udp"
    about = "the same datagrams, relayed as UDP sessions without knowledge of DNS; 100 sessions"
    protocol = "plain"
    unit = Unit("exchanges/s", "us/exchange")
    sockets = 100
