"""What every work has: its servers, its client, and how its figures are called."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.outputs import Sample
from bench.results import Unit
from tests.e2e.bed import Bed

BACKENDS = ("10.0.0.11", "10.0.0.12")
Argv = list[str | Path]
SPARE = 30.0  # s that a client may take beyond its run


@dataclass(frozen=True)
class Place:
    """Where a work runs: hosts of a bed, the addresses of the servers, and the processors of clients and servers."""

    bed: Bed
    cpus: str | None = None
    client: str = "client"
    servers: str = "servers"
    addresses: tuple[str, ...] = BACKENDS


class Work(ABC):
    """One kind of work; `protocol` is that of Steelyard's service."""

    name: ClassVar[str]
    about: ClassVar[str]
    port: ClassVar[int]
    transport: ClassVar[str] = "tcp"
    protocol: ClassVar[str] = "plain"
    single: ClassVar[bool] = False  # whether it can have one backend only
    has_latency: ClassVar[bool] = True
    connections_idle: ClassVar[bool] = False  # whether idle connections can be opened to its servers
    unit: ClassVar[Unit]
    tools: ClassVar[Sequence[str]]  # programs of client and servers, whose versions the result has

    def __init__(self, place: Place) -> None:
        self.place = place
        self.bed = place.bed
        self.backends = place.addresses[:1] if self.single else place.addresses
        self.files = Path(self.bed.dir)

    @abstractmethod
    def serve(self) -> None:
        """Start the servers, and return when they answer."""

    @abstractmethod
    def run(self, address: str, seconds: float) -> Sample:
        """Ask at `address` for `seconds`, as fast as the client can."""

    def latencies(self, address: str, seconds: float, rate: float) -> tuple[list[float], int]:
        """Ask at a fixed rate of units a second; return the latency of each unit in seconds, and how many failed."""
        raise NotImplementedError

    def ask(self, argv: Sequence[str | Path], seconds: float, *, check: bool = True) -> str:
        """Run a client to its end, and return what it printed."""
        done = self.bed.run(self.place.client, argv, timeout=seconds + SPARE, check=check, cpus=self.place.cpus)
        return done.stdout
