"""What the health process is given before it watches, because it may not have it by itself: files, sockets to ping with."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.config.model import Config
from proxy.probing import files, icmp_sockets
from proxy.processes.messages import common as messages
from proxy.processes.messages import health as health_messages

if TYPE_CHECKING:
    import socket


class Means:
    """Held by the master for every life of the health process; `tell(text, is it a fault)` records what changes."""

    def __init__(self, config: Config, gid: int | None, tell: Callable[[str, bool], None]) -> None:
        """Read the files of probes and open the sockets that a process of group `gid` may not open."""
        self._tell = tell
        self._gid = gid
        self._files = files.ProbeFiles(files.named(config))
        self._icmp: list[socket.socket] = []
        self._versions: set[int] = set()
        why = self._open(config)[1]
        self.faults = [*self._files.faults(), *([why] if why else [])]

    def handover(self) -> list[tuple[messages.Message, list[int]]]:
        """Return them as messages with their descriptors, which stay ours."""
        found: list[tuple[messages.Message, list[int]]] = [(self._secrets(), [])]
        if self._icmp:
            found.append((health_messages.Icmp(len(self._icmp)), [sock.fileno() for sock in self._icmp]))
        return found

    def relisted(self, config: Config) -> list[tuple[messages.Message, list[int]]]:
        """Get what other backends' probes need besides; what to hand over for it."""
        opened, why = self._open(config)
        new = self._files.add(files.named(config))
        for fault in filter(None, [why, *new.values()]):
            self._tell(fault, True)
        found: list[tuple[messages.Message, list[int]]] = [(self._secrets(), [])] if new else []
        return [*found, (health_messages.Icmp(len(opened)), [sock.fileno() for sock in opened])] if opened else found

    def _open(self, config: Config) -> "tuple[list[socket.socket], str]":
        """Open the sockets that are missing; those, and in words what keeps us from it."""
        opened, why = icmp_sockets.sockets(config, self._gid, self._versions)
        self._icmp += opened
        self._versions.update(icmp_sockets.versions(config))  # a missing one is reported once
        return opened, why

    @staticmethod
    def read(config: Config) -> files.ProbeFiles:
        """Read the files that the probes of another configuration name; blocks, and may run in any thread."""
        return files.ProbeFiles(files.named(config))

    def replace(self, config: Config, read: files.ProbeFiles) -> list[tuple[messages.Message, list[int]]]:
        """Use the files that `read` returned for this configuration, and no others; what to hand over for it."""
        self._files = read
        opened, why = self._open(config)
        for fault in filter(None, [why, *read.faults()]):
            self._tell(fault, True)
        found: list[tuple[messages.Message, list[int]]] = [(self._secrets(), [])]
        return [*found, (health_messages.Icmp(len(opened)), [sock.fileno() for sock in opened])] if opened else found

    def look(self) -> health_messages.Secrets | None:
        """Read files again that have changed; what to tell the health process then."""
        changed = self._files.look()
        for path, fault in changed.items():
            self._tell(fault or f"{self._files.label(path)} has changed: the new content is in use", bool(fault))
        return self._secrets() if changed else None

    def _secrets(self) -> health_messages.Secrets:
        return health_messages.Secrets(self._files.rows())

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._icmp:
            sock.close()
