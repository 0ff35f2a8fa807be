"""The part of its weight that each backend has: by its slow start, and by what is measured of it; the two multiply.

The weight itself is the operator's, else the one that a script probe asks for, else the file's.  Whichever it is, the part
is a part of it.
"""

from typing import TYPE_CHECKING

from health.measure import Measured, WeightFrom
from proxy.backends.effective import STEPS, Running, written
from proxy.backends.measured import Measures

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.backends.candidates import Candidates
    from proxy.backends.slow_start import SlowStart
    from proxy.config.model import BackendKey
    from proxy.processes.messages.health import Measured as Message
    from proxy.records.timeline import Tell


class Weighing:
    """The shares of all backends.  `on_share(backend)` is called when the share of one has changed."""

    def __init__(
        self, running: Running, candidates: "Candidates", slow: "SlowStart", tell: "Tell",
        on_share: "Callable[[BackendKey], None]",
    ) -> None:  # fmt: skip
        self._running = running
        self._candidates = candidates
        self._slow = slow
        self._tell = tell
        self._on_share = on_share
        self._measures = Measures()

    def measured(self, key: "BackendKey", message: "Message") -> None:
        """Take a measure of a backend of the configuration."""
        kind = self._kind(key[0])
        if kind != "off":
            found = Measured(message.value, message.limit)
            self._changed(self._measures.take(key, found, kind, self._fit(key[0])))

    def settle(self, service: str) -> None:
        """Share anew in a service whose verdicts have changed: another backend may be the fastest now."""
        if (kind := self._kind(service)) != "off":
            self._changed(self._measures.settle(service, kind, self._fit(service)))

    def forget(self, key: "BackendKey") -> None:
        """Forget what is measured of a backend in maintenance."""
        self._measures.forget(key)

    def keep(self) -> None:
        """Forget the backends that are gone, and those whose weight follows nothing any more."""
        self._measures.keep({key: self._kind(key[0]) for key in self._running.backends})

    def factor(self, key: "BackendKey") -> int:
        """Return the factor that makes the workers' weight of a backend's weight."""
        return self._tenths(key) if self._running.scales[key[0]] > 1 else 1

    def shown(self, key: "BackendKey", asked: float | None) -> float | None:
        """Return the weight in effect for the status; None: it is the configured one.

        `asked` is what a script probe asks for.
        """
        tenths = self._tenths(key) if self._running.scales[key[0]] > 1 else STEPS
        if tenths == STEPS:
            return None if key in self._running.weighed else asked
        return self._candidates.weight(key) * tenths / STEPS

    def why(self, key: "BackendKey") -> str:
        """Return why a backend has less than its weight by what is measured, "" if it has not."""
        if self._running.scales[key[0]] == 1 or (kind := self._kind(key[0])) == "off":
            return ""
        return self._measures.why(key, kind, self._fit(key[0]))

    def _tenths(self, key: "BackendKey") -> int:
        return max(1, round(self._slow.tenths(key) * self._measures.tenths(key) / STEPS))

    def _changed(self, keys: "list[BackendKey]") -> None:
        for key in keys:
            if self._running.scales[key[0]] > 1:
                self._tell("weight", written(key), self.why(key) or "has its whole weight again")
                self._on_share(key)

    def _kind(self, service: str) -> WeightFrom:
        return self._running.services[service].weight_from

    def _fit(self, service: str) -> "list[BackendKey]":
        return [(service, name) for name in self._candidates.usable(service)]
