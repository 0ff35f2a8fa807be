"""What a soak found, as figures, as what is wrong with them, and as words; no I/O."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.watch import Seen, Told, changes, gaps

LATEST = 2.5  # advert intervals that may lie between two adverts on the wire: at three the other host takes over
BUSY = 0.9  # of the processors' time, below which nothing was soaked


@dataclass(frozen=True)
class Found:
    """What was seen between `begin` and `end` (wall clock): adverts of `source`, and of others; words of the kernels."""

    interval: float
    begin: float
    end: float
    source: str
    adverts: Sequence[Seen]
    told: Sequence[Told]  # since the start of the daemons
    since: float  # monotonic: the begin
    moves: Sequence[str]  # of both hosts, after the begin
    holders: Sequence[str]  # at the end
    busy: float  # share of all processors' time
    priorities: Sequence[int]  # of the adverts, each once

    @property
    def advert_gaps(self) -> list[float]:
        """Seconds between two adverts of the active host, from the begin to the end."""
        return gaps([one.at for one in self.adverts if one.source == self.source], self.begin, self.end)

    @property
    def lease_gaps(self) -> list[float]:
        """Seconds between two refreshes of the address."""
        return gaps([one.at for one in self.told if one.present and one.at >= self.since])

    def wrong(self) -> list[str]:
        """Return what is not as it must be, in words."""
        found = [f"the address moved: {move}" for move in self.moves]
        moved = [one for one in changes(self.told) if one.at >= self.since]
        found += [f"{one.host} {'took' if one.present else 'lost'} the address" for one in moved]
        if list(self.holders) != ["a"]:
            found.append(f"the address is on {', '.join(self.holders) or 'nobody'}")
        others = sum(one.source != self.source for one in self.adverts)
        if others:
            found.append(f"{others} adverts of another host")
        largest = max(self.advert_gaps)
        if largest > LATEST * self.interval:
            found.append(f"{largest * 1e3:.1f} ms between two adverts, {LATEST * self.interval * 1e3:.0f} are allowed")
        if self.busy < BUSY:
            found.append(f"the processors were busy for {self.busy:.0%} only: nothing was soaked")
        return found

    def report(self) -> list[str]:
        """Return lines for people."""
        spaces = sorted(self.advert_gaps)
        late = spaces[min(len(spaces) - 1, int(len(spaces) * 0.999))]
        figures = (
            f"median {statistics.median(spaces) * 1e3:.1f}, 99.9 % {late * 1e3:.1f}, largest {spaces[-1] * 1e3:.1f} ms"
        )
        expected = (self.end - self.begin) / self.interval
        return [
            f"{self.end - self.begin:.0f} s, processors busy {self.busy:.1%}",
            f"adverts {len(spaces) - 1} of {expected:.0f}, priority {', '.join(map(str, self.priorities)) or 'none'}",
            f"between two of them: {figures}, at an interval of {self.interval * 1e3:.0f} ms",
            f"largest time between two refreshes of the lease {max(self.lease_gaps, default=0.0):.3f} s",
            f"moves {len(self.moves)}, the address on {', '.join(self.holders) or 'nobody'}",
        ]
