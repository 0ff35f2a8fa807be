"""The regular work of one worker: its heartbeat, its look at the siblings' connections, and its gauges.

Each function sets its next timer first, so that an exception costs only one turn.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from proxy.relay.members import Members
from proxy.relay.native.poller import Poller
from proxy.relay.native.siblings import Siblings
from proxy.relay.observe.connection_log import ConnectionLog
from proxy.relay.observe.listing import Browser
from proxy.relay.relays import Relays
from proxy.relay.service import Service
from proxy.relay.tcp.service import TcpService
from proxy.stats import layout

HEARTBEAT = 0.1  # s
REFRESH = 0.02  # s between two looks at the siblings' open connections
HOUSEKEEPING = 1.0  # s


class Housekeeping:
    """What is done without an order; `pauses` counts those of services that are gone."""

    def __init__(
        self,
        poller: Poller,
        cells: "memoryview[int]",
        siblings: Siblings,
        services: Mapping[int, Service],
        relays: Relays,
        members: Members,
        browser: Browser,
        log: ConnectionLog,
    ) -> None:
        self.pauses = 0
        self._poller = poller
        self._cells = cells
        self._siblings = siblings
        self._services = services
        self._relays = relays
        self._members = members
        self._browser = browser
        self._log = log
        self._refreshing = False

    def begin(self) -> None:
        """Do it now and from now on."""
        now = time.monotonic()
        self._beat(now)
        self._house(now)

    def watch(self) -> None:
        """Watch the siblings' counters of all backends: there are other backends now."""
        targets = [target for service in self._services.values() for target in service.targets]
        self._siblings.watch(target.cell + layout.BACKEND_ACTIVE for target in targets)

    def look(self) -> None:
        """Look at the siblings' open connections, now and from now on: there are other siblings."""
        if self._siblings.count and not self._refreshing:
            self._refreshing = True
            self._refresh(self._poller.now)
        elif not self._siblings.count:
            for service in self._services.values():
                service.refresh([0] * len(service.targets))

    def count_log(self) -> None:
        """Count the lines of the connection log."""
        self._cells[layout.LOG_LINES] = self._log.lines
        self._cells[layout.LOG_LOST] = self._log.lost

    def _beat(self, now: float) -> None:
        """Show the master that the event loop runs."""
        self._poller.at(now + HEARTBEAT, self._beat)
        self._cells[layout.HEARTBEAT] = time.monotonic_ns()

    def _refresh(self, now: float) -> None:
        """Read the siblings' open connections, for the schedulers that count them."""
        if not self._siblings.count:
            self._refreshing = False
            return
        self._poller.at(now + REFRESH, self._refresh)
        values = self._siblings.refresh()
        start = 0
        for service in self._services.values():
            service.refresh(values[start : start + len(service.targets)])
            start += len(service.targets)

    def _house(self, now: float) -> None:
        self._poller.at(now + HOUSEKEEPING, self._house)
        self._relays.tidy()
        self._members.tidy()
        for service in self._services.values():
            service.tick(now)
        self._browser.expire(now)
        cells = self._cells
        # Since Linux 6.2 the size of this directory is the number of descriptors; before, it is 0.
        with contextlib.suppress(OSError):
            cells[layout.OPEN_FILES] = Path("/proc/self/fd").stat().st_size
        cells[layout.OPEN_FILES_LIMIT] = os.sysconf("SC_OPEN_MAX")
        tcp = [relay for relay in self._relays.values() if isinstance(relay, TcpService)]
        cells[layout.ACCEPT_PAUSED] = int(any(relay.paused for relay in tcp))
        pauses = sum(cells[relay.base + layout.SERVICE_ACCEPT_PAUSED] for relay in tcp)
        cells[layout.ACCEPT_PAUSES] = self.pauses + pauses
        cells[layout.SESSIONS] = sum(
            cells[service.cell + layout.SERVICE_SESSIONS] + cells[service.cell + layout.SERVICE_INFLIGHT]
            for service in self._services.values()
        )
        cells[layout.LOOP_WAKEUPS] = self._poller.wakeups
        cells[layout.LOOP_EVENTS] = self._poller.events
        cells[layout.INTERNAL_ERRORS] = self._poller.faults
        self.count_log()
