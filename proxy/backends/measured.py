"""The part of its weight that a backend gets by what its probes measure: `weight-from`.  Pure.

- `lag`: the whole weight without a lag, a tenth at max-lag, where the backend goes to reserve anyway.
- `latency`: as much less than the whole as the backend is slower than the fastest of its service, at least a tenth.

Shares are tenths, from 1 to 10.  A share changes only if the exact one is more than `MARGIN` beyond the middle between two
tenths, so that a measure at a border does not move clients to and fro.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from health.measure import Measured, WeightFrom
from health.units import format_duration
from proxy.backends.effective import STEPS
from proxy.config.model import BackendKey

MARGIN: Final = 0.25
"""Tenths beyond the middle between two shares."""
QUICK: Final = 0.001
"""Seconds: below this, one backend is as quick as another."""


def exact(kind: WeightFrom, measured: Measured, fastest: float) -> float:
    """Return the exact share in tenths, 1 to 10; `fastest` is the lowest latency of the service, in seconds."""
    if kind == "lag":
        share = 1 - measured.value / measured.limit if measured.limit > 0 else 1.0
    else:
        share = max(fastest or measured.value, QUICK) / max(measured.value, QUICK)
    return STEPS * min(1.0, max(1 / STEPS, share))


def settled(share: float, before: int) -> int:
    """Return the share in whole tenths, `before` if the exact one is not clearly another."""
    return before if abs(share - before) <= 0.5 + MARGIN else round(share)


def in_words(kind: WeightFrom, measured: Measured, fastest: float) -> str:
    """Return why a backend has its share."""
    if kind == "lag":
        return f"lag of {measured.value:.3g} s of max-lag {format_duration(measured.limit)}"
    return f"latency of {measured.value * 1000:.3g} ms, the fastest has {fastest * 1000:.3g} ms"


class Measures:
    """What is measured of the backends, and their shares in tenths."""

    def __init__(self) -> None:
        self._found: dict[str, dict[BackendKey, Measured]] = {}  # by service: each measure concerns its own alone
        self._shares: dict[BackendKey, int] = {}

    def take(
        self, key: BackendKey, measured: Measured, kind: WeightFrom, fit: Iterable[BackendKey]
    ) -> list[BackendKey]:
        """Take a measure; return the backends whose share changes by it.

        `fit` are the service's backends that serve or could: the fastest of a service is one of them.
        """
        self._found.setdefault(key[0], {})[key] = measured
        return self.settle(key[0], kind, fit)

    def settle(self, service: str, kind: WeightFrom, fit: Iterable[BackendKey]) -> list[BackendKey]:
        """Share anew in a service; return the backends whose share changes."""
        fastest = self._fastest(fit)
        changed = []
        for key, measured in self._found.get(service, {}).items():
            before = self._shares.get(key, STEPS)
            share = settled(exact(kind, measured, fastest), before)
            if share != before:
                self._shares[key] = share
                changed.append(key)
        return changed

    def keep(self, kinds: Mapping[BackendKey, WeightFrom]) -> None:
        """Forget all backends but these, and those whose weight no longer follows a measure."""
        for key in [key for found in self._found.values() for key in found if kinds.get(key, "off") == "off"]:
            self.forget(key)

    def forget(self, key: BackendKey) -> None:
        """Forget a backend: it is in maintenance, or measured no more."""
        self._found.get(key[0], {}).pop(key, None)
        self._shares.pop(key, None)

    def tenths(self, key: BackendKey) -> int:
        """Return a backend's share in tenths; the whole one if nothing is known of it."""
        return self._shares.get(key, STEPS)

    def why(self, key: BackendKey, kind: WeightFrom, fit: Iterable[BackendKey]) -> str:
        """Return why a backend has less than its weight, "" if it has all of it."""
        share = self.tenths(key)
        if share == STEPS:
            return ""
        return f"weight at {share * STEPS} %: {in_words(kind, self._found[key[0]][key], self._fastest(fit))}"

    def _fastest(self, fit: Iterable[BackendKey]) -> float:
        return min((found.value for key in fit if (found := self._found.get(key[0], {}).get(key))), default=0.0)
