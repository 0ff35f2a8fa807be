"""The status of the running daemon: what the parts know, put together."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from proxy import __version__
from proxy.backends.readiness import Readiness
from proxy.commands.registry import Parts
from proxy.control.server import Request
from proxy.status.rows import Node
from proxy.status.snapshot import Snapshot, SnapshotBuilder
from proxy.workers.provision import Handout

PORTION = 20  # services that are looked at in one go


class Overview:
    """Asks those who know.  One for the life of a daemon."""

    def __init__(self, parts: Parts, builder: SnapshotBuilder, handout: Handout, readiness: Readiness) -> None:
        self._parts = parts
        self._builder = builder
        self._handout = handout
        self._readiness = readiness
        self._began = time.monotonic()

    async def snapshot(self) -> Snapshot:
        """Return the view of this instant."""
        parts = self._parts
        probes, routers = await asyncio.gather(parts.prober.report(), parts.redundancy.rows())
        verdicts = self._readiness.shown(probes)
        config = parts.running.config
        node = Node(
            name=config.node.name, version=__version__, uptime=time.monotonic() - self._began,
            generation=self._handout.generation, sha256=config.sha256,
            overrides=len(parts.admins.rows()) + parts.membership.edits,
        )  # fmt: skip
        # In portions, with the other work in between: with thousands of backends it takes a part of a second.
        portions: list[Snapshot] = []
        for first in range(0, max(len(config.services), 1), PORTION):
            part = parts.running.config.services[first : first + PORTION]  # whose backends may be others by now
            portions.append(self._builder.build(
                node, part, verdicts, parts.workers.rows(), now_ns=time.monotonic_ns(),
                overrides=parts.admins.overrides, vrrp=routers, added=parts.membership.added,
            ))  # fmt: skip
            await asyncio.sleep(0)
        services = [service for part in portions for service in part.status["services"]]
        return Snapshot({**portions[-1].status, "services": services}, portions[-1].headers)

    async def status(self, request: Request) -> Mapping[str, Any]:  # noqa: ARG002 - it takes no arguments
        """Answer `status`."""
        return {"status": (await self.snapshot()).as_dict()}
