"""Keeps the last datagram of each UDP session while an ICMP error may still report that it was not delivered.  No I/O.

Laws:
- It keeps one datagram a session, the last one, until the backend sends something, but at most for `KEPT` seconds.
- All datagrams together have at most `MOST` octets: the oldest are dropped first.
- The datagrams to one end (a backend at a port) are found together: an ICMP error about one of them applies to all.
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
    """One datagram, its end, the backends that refused it before, and the time it was sent (monotonic seconds)."""

    data: bytes
    end: Hashable
    tried: "tuple[Target, ...]"
    at: float


class UnansweredTable(Generic[Holder]):
    """The kept datagrams, the oldest first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[Holder, Unanswered] = OrderedDict()
        self._ends: dict[Hashable, dict[Holder, None]] = {}
        self.size = 0
        """The octets of all kept datagrams."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(
        self, holder: Holder, data: bytes | memoryview, end: Hashable, tried: "tuple[Target, ...]", now: float
    ) -> None:
        """Keep a copy of a datagram that has just been sent to an end, in place of the holder's earlier one."""
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
        """Drop a holder's datagram, if there is one."""
        kept = self._kept.pop(holder, None)
        if kept is not None:
            self.size -= len(kept.data)
            holders = self._ends[kept.end]
            del holders[holder]
            if not holders:
                del self._ends[kept.end]

    def holders(self, end: Hashable) -> list[Holder]:
        """Return the holders of unanswered datagrams to an end, the oldest first."""
        return list(self._ends.get(end, ()))

    def take(self, holder: Holder, now: float) -> Unanswered | None:
        """Remove and return a holder's datagram; None if there is none or it is too old."""
        kept = self._kept.get(holder)
        self.forget(holder)
        return kept if kept is not None and now - kept.at <= KEPT else None
