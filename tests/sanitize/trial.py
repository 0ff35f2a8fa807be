"""A relay whose system calls fail, and what must be true of it afterwards.

Each case lets one call fail in one way, the first time or with a chance, while traffic passes; then everything works
again.  A trial of a protocol makes the traffic and says what it got.  Invariants of all:

- The process lives, and no handler raised an exception.
- Nobody gets what is not meant for them: each answer belongs to its question, each stream is a prefix of what was sent.
- Each datagram and each connection is in a counter: what got no answer is counted under the name of its end.
- Afterwards the gauges are 0, the descriptors are those from before, and all traffic passes.
"""

import contextlib
import errno
import gc
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import uvloop

from proxy.stats.layout import BACKEND_CELLS, SERVICE_CELLS
from tests.proxy.relay.conftest import LAYOUT, Relay
from tests.sanitize.faults import SHORT, WAYS, Faults

CHANCE = 0.3
ALLOCATIONS = 40  # of native modules, from the start of the traffic on
SETTLES = 5.0  # s within which the relay must be at rest


@dataclass(frozen=True)
class Case:
    """One call that fails in one way."""

    call: str
    way: int
    chance: float = 0.0
    nth: int = 0

    def __str__(self) -> str:
        way = "short" if self.way == SHORT else errno.errorcode[self.way]
        return f"{self.call} {way} " + (f"the {self.nth}. time" if self.nth else f"with a chance of {self.chance:g}")


class Trial(ABC):
    """One relay with one service of a protocol, for one case after another or for one alone."""

    protocol: str

    def __init__(self, faults: Faults, seed: int = 1) -> None:
        """Start the relay and its backends; no call fails yet."""
        self.faults = faults
        self.descriptors = descriptors()
        self.relay = Relay()
        self.prepare()
        self.relay.start()
        self.relay.call(faults.here)
        self.relay.call(lambda: faults.seed(seed))

    # -- what a protocol does

    @abstractmethod
    def prepare(self) -> None:
        """Add the service."""

    @abstractmethod
    def traffic(self) -> list[str]:
        """Make traffic, wait until it is over, and return what was wrong with what came back, in words."""

    @abstractmethod
    def balance(self, before: "Counters", after: "Counters") -> Iterator[str]:
        """Yield what does not add up between two times at which nothing was under way."""

    @abstractmethod
    def works(self) -> bool:
        """Return True if all of some ordinary traffic passes."""

    @abstractmethod
    def stop(self) -> None:
        """End the backends."""

    def settle(self) -> None:  # noqa: B027 - not every protocol needs it
        """End what would only end by itself much later."""

    # -- what all do

    def made(self) -> list[str]:
        """Return the calls that the traffic makes from the relay's start on."""
        # A rule that never applies: allocations are counted only where there is one.
        self.relay.call(lambda: self.faults.rule("memory", errno.ENOMEM))
        before = {call: self.faults.seen(call) for call in WAYS}
        self.traffic()
        self.at_rest()
        return [call for call in WAYS if self.faults.seen(call) > before[call]]

    def attempt(self, cases: Iterable[Case]) -> list[str]:
        """Make traffic while the calls of these cases fail; return what was wrong."""
        before = self.counters()

        def begin() -> None:
            for case in cases:
                self.faults.rule(case.call, case.way, case.chance, case.nth)

        self.relay.call(begin)
        try:
            wrong = self.traffic()
        finally:
            self.relay.call(self.faults.clear)
        wrong += self.at_rest()
        wrong += self.balance(before, self.counters())
        if self.relay.faults and all(case.call != "memory" for case in cases):
            wrong.append(f"{self.relay.faults} exceptions of handlers")
        if not self.works():
            wrong.append("it does not work afterwards")
        return wrong + [f"after that, {one}" for one in self.at_rest()]

    def counters(self) -> "Counters":
        """Return the service's and its backends' counters."""
        return Counters(self.relay)

    def at_rest(self) -> list[str]:
        """Wait until nothing is under way; return the gauges that say that something is."""
        deadline = time.monotonic() + SETTLES
        while True:
            self.settle()
            left = self.counters().gauges()
            if not left:
                return []
            if time.monotonic() > deadline:
                return [f"{name} stays at {value}" for name, value in left.items()]
            time.sleep(0.01)

    def close(self) -> list[str]:
        """End everything; return what is left."""
        self.relay.call(self.faults.clear)
        self.relay.call(lambda: self.faults.here(on=False))
        self.stop()
        with contextlib.suppress(AssertionError):  # it had exceptions, which were looked at already
            self.relay.close()
        del self.relay  # pooled pipes are closed with the engine
        gc.collect()
        left = descriptors() - self.descriptors
        return [f"descriptors are left: {sorted(left)}"] if left else []


def cases(calls: Iterable[str], *, brief: bool = False) -> list[Case]:
    """Return the cases of these calls: each way to fail, the first time and (unless `brief`) with a chance.

    Of the allocations each of the first ones fails in turn.
    """
    found = []
    for call in calls:
        turns = ALLOCATIONS if call == "memory" else 1
        for way in WAYS[call]:
            found += [Case(call, way, nth=turn) for turn in range(1, turns + 1, 3 if brief else 1)]
            if not brief:
                found.append(Case(call, way, chance=CHANCE))
    return found


class Counters:
    """The counters of a relay's only service at one time."""

    def __init__(self, relay: Relay) -> None:
        """Read them."""
        cells = relay.table.cells
        base = LAYOUT.service(0)
        self.service = {name: cells[base + at] for at, (name, _) in enumerate(SERVICE_CELLS)}
        self.backends = [
            {name: cells[LAYOUT.backend(one.slot) + at] for at, (name, _) in enumerate(BACKEND_CELLS)}
            for one in relay.services[0].backends
        ]

    def gauges(self) -> dict[str, int]:
        """Return the gauges that are not 0."""
        kinds = [
            ("", SERVICE_CELLS, self.service),
            *((f"backend {at}: ", BACKEND_CELLS, cells) for at, cells in enumerate(self.backends)),
        ]
        return {
            who + name: cells[name]
            for who, table, cells in kinds
            for name, kind in table
            if kind == "gauge" and cells[name]
        }

    def since(self, before: "Counters", *names: str) -> int:
        """Return by how much these counters of the service have grown, together."""
        return sum(self.service[name] - before.service[name] for name in names)

    def backends_since(self, before: "Counters", *names: str) -> int:
        """Return by how much these counters of all backends have grown, together."""
        return sum(
            now[name] - then[name] for now, then in zip(self.backends, before.backends, strict=True) for name in names
        )


def descriptors() -> set[int]:
    """Return the descriptors of this process, with those that its first event loop opens for good."""
    _first_loop()
    found = {int(number) for number in os.listdir("/proc/self/fd")}  # noqa: PTH208 - names, not paths
    return {number for number in found if os.path.exists(f"/proc/self/fd/{number}")}  # noqa: PTH110


@cache
def _first_loop() -> None:
    uvloop.new_event_loop().close()
