"""The status of the running daemon: what the parts know, put together."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from proxy import __version__
from proxy.admin import Admins
from proxy.control.server import Request
from proxy.handout import Handout
from proxy.membership import Membership
from proxy.prober import Prober
from proxy.readiness import Readiness
from proxy.redundancy import Redundancy
from proxy.running import Running
from proxy.stats.snapshot import Node, Snapshot, SnapshotBuilder
from proxy.supervisor import Supervisor

PORTION = 20  # services that are looked at in one go


class Overview:
    """Asks those who know.  One for the life of a daemon."""

    def __init__(
        self,
        running: Running,
        builder: SnapshotBuilder,
        handout: Handout,
        *,
        workers: Supervisor,
        prober: Prober,
        readiness: Readiness,
        redundancy: Redundancy,
        admins: Admins,
        membership: Membership,
    ) -> None:
        self._running = running
        self._builder = builder
        self._handout = handout
        self._workers = workers
        self._prober = prober
        self._readiness = readiness
        self._redundancy = redundancy
        self._admins = admins
        self._membership = membership
        self._began = time.monotonic()

    async def snapshot(self) -> Snapshot:
        """Return the view of this instant."""
        probes, routers = await asyncio.gather(self._prober.report(), self._redundancy.rows())
        verdicts = self._readiness.shown(probes)
        config = self._running.config
        node = Node(
            name=config.node.name, version=__version__, uptime=time.monotonic() - self._began,
            generation=self._handout.generation, sha256=config.sha256,
            overrides=len(self._admins.rows()) + self._membership.edits,
        )  # fmt: skip
        # In portions, with the other work in between: with thousands of backends it takes a part of a second.
        parts: list[Snapshot] = []
        for first in range(0, max(len(config.services), 1), PORTION):
            part = self._running.config.services[first : first + PORTION]  # whose backends may be others by now
            parts.append(self._builder.build(
                node, part, verdicts, self._workers.rows(), now_ns=time.monotonic_ns(),
                overrides=self._admins.overrides, vrrp=routers, added=self._membership.added,
            ))  # fmt: skip
            await asyncio.sleep(0)
        services = [service for part in parts for service in part.status["services"]]
        return Snapshot({**parts[-1].status, "services": services}, parts[-1].headers)

    async def status(self, request: Request) -> Mapping[str, Any]:  # noqa: ARG002 - it takes no arguments
        """Answer `status`."""
        return {"status": (await self.snapshot()).as_dict()}
