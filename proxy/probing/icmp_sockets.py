"""Raw ICMP sockets for the health process, opened by the master where that process may not ping by itself."""

import os
import socket
from collections.abc import Collection
from pathlib import Path

from health.icmp import open_raw
from health.spec import PingProbe
from proxy.config.model import Config

_RANGE = Path("/proc/sys/net/ipv4/ping_group_range")


def versions(config: Config) -> list[int]:
    """Return the versions of IP that a configuration's pings go over."""
    probes = [
        (probe, probe.address or backend.address)
        for service in config.services
        for backend in service.backends
        for probe in backend.probes
    ]
    probes += [(probe, probe.address or "") for probe in config.probes.values()]  # those that routers track
    return sorted({6 if ":" in address else 4 for probe, address in probes if isinstance(probe, PingProbe)})


def allowed(gid: int | None) -> bool:
    """Whether a process of group `gid` (None: ours) may have ICMP datagram sockets (icmp(7))."""
    try:
        first, last = map(int, _RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return False
    return first <= (os.getegid() if gid is None else gid) <= last


def sockets(config: Config, gid: int | None, have: Collection[int] = ()) -> tuple[list[socket.socket], str]:
    """Return the raw sockets that the health process needs, and in words what keeps it from pinging, "" if nothing.

    `have` are the versions of IP that it has some for.
    """
    wanted = [version for version in versions(config) if version not in have]
    if not wanted or allowed(gid):
        return [], ""
    opened: list[socket.socket] = []
    try:
        for version in wanted:
            opened.append(open_raw(version))  # noqa: PERF401 - those opened so far must be known
    except OSError as error:
        for one in opened:
            one.close()
        return [], (
            f"probes cannot ping: net.ipv4.ping_group_range excludes the probes' group, and a raw socket is refused "
            f"({os.strerror(error.errno or 0).lower()})"
        )
    return opened, ""
