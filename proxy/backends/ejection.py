"""Passive ejection: which backends a service leaves out for a while because real traffic fails on them.  Pure.

The rules are those of Envoy's outlier detection: each ejection in a row is longer by `time`, up to `LONGEST`; each `time`
that a backend spends without one makes the next one shorter again; of the service's backends at most `max-share` are out
at a time, but one may always be, and never the last that could serve.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

LONGEST = 300.0  # s, or `time` where that is longer


@dataclass(slots=True)
class Record:
    """One backend's: out until `until` (monotonic seconds), for the `count`th time in a row."""

    until: float
    count: int
    out: bool = True


class Ejections:
    """The ejected backends of one service."""

    def __init__(self, size: int, time: float, max_share: float) -> None:
        """Begin for a service of `size` backends."""
        self.most = 1
        """How many backends may be ejected at a time."""
        self.adapt(size, time, max_share)
        self._records: dict[str, Record] = {}

    @property
    def out(self) -> list[str]:
        """The backends that are ejected now."""
        return [name for name, record in self._records.items() if record.out]

    @property
    def next_deadline(self) -> float | None:
        """When the first of them comes back (monotonic seconds); None if none does."""
        return min((record.until for record in self._records.values() if record.out), default=None)

    def adapt(self, size: int, time: float, max_share: float) -> None:
        """Take note of how many backends the service has now, and of other settings; ejected ones stay ejected."""
        self._time = time
        self._max_share = max_share
        self.most = max(1, int(size * max_share + 1e-9))

    def eject(self, name: str, usable: Collection[str], now: float) -> float | None:
        """Eject a backend, `usable` being all that could serve; return for how long (s), None if it must stay."""
        out = self.out
        if name in out or len(out) >= self.most or not set(usable).difference(out, (name,)):
            return None
        before = self._records.get(name)
        count = 1
        if before is not None:
            count = max(0, before.count - int((now - before.until) / self._time)) + 1
        period = min(self._time * count, max(LONGEST, self._time))
        self._records[name] = Record(now + period, count)
        return period

    def forget(self, name: str) -> bool:
        """Forget all about a backend; returns True if it was ejected."""
        record = self._records.pop(name, None)
        return record is not None and record.out

    @property
    def records(self) -> Mapping[str, Record]:
        """The backends that are ejected, and those that were."""
        return self._records

    def restore(self, name: str, record: Record) -> None:
        """Take a backend's record from a predecessor of this daemon."""
        self._records[name] = record

    def over(self, now: float) -> list[str]:
        """Let the backends back whose time is over; return their names."""
        back = [name for name in self.out if self._records[name].until <= now]
        for name in back:
            self._records[name].out = False
        return back

    def release(self, usable: Collection[str], now: float) -> list[str]:
        """Let all backends back if no other backend could serve any more; return their names."""
        out = self.out
        if not out or set(usable).difference(out):
            return []
        for name in out:
            self._records[name].out = False
            self._records[name].until = now
        return out
