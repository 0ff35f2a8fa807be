"""The share of a backend that returns: a tenth at first, the whole after `slow-start`.

Only the master knows which backends return: a restart of the health process or of a worker begins no ramp anew.  Workers get
weights, which are `STEPS` times those of the file where a service has such backends, so that a weight of 1 has tenths.
"""

import asyncio
from typing import TYPE_CHECKING

from proxy.backends.effective import STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.backends.effective import Running
    from proxy.config.model import (
        BackendKey,  # of which the warnings need UNSHARED
    )


def share(elapsed: float, time: float) -> int:
    """Return a backend's tenths, 1 to 10, so many seconds after its return; `time` is how long until it has them all."""
    return STEPS if elapsed >= time else 1 + max(0, int((STEPS - 1) * elapsed / time))


def next_step(elapsed: float, time: float) -> float:
    """Return after how many seconds from its return the share is the next one."""
    return share(elapsed, time) * time / (STEPS - 1)


class SlowStart:
    """The backends in a slow start.  `on_step(backend)` is called when a backend's share has grown."""

    def __init__(self, running: "Running", on_step: "Callable[[BackendKey], None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._on_step = on_step
        self._running = running
        self._since: dict[BackendKey, float] = {}
        self._timers: dict[BackendKey, asyncio.TimerHandle] = {}

    def returned(self, key: "BackendKey") -> float:
        """Begin a backend's slow start; return how long it takes (s), 0 for a backend without one."""
        self.left(key)
        time = self._time(key)
        if time:
            self._since[key] = self._loop.time()
            self._wait(key, 0.0)
        return time

    @property
    def since(self) -> "Mapping[BackendKey, float]":
        """The backends in a slow start, with the time at which each began (monotonic seconds)."""
        return self._since

    def resume(self, key: "BackendKey", since: float) -> None:
        """Go on with a slow start that began at `since`, in a predecessor of this daemon."""
        self.left(key)
        elapsed = self._loop.time() - since
        if share(elapsed, self._time(key)) < STEPS:
            self._since[key] = since
            self._wait(key, elapsed)

    def left(self, key: "BackendKey") -> None:
        """End a slow start: the backend is away again, or has all its weight."""
        self._since.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def tenths(self, key: "BackendKey") -> int:
        """Return a backend's share in tenths."""
        since = self._since.get(key)
        return STEPS if since is None else share(self._loop.time() - since, self._time(key))

    def _time(self, key: "BackendKey") -> float:
        """Return how long a backend's share grows (s); 0 if the scheduler has no use for it."""
        return self._running.backends[key].slow_start if self._running.scales[key[0]] > 1 else 0.0

    def _wait(self, key: "BackendKey", elapsed: float) -> None:
        when = self._since[key] + next_step(elapsed, self._time(key))
        self._timers[key] = self._loop.call_at(when, self._step, key)

    def _step(self, key: "BackendKey") -> None:
        elapsed = self._loop.time() - self._since[key]
        if share(elapsed, self._time(key)) == STEPS:
            self.left(key)
        else:
            self._wait(key, elapsed)
        self._on_step(key)
