"""Keeps the last datagram of each UDP session while ICMP may still say that it was not delivered.  No I/O.

Laws:
- One datagram a session, the last one, until its backend says anything, and for `KEPT` seconds at most.
- All of them together have at most `MOST` octets: the oldest are forgotten first.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from proxy.relay.target import Target

KEPT = 1.0  # s: an ICMP error takes a round trip
MOST = 4 << 20  # octets

Holder = TypeVar("Holder", bound=Hashable)


class Unanswered(NamedTuple):
    """One datagram, the backends that had refused it before it was sent, and when that was (monotonic seconds)."""

    data: bytes
    tried: "tuple[Target, ...]"
    at: float


class UnansweredTable(Generic[Holder]):
    """What is kept, the oldest first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[Holder, Unanswered] = OrderedDict()
        self.size = 0
        """Octets of all that is kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, holder: Holder, data: bytes | memoryview, tried: "tuple[Target, ...]", now: float) -> None:
        """Keep a copy of a datagram that has just been sent, instead of the one before."""
        self.forget(holder)
        self._kept[holder] = Unanswered(bytes(data), tried, now)
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

    def take(self, holder: Holder, now: float) -> Unanswered | None:
        """Return a holder's datagram and let go of it; None if there is none, or its time is over."""
        kept = self._kept.get(holder)
        self.forget(holder)
        return kept if kept is not None and now - kept.at <= KEPT else None
