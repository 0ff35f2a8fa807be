"""The command `status`: builds one snapshot from the daemon's parts for all clients that ask at the same time."""

import asyncio
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

from proxy import __version__
from proxy.backends.readiness import Readiness
from proxy.commands.find import find_backends, find_service
from proxy.commands.registry import Parts
from proxy.control.server import Request
from proxy.control.wire import Encoded
from proxy.status.rows import Node, notify_rows
from proxy.status.schema import RouterStatus, Status
from proxy.status.slices import Shared, in_slices
from proxy.status.snapshot import Snapshot, SnapshotBuilder, encoded
from proxy.workers.provision import Handout

_KEY: Final = b'"status": '


class Overview:
    """Builds the status of a daemon."""

    def __init__(self, parts: Parts, builder: SnapshotBuilder, handout: Handout, readiness: Readiness) -> None:
        self._parts = parts
        self._builder = builder
        self._handout = handout
        self._readiness = readiness
        self._began = time.monotonic()
        self._shared = Shared(self._made)

    async def status(self, request: Request) -> Encoded:  # noqa: ARG002 - it takes no arguments
        """Answer `status`."""
        return (await self._shared.get())[0]

    async def latency(self, request: Request) -> Mapping[str, Any]:
        """Answer `latency`: the histogram of the last minute of one `backend` of a `service`."""
        service = find_service(self._parts.running.services, request.arguments.get("service"))
        found = find_backends(service, request.arguments.get("backend"))[0]
        return {"cells": self._builder.histogram((service.name, found.name))}

    def forget(self) -> None:
        """Discard the snapshot: later clients get one from after this moment."""
        self._shared.forget()

    async def document(self) -> tuple[bytes, Snapshot]:
        """Return the same snapshot as a JSON object of its own, and as it is."""
        inside, snapshot = await self._shared.get()
        return bytes(inside).removeprefix(_KEY), snapshot

    async def _made(self) -> tuple[Encoded, Snapshot]:
        snapshot = await self.snapshot()
        return Encoded(_KEY + await in_slices(encoded(snapshot.as_dict()))), snapshot

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
        snapshot = yield from self._builder.build(
            node, config.services, verdicts, [*parts.workers.rows(), *parts.former()], now_ns=time.monotonic_ns(),
            overrides=parts.admins.overrides, vrrp=routers, added=parts.membership.added,
            alarms=parts.alarms(),
            notify=notify_rows([one.name for one in config.notify], parts.notified(), parts.redundancy.notified),
        )  # fmt: skip
        yield from self._with_peer(snapshot.status)
        return snapshot

    def _with_peer(self, status: Status) -> Generator[None, None, None]:
        """Put the other host's verdicts beside ours, if there is a pair."""
        pair = self._parts.partner.status()
        if pair is None:
            return
        status["pair"] = pair
        for service in status["services"]:
            for backend in service["backends"]:
                yield
                peer = self._parts.partner.row((service["name"], backend["name"]))
                if peer is not None:
                    backend["peer"] = peer
