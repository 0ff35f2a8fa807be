"""`python -m bench compare`: all systems are up at once, and each is asked in turn, in runs of a second.

For each work: start the servers and the systems, measure memory and idle connections, ask every system once to warm up,
then run the rounds.  In each round every system is asked once; the order rotates.  At last the latencies, at one rate for
all systems: half the load (`bench.ratios.half_load`).
"""

import resource
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.processor import Meter, memory, runtime
from bench.ratios import Measured, fewest_quiet, half_load, median, quantile
from bench.results import Latency, Run, WorkResult
from bench.site import bench_bed, shape, system_address
from bench.systems import SUBJECT, System, Tree, catalog
from bench.systems.trees import HERE
from bench.works import WORKS, Place, Work
from tests.e2e.bed import Bed
from tests.e2e.process import BedError

SETTLE = 1.0  # s after the start in which nothing is asked, and what the idle systems use is measured
WARM = 0.5  # s
LONGEST = 3  # times the rounds
FIRST_CONNECTIONS = 50  # opened before the memory is read: the first of all allocate what all of them share

Step = Callable[[str], None]  # called after each run with what comes next


@dataclass(frozen=True)
class Options:
    """How to measure."""

    seconds: float = 1.0
    rounds: int = 5
    quiet: int = 0  # quiet pairs for which rounds are added, up to LONGEST times as many
    peers: Sequence[str] = ()
    trees: Sequence[Tree] = (HERE,)
    balancer_cpu: str = "0"
    other_cpus: str = "0"
    gigabit: bool = False
    rate: float | None = None  # of the runs for latency; None: half load
    connections: int = 2000  # idle ones, for their memory; 0: do not measure it
    names: Sequence[str] = field(default_factory=lambda: tuple(WORKS))

    @property
    def latency_rounds(self) -> int:
        """How often each system is asked at the fixed rate."""
        return max(1, self.rounds // 2)

    def runs(self, work: type[Work]) -> int:
        """Return how many runs a work takes, for the progress bar."""
        systems = len(catalog(work, self.trees, self.peers))
        return systems * (1 + self.rounds + (self.latency_rounds if work.has_latency else 0))


def raise_descriptors() -> None:
    """Allow this process as many open files as it may have: it holds the idle connections."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def wanted(rounds: Sequence[Mapping[str, Measured]], least: int, quiet: int) -> bool:
    """Return True if there are fewer than `least` rounds, or too few with `quiet` quiet pairs of every peer."""
    return len(rounds) < least or (len(rounds) < LONGEST * least and fewest_quiet(rounds) < quiet)


def compare(options: Options, step: Step) -> Iterator[WorkResult]:
    """Yield the result of each work when it is done."""
    for name in options.names:
        yield measure(WORKS[name], options, step)


def measure(kind: type[Work], options: Options, step: Step) -> WorkResult:
    """Return the result of one work, on a bed of its own."""
    result = WorkResult(kind.name, kind.unit)
    with bench_bed() as bed:
        if options.gigabit:
            shape(bed)
        work = kind(Place(bed, options.other_cpus))
        try:
            work.serve()
            systems = catalog(kind, options.trees, options.peers)
            for number, system in enumerate(systems):
                step(f"{kind.name}: {system.label} starts")
                system.start(bed, work, system_address(number), options.balancer_cpu)
            rest(systems, result)
            if kind.connections_idle and options.connections:
                measure_idle(bed, work, systems, options.connections, result)
            Asker(bed, work, systems, step).all(options, result)
        except BedError:
            print(bed.report()[-8000:])
            raise
    return result


def rest(systems: Sequence[System], result: WorkResult) -> None:
    """Note what each system has in memory after its start, and what it uses while nobody asks it."""
    before = {system.label: runtime(system.pids()) for system in systems}
    time.sleep(SETTLE)
    for system in systems:
        if pids := system.pids():
            result.resting[system.label] = (runtime(pids) - before[system.label]) / SETTLE
            result.memory[system.label] = memory(pids)


class Asker:
    """Asks systems in turn."""

    def __init__(self, bed: Bed, work: Work, systems: Sequence[System], step: Step) -> None:
        self.work, self.systems, self.step = work, systems, step
        self.meter = Meter(bed, "servers")

    def all(self, options: Options, result: WorkResult) -> None:
        """Warm up, run the rounds, then the rounds at a fixed rate."""
        name = self.work.name
        for system in self._turn(0, f"{name}: warm up"):
            sample = self.work.run(system.address, WARM)
            if not sample.work:
                raise BedError(f"{system.label} answered nothing: {sample}")
        while wanted(result.rounds, options.rounds, options.quiet):
            number = len(result.rounds)
            found = {
                system.label: self.run(system, options.seconds)
                for system in self._turn(number, f"{name}: round {number + 1}")
            }
            result.rounds.append({system.label: found[system.label] for system in self.systems})
        if not self.work.has_latency:
            return
        rates = {one.label: median(result.rounds, one.label, lambda run: run.rate) or 0.0 for one in self.systems}
        result.rate = options.rate or half_load(rates, self.systems[0].label)
        while wanted(result.latencies, options.latency_rounds, min(options.quiet, options.latency_rounds)):
            number = len(result.latencies)
            slow = {
                system.label: self.latency(system, options.seconds, result.rate)
                for system in self._turn(number, f"{name}: latency, round {number + 1}")
            }
            result.latencies.append({one.label: slow[one.label] for one in self.systems})

    def _turn(self, number: int, title: str) -> Iterator[System]:
        """Yield the systems, another one first in each round."""
        start = number % len(self.systems)
        for system in [*self.systems[start:], *self.systems[:start]]:
            self.step(f"{title}: {system.label}")
            yield system

    def run(self, system: System, seconds: float) -> Run:
        """Ask one system as fast as the client can."""
        pids = system.pids()
        self.meter.begin(pids)
        sample = self.work.run(system.address, seconds)
        used = self.meter.end()
        work = max(sample.work, 1.0)
        own = used.own / work if pids else None
        rate = sample.work / sample.seconds
        return Run(rate, own, used.all / work, used.others, sample.failed, sample.lost)

    def latency(self, system: System, seconds: float, rate: float) -> Latency:
        """Ask one system at a fixed rate."""
        self.meter.begin(system.pids())
        found, failed = self.work.latencies(system.address, seconds, rate)
        used = self.meter.end()
        if not found:
            raise BedError(f"{system.label} answered nothing at {rate:.0f} a second")
        found.sort()
        return Latency(quantile(found, 0.5), quantile(found, 0.99), quantile(found, 0.999), used.others, failed)


@contextmanager
def held(bed: Bed, address: str, port: int, count: int, *, ask: bytes = b"") -> Iterator[list[socket.socket]]:
    """Hold `count` connections of the client for the block; each sends `ask` first, if any, and reads an answer."""
    sockets: list[socket.socket] = []
    try:
        with bed.inside("client"):
            for _ in range(count):
                sock = socket.create_connection((address, port), 5)
                sockets.append(sock)
                if ask:
                    sock.sendall(ask)
                    sock.recv(65536)
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def measure_idle(bed: Bed, work: Work, systems: Sequence[System], count: int, result: WorkResult) -> None:
    """Note how much memory each of `count` idle connections takes in the processes of each system."""
    raise_descriptors()
    for system in systems:
        pids = system.pids()
        if not pids:
            continue
        with held(bed, system.address, work.port, FIRST_CONNECTIONS):
            time.sleep(SETTLE / 2)
            before = memory(pids)
            with held(bed, system.address, work.port, count):
                time.sleep(SETTLE / 2)
                result.idle[system.label] = (memory(pids) - before) / count


__all__ = ["SUBJECT", "Options", "compare", "held", "measure", "raise_descriptors"]
