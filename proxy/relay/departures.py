"""Services that are gone from the configuration: each lives on until nothing is open there, or until its deadline.

The master gives a slot to another owner only when every worker has confirmed that it does not use the slot any more.
So a generation is confirmed when all services are over that were gone until then, and no query is in flight at a
backend that is gone.
"""

from collections.abc import Callable, Iterable

from proxy.relay.native.poller import Poller
from proxy.relay.target import Target

LOOK = 0.05  # s between two looks whether what is gone is over

Confirm = Callable[[int], None]


class Departures:
    """What is gone and not over yet; `is_over(slot)` and `end(slot)` look at a service, and end what is left of it."""

    def __init__(self, poller: Poller, is_over: Callable[[int], bool], end: Callable[[int], None]) -> None:
        self._poller = poller
        self._is_over = is_over
        self._end = end
        self._services: dict[int, float] = {}  # slot -> deadline (monotonic s)
        self._targets: list[Target] = []
        self._waiting: tuple[int, Confirm] | None = None  # the newest generation, if it is not confirmed
        self._looking = False

    def __contains__(self, slot: int) -> bool:
        return slot in self._services

    def service(self, slot: int, seconds: float) -> None:
        """Let a service live until it is over, for so many seconds at most."""
        self._services[slot] = self._poller.now + seconds

    def targets(self, gone: Iterable[Target]) -> None:
        """Wait for the queries in flight at backends that are gone."""
        self._targets += gone

    def begin(self, generation: int, confirm: Confirm) -> None:
        """Call `confirm(generation)` when all that is gone is over, at once if it is; only the newest one is confirmed."""
        self._waiting = generation, confirm
        self._settle(self._poller.now)

    def finish(self, slot: int) -> None:
        """End a service that is gone, whatever is left of it."""
        del self._services[slot]
        self._end(slot)

    def _look(self, now: float) -> None:
        self._looking = False
        self._settle(now)

    def _settle(self, now: float) -> None:
        for slot in [slot for slot, until in self._services.items() if now >= until or self._is_over(slot)]:
            self.finish(slot)
        self._targets = [target for target in self._targets if target.active]
        if self._services or self._targets:
            if not self._looking:
                self._looking = True
                self._poller.at(now + LOOK, self._look)
        elif self._waiting is not None:
            (generation, confirm), self._waiting = self._waiting, None
            confirm(generation)
