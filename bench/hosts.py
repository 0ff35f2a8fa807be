"""The works between two real hosts: `server` runs the real servers on one, `client` asks balancers from another.

The balancer is a third host, or runs where the servers do.  Nothing here makes namespaces; `Here` is a bed without them.
"""

import contextlib
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.compare import Step
from bench.processor import account, clients_seconds, idle_seconds
from bench.ratios import half_load, median, quantile
from bench.results import Latency, Run, WorkResult
from bench.works import WORKS, Place, Work
from tests.e2e.bed import Bed, Host
from tests.e2e.process import BedError

HOST = "here"
MARK = re.compile(r"[A-Za-z][\w.-]*")


class Here(Bed):
    """A bed without namespaces: each of its processes runs on this host as it is."""

    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="bench-"))
        self.dir.chmod(0o755)
        self.hosts: dict[str, Host] = {}
        self.procs = []
        self._sockets: list[socket.socket] = []

    def enter(self, host: str) -> list[str]:
        """Return the start of a command: there is nothing to enter."""
        del host
        return []

    @contextlib.contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """Do nothing: there is nothing to enter."""
        del host
        yield

    def close(self) -> None:
        """End every process, then remove the files."""
        for proc in self.procs:
            proc.terminate()
        shutil.rmtree(self.dir, ignore_errors=True)


@dataclass(frozen=True)
class Target:
    """What the client asks: an address, and how it is called in the table."""

    name: str
    address: str

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Read "NAME=ADDRESS" or "ADDRESS". Raises ValueError."""
        name, equals, address = text.rpartition("=")
        if equals and not MARK.fullmatch(name):
            raise ValueError(f"{text!r}: a name has letters, digits, '.', '-' and '_'")
        socket.getaddrinfo(address, None, flags=socket.AI_NUMERICHOST)
        return cls(name or address, address)


def serve(addresses: Sequence[str], names: Sequence[str], tell: Callable[[str], None]) -> None:
    """Run the servers of these works on this host's addresses until SIGINT or SIGTERM."""
    bed = Here()
    try:
        with ended_by_signals():
            started: set[int] = set()
            for name in names:
                kind = WORKS[name]
                if kind.port not in started:  # dns, dns-tcp and udp have the same servers, and so have others
                    started.add(kind.port)
                    kind(Place(bed, None, HOST, HOST, tuple(addresses))).serve()
                    tell(f"{', '.join(kind.tools)}: port {kind.port} of {', '.join(addresses)}")
            tell("ready; SIGINT ends all")
            while True:
                time.sleep(1)
                for proc in bed.procs:
                    if not proc.alive:
                        raise BedError(f"a server has ended\n{proc.report()}")
    except KeyboardInterrupt:
        tell("ended")
    finally:
        bed.close()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM end the block as SIGINT does."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Asking:
    """How the client measures."""

    seconds: float = 1.0
    rounds: int = 5
    rate: float | None = None

    @property
    def latency_rounds(self) -> int:
        """How often each target is asked at the fixed rate."""
        return max(1, self.rounds // 2)


def ask(targets: Sequence[Target], names: Sequence[str], asking: Asking, step: Step) -> list[WorkResult]:
    """Return the results of these works, each target asked in turn; the first is the subject of the ratios."""
    bed = Here()
    try:
        return [ask_one(WORKS[name](Place(bed, None, HOST, HOST)), targets, asking, step) for name in names]
    finally:
        bed.close()


def ask_one(work: Work, targets: Sequence[Target], asking: Asking, step: Step) -> WorkResult:
    """Return the result of one work; its processor figures are those of this host, the client's."""
    result = WorkResult(work.name, work.unit)
    for number in range(asking.rounds):
        found = {}
        for target in turn(targets, number):
            step(f"{work.name}: round {number + 1} of {asking.rounds}: {target.name}")
            before = state()
            sample = work.run(target.address, asking.seconds)
            if not sample.work:
                raise BedError(f"{target.name} ({target.address}) answered nothing")
            used = account(*(after - earlier for after, earlier in zip(state(), before, strict=True)))
            rate = sample.work / sample.seconds
            found[target.name] = Run(rate, None, used.all / sample.work, used.others, sample.failed, sample.lost)
        result.rounds.append({target.name: found[target.name] for target in targets})
    if not work.has_latency:
        return result
    rates = {target.name: median(result.rounds, target.name, lambda run: run.rate) or 0.0 for target in targets}
    result.rate = asking.rate or half_load(rates, targets[0].name)
    for number in range(asking.latency_rounds):
        slow = {}
        for target in turn(targets, number):
            step(f"{work.name}: latency, round {number + 1} of {asking.latency_rounds}: {target.name}")
            before = state()
            times, failed = work.latencies(target.address, asking.seconds, result.rate)
            used = account(*(after - earlier for after, earlier in zip(state(), before, strict=True)))
            times.sort()
            slow[target.name] = Latency(
                quantile(times, 0.5), quantile(times, 0.99), quantile(times, 0.999), used.others, failed
            )
        result.latencies.append({target.name: slow[target.name] for target in targets})
    return result


def turn(targets: Sequence[Target], number: int) -> list[Target]:
    """Return the targets, another one first in each round."""
    start = number % len(targets)
    return [*targets[start:], *targets[:start]]


def state() -> tuple[float, float, float, float]:
    """Return what `account` compares, on a host where only the client runs."""
    return time.monotonic(), idle_seconds(), 0.0, clients_seconds()
