"""What every system has: an address, a start, its processes."""

import re
import resource
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from bench.systems.trees import HERE, Tree
from bench.works import Argv, Work
from tests.e2e.bed import Bed
from tests.e2e.process import BedError, EndedError, Proc, descendants, until

PATIENCE = 20.0
SELDOM = 3600  # s from one probe to the next: while one system is asked, the others must not use the processor
DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # the most that a process may have here


class System(ABC):
    """One balancer, or none, in front of the servers of a work; `variant` is an option that is not its default."""

    family: ClassVar[str]
    works: ClassVar[frozenset[str]]  # names of the works that it can do

    def __init__(self, tree: Tree = HERE, variant: str = "") -> None:
        self.tree, self.variant = tree, variant
        self.proc: Proc | None = None

    def __repr__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """Its name in tables: family, version and variant."""
        return " ".join(filter(None, (self.family, self.version, self.variant)))

    @property
    def version(self) -> str:
        """The version of the program, "" if it has none of its own."""
        return ""

    def fits(self, work: type[Work]) -> bool:
        """Return True if it can do this work."""
        return work.name in self.works

    def start(self, bed: Bed, work: Work, address: str, cpus: str) -> None:
        """Start it; return when clients of `address` are served."""
        self.bed, self.work, self.address, self.cpus = bed, work, address, cpus
        self.launch()

    @abstractmethod
    def launch(self) -> None:
        """Start it on the host `balancer`."""

    def pids(self) -> list[int]:
        """Return the ids of its processes; none if it is a part of the kernel."""
        return descendants(self.proc.pid) if self.proc else []

    def _file(self, text: str) -> Path:
        path = self.bed.dir / f"{re.sub(r'[^a-z0-9.]+', '-', self.label.lower())}.conf"
        path.write_text(text)
        return path

    def _spawn(self, program: str, *arguments: str | Path) -> None:
        """Start a program of the tree, and wait until its port is open."""
        argv: Argv = [*self.tree.command(program), *arguments]
        self.proc = proc = self.bed.spawn("balancer", argv, name=self.label, cpus=self.cpus, nofile=DESCRIPTORS)
        kind = "-u" if self.work.transport == "udp" else "-t"
        listening = ["ss", "-Hln", kind, f"src {self.address}:{self.work.port}"]

        def ready() -> bool:
            if not proc.alive:
                raise EndedError(proc.report())
            return bool(self.bed.run("balancer", listening).stdout)

        try:
            until(ready, PATIENCE, f"{self.label} to listen")
        except BedError as error:
            raise BedError(f"{error}\n{proc.report()}") from error
