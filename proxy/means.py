"""What the health process is given before it watches, because it may not have it by itself: passwords, sockets to ping with."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy import messages, passwords, pinging
from proxy.config.model import Config

if TYPE_CHECKING:
    import socket


class Means:
    """Held by the master for every life of the health process; `tell(text, is it a fault)` records what changes."""

    def __init__(self, config: Config, gid: int | None, tell: Callable[[str, bool], None]) -> None:
        """Read the password files and open the sockets that a process of group `gid` may not open."""
        self._tell = tell
        self._passwords = passwords.Passwords(passwords.named(config))
        icmp, why = pinging.sockets(config, gid)
        self._icmp: list[socket.socket] = icmp
        self.faults = [*self._passwords.faults(), *([why] if why else [])]

    def handover(self) -> list[tuple[messages.Message, list[int]]]:
        """Return them as messages with their descriptors, which stay ours."""
        found: list[tuple[messages.Message, list[int]]] = [(self._secrets(), [])]
        if self._icmp:
            found.append((messages.Icmp(len(self._icmp)), [sock.fileno() for sock in self._icmp]))
        return found

    def look(self) -> messages.Secrets | None:
        """Read password files again that have changed; what to tell the health process then."""
        changed = self._passwords.look()
        for path, fault in changed.items():
            self._tell(fault or f"password file {path} has changed: it is tried from now on", bool(fault))
        return self._secrets() if changed else None

    def _secrets(self) -> messages.Secrets:
        return messages.Secrets(self._passwords.rows())

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._icmp:
            sock.close()
