"""Backends compared with each other: who serves older data than the rest of the service.  Pure, `now` in monotonic seconds.

A probe that finds a value hands it up with its outcome: a DNS server the serial of a zone, a directory the time of its last
change.  Whoever is too far behind the best of the service's other backends fails, although it answered.  Only backends
that are in service are compared with: the newer data of one that has died are no reason to give up the others.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from health.spec import DnsProbe, LdapProbe, ProbeBase
from health.units import format_duration

SERIALS = 1 << 32  # RFC 1982 with SERIAL_BITS 32, as RFC 1035 has it for SOA


@dataclass(frozen=True, slots=True)
class Peer:
    """Another backend of the service, and what it was last found to have."""

    name: str
    value: float


def subject(spec: ProbeBase) -> str | None:
    """Return what `spec`'s value is about: values of the same subject may be compared; None where nothing is."""
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
    """What a run by itself found on a backend: `service` says with whom it is compared, `value` is None where it found none.

    `serves` says whether the backend is fit to be compared with: whoever fails is no reason to give up the others.
    """

    service: str
    name: str
    spec: ProbeBase
    value: float | None
    serves: bool = True


def lagging(samples: Sequence[Sample]) -> list[str]:
    """Return for each of some single runs in words that it is too far behind the best of its service's others, or "".

    A single run knows no history: that of a directory counts as one on a backend of which nothing is known.
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
    """How far one backend is behind the others, from run to run."""

    __slots__ = ("_behind_since", "_most", "_serial")

    def __init__(self, spec: ProbeBase) -> None:
        """Judge by `max-serial-lag` or `max-lag` of `spec`; one that has neither is never behind."""
        self._serial = isinstance(spec, DnsProbe)
        self._behind_since: float | None = None
        self.follow(spec)

    def follow(self, spec: ProbeBase) -> None:
        """Go on with the limits of a new configuration."""
        limit = spec.max_serial_lag if isinstance(spec, DnsProbe) else getattr(spec, "max_lag", None)
        self._most = math.inf if limit is None else limit

    @property
    def limited(self) -> bool:
        """Whether it is worth asking what the others have."""
        return self._most < math.inf

    def observe(self, value: float, peers: Iterable[Peer], now: float, *, first: bool) -> str:
        """Return in words that `value` is too far behind the best of `peers`, "" if it is not.

        `first` says that nothing is known of this backend yet.
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
        """Judge by the time that the backend has been behind, at most that between the two last changes.

        The difference alone would condemn every replica for the moment after the first change in hours.
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
