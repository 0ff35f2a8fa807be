"""One connection that carries as much as it can, from the client or to it: iperf3."""

from functools import partial

from bench.outputs import Sample, iperf3
from bench.results import Unit
from bench.works.base import Work
from tests.e2e.process import Proc, until


class BulkUp(Work):
    """From the client to the server."""

    name = "bulk-up"
    about = "iperf3, one connection from client to server"
    port = 5201
    single = True  # iperf3's two connections must reach the same server
    has_latency = False
    unit = Unit("Gbit/s", "s/GB", 8e-9, 1e9)
    tools = ("iperf3",)
    options: tuple[str, ...] = ()

    def serve(self) -> None:
        """Start one iperf3 for each address."""
        for address in self.place.addresses:
            argv = ["iperf3", "-s", "-B", address, "-p", str(self.port), "--forceflush"]
            proc = self.bed.spawn(self.place.servers, argv, cpus=self.place.cpus)
            until(partial(listening, proc), 10, f"iperf3 on {address}")

    def run(self, address: str, seconds: float) -> Sample:
        """Send for `seconds`, and count the octets that arrived."""
        argv = ["iperf3", "-c", address, "-p", str(self.port), "-t", str(max(1, round(seconds))), "-J", *self.options]
        return iperf3(self.ask(argv, seconds))


class BulkDown(BulkUp):
    """From the server to the client."""

    name = "bulk-down"
    about = "iperf3, one connection from server to client"
    options = ("-R",)


def listening(proc: Proc) -> bool:
    """Return True if iperf3 has said that it listens."""
    return "listening" in proc.output()
