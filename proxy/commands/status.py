"""The command `status`: builds one snapshot from the daemon's parts for all clients that ask at the same time."""

import asyncio
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from proxy import __version__
from proxy.backends.readiness import Readiness
from proxy.commands.registry import Parts
from proxy.control.server import Request
from proxy.control.wire import Encoded
from proxy.status.rows import Node, notify_rows
from proxy.status.schema import RouterStatus
from proxy.status.slices import Shared, in_slices
from proxy.status.snapshot import Snapshot, SnapshotBuilder, encoded
from proxy.workers.provision import Handout


class Overview:
    """Builds the status of a daemon."""

    def __init__(self, parts: Parts, builder: SnapshotBuilder, handout: Handout, readiness: Readiness) -> None:
        self._parts = parts
        self._builder = builder
        self._handout = handout
        self._readiness = readiness
        self._began = time.monotonic()
        self._shared = Shared(self._encoded)

    async def status(self, request: Request) -> Encoded:  # noqa: ARG002 - it takes no arguments
        """Answer `status`."""
        return await self._shared.get()

    def forget(self) -> None:
        """Discard the snapshot: later clients get one from after this moment."""
        self._shared.forget()

    async def _encoded(self) -> Encoded:
        snapshot = await self.snapshot()
        return Encoded(b'"status": ' + await in_slices(encoded(snapshot.as_dict())))

    async def snapshot(self) -> Snapshot:
        """Return the view of this instant."""
        probes, routers = await asyncio.gather(self._parts.prober.report(), self._parts.redundancy.rows())
        return await in_slices(self._built(probes, routers))

    def _built(
        self, probes: Mapping[str, Sequence[Any]], routers: Sequence[RouterStatus]
    ) -> Generator[None, None, Snapshot]:
        parts = self._parts
        verdicts = yield from self._readiness.shown(probes)
        config = parts.running.config
        node = Node(
            name=config.node.name, version=__version__, uptime=time.monotonic() - self._began,
            generation=self._handout.generation, sha256=config.sha256,
            stopping=self._parts.stage().stopping, closed=self._parts.stage().closed,
            error=parts.reload.error, on_disk_sha256=parts.reload.on_disk_sha256,
            overrides=len(parts.admins.rows()) + parts.membership.edits,
        )  # fmt: skip
        return (yield from self._builder.build(
            node, config.services, verdicts, [*parts.workers.rows(), *parts.former()], now_ns=time.monotonic_ns(),
            overrides=parts.admins.overrides, vrrp=routers, added=parts.membership.added,
            alarms=parts.alarms(),
            notify=notify_rows([one.name for one in config.notify], parts.notified(), parts.redundancy.notified),
        ))  # fmt: skip
