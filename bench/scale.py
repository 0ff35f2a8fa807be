"""`python -m bench scale`: the cost of a unit of work against what is configured and what is open.

Every configuration has a daemon of its own.  Those of one group are up at once, beside a plain one, and are asked in turn;
the figure is the processor time of a daemon for each query or connection, divided by that of the plain one in the same
round.  Backends are ports of two servers, so that a thousand of them are real.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.compare import Step, held, raise_descriptors
from bench.configurations import FIRST_PORT, GROUPS, PROXIED_PORT, Configuration, plain
from bench.processor import Meter
from bench.results import Point
from bench.site import bench_bed, system_address
from bench.systems.base import DESCRIPTORS
from bench.systems.own import command
from bench.works import BACKENDS, Place, Work
from bench.works.dns import Dns, MixedNsd
from bench.works.http import Connect, Http
from tests.e2e.bed import Bed
from tests.e2e.daemon import Daemon
from tests.e2e.process import BedError, descendants
from tests.e2e.servers import Nginx

MOST = 1000  # backends
PATIENCE = 60.0  # s for a daemon with a thousand backends
KEPT = b"GET /small HTTP/1.1\r\nHost: bench\r\n\r\n"


class ManyNsd(MixedNsd):
    """Nsd on as many ports as there are backends."""

    def configure(self) -> None:
        """Add the ports."""
        super().configure()
        path = self.dir / "nsd.conf"
        ports = "".join(f"  ip-address: {self.addresses[0]}@{FIRST_PORT + n}\n" for n in range(MOST // 2))
        path.write_text(path.read_text().replace("server:\n", f"server:\n{ports}", 1))


class ManyNginx(Nginx):
    """Nginx on as many ports as there are backends, and on one port that wants PROXY headers."""

    def configure(self) -> None:
        """Add the ports."""
        super().configure()
        path = self.dir / "nginx.conf"
        address = self.addresses[0]
        ports = "".join(f"listen {address}:{FIRST_PORT + n}; " for n in range(MOST // 2))
        ports += f"listen {address}:{PROXIED_PORT} proxy_protocol; "
        path.write_text(path.read_text().replace("server {\n", f"server {{\n{ports}\n", 1))


@dataclass
class Subject:
    """A configuration with its daemon."""

    configuration: Configuration
    daemon: Daemon
    address: str

    def pids(self) -> list[int]:
        """Return the ids of its processes."""
        return descendants(self.daemon.proc.pid)


class Scaling:
    """Measures the groups."""

    def __init__(self, seconds: float, rounds: int, cpus: tuple[str, str], step: Step) -> None:
        self.seconds, self.rounds, self.cpus, self.step = seconds, rounds, cpus, step

    def all(self, names: Sequence[str]) -> list[Point]:
        """Return the points of these groups."""
        raise_descriptors()
        found: list[Point] = []
        for name in names:
            for load in GROUPS[name].loads:
                found += self.group(name, load)
        return found

    def group(self, name: str, load: str) -> list[Point]:
        """Measure one group with one load, on a bed of its own."""
        kinds: dict[str, type[Work]] = {"dns": Dns, "http": Http, "connect": Connect}
        with bench_bed() as bed:
            work = kinds[load](Place(bed, self.cpus[1]))
            try:
                for address in BACKENDS:
                    kind = ManyNsd if load == "dns" else ManyNginx
                    kind(bed, "servers", [address], name=address, cpus=self.cpus[1])
                rows = [plain(load), *GROUPS[name].configurations(load)]
                subjects = [self.start(bed, work, row, number) for number, row in enumerate(rows)]
                return self.measure(bed, work, name, subjects)
            except BedError:
                print(bed.report()[-8000:])
                raise

    def start(self, bed: Bed, work: Work, row: Configuration, number: int) -> Subject:
        """Start the daemon of a configuration."""
        self.step(f"{row.name} starts")
        address = system_address(number)
        daemon = Daemon(
            bed,
            "balancer",
            row.text(work, address, bed.dir),
            workers=row.workers,
            command=(command(),),
            cpus=self.cpus[0] if row.workers == 1 else None,
            nofile=DESCRIPTORS,
            patience=PATIENCE,
        )
        return Subject(row, daemon, address)

    def measure(self, bed: Bed, work: Work, name: str, subjects: Sequence[Subject]) -> list[Point]:
        """Run the rounds of one group."""
        meter = Meter(bed, "servers")
        points = [Point(name, subject.configuration.name, work.name) for subject in subjects]
        with contextlib.ExitStack() as stack:
            for subject in subjects:
                if count := subject.configuration.connections:
                    port = work.port if work.transport == "tcp" else 80
                    stack.enter_context(held(bed, subject.address, port, count, ask=KEPT))
                work.run(subject.address, 0.5)
            for number in range(self.rounds):
                costs = {}
                for place in self._order(number, len(subjects)):
                    subject = subjects[place]
                    self.step(f"{name}, {work.name}: round {number + 1}: {subject.configuration.name}")
                    meter.begin(subject.pids())
                    sample = work.run(subject.address, self.seconds)
                    used = meter.end()
                    if not sample.work:
                        raise BedError(f"{subject.configuration.name} answered nothing\n{subject.daemon.proc.report()}")
                    costs[place] = used.own / sample.work, used.others
                for place, point in enumerate(points):
                    point.cost.append(costs[place][0])
                    point.base.append(costs[0][0])
                    point.others.append(max(costs[place][1], costs[0][1]))
        return points

    @staticmethod
    def _order(number: int, count: int) -> Iterator[int]:
        for place in range(count):
            yield (place + number) % count


def runs(names: Sequence[str], rounds: int) -> int:
    """Return how many runs these groups take, for the progress bar."""
    return sum(rounds * (1 + len(GROUPS[name].configurations(load))) for name in names for load in GROUPS[name].loads)


__all__ = ["GROUPS", "Scaling", "runs"]
