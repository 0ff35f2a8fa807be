"""Finds backends that serve older data than the rest of their service.  Pure, `now` in monotonic seconds.

A probe can return a value with its outcome: for a DNS server the serial of a zone, for a directory the time of its last
change.  A backend that is too far behind the best of the service's other backends fails, although it answered.  The
comparison uses only backends that are in service: newer data on a dead backend is no reason to give up the others.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from health.spec import DnsProbe, LdapProbe, ProbeBase
from health.units import format_duration

SERIALS = 1 << 32  # RFC 1982 with SERIAL_BITS 32, as RFC 1035 has it for SOA


@dataclass(frozen=True, slots=True)
class Peer:
    """Another backend of the service, and its last value."""

    name: str
    value: float


def subject(spec: ProbeBase) -> str | None:
    """Return the subject of `spec`'s value, None if it has no value.  Values of the same subject can be compared."""
    if isinstance(spec, DnsProbe) and spec.qtype == "SOA":
        return f"serial {spec.qname.lower().rstrip('.')}"
    if isinstance(spec, LdapProbe) and spec.max_lag is not None:
        return f"contextCSN {(spec.base or '').lower()}"
    return None


def serial_behind(serial: int, other: int) -> int:
    """Return by how much `serial` is behind `other`, 0 if it is not (RFC 1982, section 3.2).

    Two serials that are half the number space apart have no order: neither is behind.
    """
    distance = (other - serial) % SERIALS
    return distance if distance < SERIALS // 2 else 0


@dataclass(frozen=True, slots=True)
class Sample:
    """The result of a single run on one backend of `service`; `value` is None if the run found no value.

    `serves` is False if the backend fails: a failed backend is no reason to give up the others.
    """

    service: str
    name: str
    spec: ProbeBase
    value: float | None
    serves: bool = True


def lagging(samples: Sequence[Sample]) -> list[str]:
    """Return for each sample why it is too far behind the best other backend of its service, "" if it is not.

    A single run has no history, so a directory is judged like a backend without a verdict.
    """
    values: dict[tuple[str, str], list[Peer]] = {}
    about = [None if sample.value is None else subject(sample.spec) for sample in samples]
    for sample, what in zip(samples, about, strict=True):
        if what is not None and sample.value is not None and sample.serves:
            values.setdefault((sample.service, what), []).append(Peer(sample.name, sample.value))
    return [
        ""
        if what is None or sample.value is None
        else Lag(sample.spec).observe(
            sample.value,
            [peer for peer in values.get((sample.service, what), ()) if peer.name != sample.name],
            0.0,
            first=True,
        )
        for sample, what in zip(samples, about, strict=True)
    ]


class Lag:
    """Tracks from run to run how far one backend is behind the others."""

    __slots__ = ("_behind_since", "_most", "_serial")

    def __init__(self, spec: ProbeBase) -> None:
        """Judge by `max-serial-lag` or `max-lag` of `spec`; without either the backend is never behind."""
        self._serial = isinstance(spec, DnsProbe)
        self._behind_since: float | None = None
        self.follow(spec)

    def follow(self, spec: ProbeBase) -> None:
        """Use the limits of a new configuration from now on."""
        limit = spec.max_serial_lag if isinstance(spec, DnsProbe) else getattr(spec, "max_lag", None)
        self._most = math.inf if limit is None else limit

    @property
    def limited(self) -> bool:
        """True if there is a limit, so that the values of the others matter."""
        return self._most < math.inf

    def observe(self, value: float, peers: Iterable[Peer], now: float, *, first: bool) -> str:
        """Return why `value` is too far behind the best of `peers`, "" if it is not.

        `first` means that this backend has no verdict yet.
        """
        if self._serial:
            return self._serial_lag(int(value), peers)
        return self._time_lag(value, peers, now, first=first)

    def _serial_lag(self, serial: int, peers: Iterable[Peer]) -> str:
        best = max(peers, key=lambda peer: serial_behind(serial, int(peer.value)), default=None)
        behind = serial_behind(serial, int(best.value)) if best else 0
        if best is None or behind <= self._most:
            return ""
        return f"serial {serial} is {behind} behind {best.name}'s {int(best.value)}, over max-serial-lag ({self._most})"

    def _time_lag(self, value: float, peers: Iterable[Peer], now: float, *, first: bool) -> str:
        """Judge by how long the backend has been behind, at most the time between the two last changes.

        That time alone would fail every replica for a moment after the first change in hours.
        """
        best = max(peers, key=lambda peer: peer.value, default=None)
        if best is None or best.value <= value:
            self._behind_since = None
            return ""
        if self._behind_since is None:
            self._behind_since = -math.inf if first else now
        lag = min(best.value - value, now - self._behind_since)
        if lag <= self._most:
            return ""
        shown = format_duration(float(math.ceil(lag)))
        return f"last change is {shown} behind {best.name}'s, over max-lag ({format_duration(self._most)})"
