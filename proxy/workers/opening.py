"""Which services are open: the workers poll a service's listeners only once it is known which backends serve.

Until then its clients wait in the kernel's queues, for at most FIRST_VERDICTS or FIRST_PROBES seconds.
"""

import asyncio
from collections.abc import Callable, Collection

from proxy.backends.effective import Running
from proxy.backends.readiness import Readiness
from proxy.records.timeline import Tell
from proxy.workers.listeners import Listeners

FIRST_VERDICTS = 3.0  # s of probing that the clients of a service wait in the kernel for its first verdict
FIRST_PROBES = 10.0  # s after the start until they wait no longer, probing or not


class Opening:
    """The services that are open.  `on_open()` is called after each change."""

    def __init__(
        self, running: Running, listeners: Listeners, readiness: Readiness, tell: Tell, on_open: Callable[[], None]
    ) -> None:
        self._running = running
        self._listeners = listeners
        self._readiness = readiness
        self._tell = tell
        self._on_open = on_open
        self._loop = asyncio.get_running_loop()
        self._held = False
        self.services: set[str] = set()

    @property
    def listeners(self) -> Collection[int]:
        """The numbers of the listeners whose service is open."""
        if self._held:
            return ()
        return self._listeners.of({self._running.slots[0][name] for name in self.services})

    def hold(self) -> None:
        """Let the workers poll nothing, whatever is open, until `release`: a predecessor's workers still do."""
        self._held = True

    def release(self, services: Collection[str]) -> None:
        """Let the workers poll what is open; so are `services`, because they were in the predecessor."""
        self._held = False
        self.services |= self._running.services.keys() & set(services)
        self._on_open()

    def start(self) -> None:
        """Open every service FIRST_PROBES seconds from now, even if no probe has run."""
        self._loop.call_later(FIRST_PROBES, self.all, FIRST_PROBES)

    def probing(self) -> None:
        """Open every service FIRST_VERDICTS seconds from now: the start of the health process is no server's slowness."""
        self._loop.call_later(FIRST_VERDICTS, self.all, FIRST_VERDICTS)

    def changed(self) -> None:
        """Take another configuration: its new services open with their first verdicts, or in FIRST_VERDICTS seconds."""
        self.services &= self._running.services.keys()
        new = self._running.services.keys() - self.services
        if new:
            self._loop.call_later(FIRST_VERDICTS, self._late, new, FIRST_VERDICTS)

    def known(self, services: Collection[str]) -> None:
        """Open those of these services of which it is known now which backends serve."""
        self._open({name for name in services if self._readiness.is_known(name)})

    def all(self, waited: float) -> None:
        """Open the services that have waited for their verdicts for `waited` seconds in vain."""
        late = self._running.services.keys() - self.services
        self._readiness.wait_no_longer()  # which opens some of them: their verdicts are late all the same
        self._open_late(late, waited)

    def _late(self, services: Collection[str], waited: float) -> None:
        """Open those of these services that have waited for their verdicts for `waited` seconds in vain."""
        self._open_late((self._running.services.keys() & set(services)) - self.services, waited)

    def _open_late(self, late: Collection[str], waited: float) -> None:
        for name in sorted(late):
            self._tell("service", name, self._readiness.why_late(name, waited), level="warning")
        self._open(late)

    def _open(self, services: Collection[str]) -> None:
        new = set(services) - self.services
        if new:
            self.services |= new
            self._on_open()
