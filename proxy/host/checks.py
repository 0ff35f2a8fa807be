"""What this host would do to a configuration: sysctls, ports that others hold, the firewall's table.  Reads, changes nothing."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from proxy.config.loops import explain, is_wild, loops
from proxy.config.model import Config, Listener
from proxy.host import privileges
from proxy.host.addresses import is_ours
from proxy.host.descriptors import least_files
from proxy.host.port_holders import Endpoint, holders
from proxy.relay.sockets.outgoing import RECEIVE_BUFFER

TIME_WAIT = 60  # s, net/tcp.h: how long the kernel keeps a local port after we closed first
CROWDED = 0.8  # the share of the firewall's table above which it is worth a word
FIRST_PORT = 1024  # below it a port is privileged, unless the sysctl says otherwise

Sysctl = Callable[[str], str]
"""A sysctl's value by its name with dots; empty where the kernel has none of that name."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is unwise about the host: what will happen, and what to do about it."""

    message: str
    hint: str

    def __str__(self) -> str:
        return f"host: warning: {self.message}\n    {self.hint}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return asdict(self)


def look(config: Config) -> list[Finding]:
    """Look at the host that this runs on, as the node of `config`."""
    root = privileges.effective() >> 10 & 1 == 1
    return findings(config, sysctl, holders, privileges.raise_open_files(), is_ours, root=root)


def findings(
    config: Config,
    read: Sysctl,
    held: Callable[[Collection[Endpoint]], Mapping[Endpoint, str]],
    open_files: int,
    owned: Callable[[str], bool],
    *,
    root: bool,
) -> list[Finding]:
    """Return what is unwise; `held` names the holders of ports, `owned` tells whether an address is this host's.

    `root` is whether we may bind the privileged ports.
    """
    listeners = [listener for service in config.services for listener in service.listeners]
    return [
        *_buffers(listeners, read),
        *_connections(config, listeners, read),
        *_ports(listeners, read, held, root=root),
        *_sources(config, owned),
        *_loops(config, owned),
        *_firewall(read),
        *_files(config, open_files),
    ]


def sysctl(name: str) -> str:
    """Read a sysctl."""
    try:
        return Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _buffers(listeners: Collection[Listener], read: Sysctl) -> Iterator[Finding]:
    most = _number(read("net.core.rmem_max"))
    if most is not None and most < RECEIVE_BUFFER and any(listener.transport == "udp" for listener in listeners):
        yield Finding(
            f"net.core.rmem_max = {most}: a burst of answers overflows the buffers of UDP sockets",
            f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER}",
        )


def _connections(config: Config, listeners: Collection[Listener], read: Sysctl) -> Iterator[Finding]:
    if not any(listener.transport == "tcp" for listener in listeners):
        return
    low, high = _range(read("net.ipv4.ip_local_port_range"))
    if read("net.ipv4.tcp_tw_reuse") in {"0", "2"} and high:
        yield Finding(
            f"net.ipv4.tcp_tw_reuse = {read('net.ipv4.tcp_tw_reuse')}: local ports run out above "
            f"{(high - low + 1) // TIME_WAIT} new connections a second to one backend",
            "sysctl -w net.ipv4.tcp_tw_reuse=1",
        )
    queue, wanted = _number(read("net.core.somaxconn")), max(service.tcp.backlog for service in config.services)
    if queue is not None and queue < wanted:
        yield Finding(
            f"net.core.somaxconn = {queue}: fewer connections than tcp.backlog = {wanted} can wait to be accepted",
            f"sysctl -w net.core.somaxconn={wanted}",
        )


def _ports(
    listeners: Collection[Listener],
    read: Sysctl,
    held: Callable[[Collection[Endpoint]], Mapping[Endpoint, str]],
    *,
    root: bool,
) -> Iterator[Finding]:
    taken = held({(listener.transport, listener.address, listener.port) for listener in listeners})
    for listener in listeners:
        holder = taken.get((listener.transport, listener.address, listener.port), "")
        if holder and not holder.startswith("steelyard "):  # itself, most likely
            yield Finding(f"{listener.text} is in use by {holder}", "stop it, or listen elsewhere")
    first = _number(read("net.ipv4.ip_unprivileged_port_start"))
    low_ports = sorted({one.port for one in listeners if one.port < (FIRST_PORT if first is None else first)})
    if low_ports and not root:
        yield Finding(
            f"port {low_ports[0]} is privileged, and this user may not bind it", "run as root or CAP_NET_BIND_SERVICE"
        )
    low, high = _range(read("net.ipv4.ip_local_port_range"))
    reserved = _reserved(read("net.ipv4.ip_local_reserved_ports"))
    lent = sorted({one.port for one in listeners if low <= one.port <= high} - reserved)
    if lent:
        yield Finding(
            f"port {lent[0]} is one of net.ipv4.ip_local_port_range: an outgoing connection may hold it at the next start",
            f"sysctl -w net.ipv4.ip_local_reserved_ports={','.join(map(str, lent[:20]))}",
        )
    if any(":" in one.address for one in listeners) and read("net.ipv6.conf.all.disable_ipv6") in {"", "1"}:
        yield Finding(
            "IPv6 is off on this host: its listeners hear nothing", "sysctl -w net.ipv6.conf.all.disable_ipv6=0"
        )


def _sources(config: Config, owned: Callable[[str], bool]) -> Iterator[Finding]:
    told: set[str] = set()
    for service in config.services:
        for address in dict.fromkeys(one for backend in service.backends for one in backend.source_addresses):
            if address not in told and not owned(address):
                told.add(address)
                yield Finding(
                    f"[service.{service.name}] must connect from {address}, which this host does not have",
                    "ip address add, or leave it out of source-addresses",
                )


def _loops(config: Config, owned: Callable[[str], bool]) -> Iterator[Finding]:
    """Backends that a listener on every address answers for, for they are addresses of this host."""
    if not is_wild(config.services):
        return
    told = {backend.address for service in config.services for backend in service.backends}
    for key, chain in loops(config.services, {one for one in told if owned(one)}).items():
        yield Finding(
            f"[service.{key[0]}]: {explain(key[1], chain)}",
            "it gets no traffic: listen on one address, or name a server",
        )


def _firewall(read: Sysctl) -> Iterator[Finding]:
    count, most = _number(read("net.netfilter.nf_conntrack_count")), _number(read("net.netfilter.nf_conntrack_max"))
    if count is not None and most and count > CROWDED * most:
        yield Finding(
            f"the firewall tracks {count} connections of at most {most}: when full it drops new ones",
            f"sysctl -w net.netfilter.nf_conntrack_max={2 * most}, or leave this traffic untracked (notrack)",
        )


def _files(config: Config, open_files: int) -> Iterator[Finding]:
    least = least_files(config)
    if open_files < least:
        yield Finding(
            f"the limit of open files is {open_files}, this configuration needs {least}: the daemon does not start",
            "ulimit -Hn, LimitNOFILE",
        )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _range(text: str) -> tuple[int, int]:
    parts = text.split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(map(str.isdecimal, parts)) else (0, 0)  # noqa: PLR2004 - first and last


def _reserved(text: str) -> set[int]:
    ports: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        if low.isdecimal():
            ports.update(range(int(low), int(high if high.isdecimal() else low) + 1))
    return ports
