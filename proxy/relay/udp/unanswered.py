"""Keeps the last datagram of each UDP session while ICMP may still say that it was not delivered.  No I/O.

Laws:
- One datagram a session, the last one, until its backend says anything, and for `KEPT` seconds at most.
- All of them together have at most `MOST` octets: the oldest are forgotten first.
- Those of one end, a backend at a port, are found together: what ICMP says of one of them is true of all.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from proxy.relay.target import Target

KEPT = 1.5  # s: an ICMP error takes a round trip, and a host sends about one a second (icmp_ratelimit, icmp(7))
MOST = 4 << 20  # octets

Holder = TypeVar("Holder", bound=Hashable)


class Unanswered(NamedTuple):
    """One datagram, its end, the backends that had refused it before, and when it was sent (monotonic seconds)."""

    data: bytes
    end: Hashable
    tried: "tuple[Target, ...]"
    at: float


class UnansweredTable(Generic[Holder]):
    """What is kept, the oldest first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[Holder, Unanswered] = OrderedDict()
        self._ends: dict[Hashable, dict[Holder, None]] = {}
        self.size = 0
        """Octets of all that is kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(
        self, holder: Holder, data: bytes | memoryview, end: Hashable, tried: "tuple[Target, ...]", now: float
    ) -> None:
        """Keep a copy of a datagram that has just been sent to an end, instead of the one before."""
        self.forget(holder)
        self._kept[holder] = Unanswered(bytes(data), end, tried, now)
        self._ends.setdefault(end, {})[holder] = None
        self.size += len(data)
        while self._kept:
            oldest = next(iter(self._kept))
            if self.size <= self._most and now - self._kept[oldest].at <= KEPT:
                break
            self.forget(oldest)

    def forget(self, holder: Holder) -> None:
        """Let go of a holder's datagram, if there is one."""
        kept = self._kept.pop(holder, None)
        if kept is not None:
            self.size -= len(kept.data)
            holders = self._ends[kept.end]
            del holders[holder]
            if not holders:
                del self._ends[kept.end]

    def holders(self, end: Hashable) -> list[Holder]:
        """Return who has something unanswered at an end, the oldest first."""
        return list(self._ends.get(end, ()))

    def take(self, holder: Holder, now: float) -> Unanswered | None:
        """Return a holder's datagram and let go of it; None if there is none, or its time is over."""
        kept = self._kept.get(holder)
        self.forget(holder)
        return kept if kept is not None and now - kept.at <= KEPT else None
