"""Steelyard, the kernel's NAT, and no balancer."""

import sys
from pathlib import Path

from bench.site import NAT
from bench.systems.base import DESCRIPTORS, PATIENCE, SELDOM, System
from bench.works import WORKS
from tests.e2e.daemon import Daemon

EVERY = frozenset(WORKS)


def command() -> str:
    """Return the installed command of this environment."""
    return str(Path(sys.executable).with_name("steelyard"))


class Steelyard(System):
    """The installed command, one worker, its defaults."""

    family = "steelyard"
    works = EVERY

    def launch(self) -> None:
        """Start the daemon, and wait until every backend has a verdict."""
        transports = ("udp", "tcp") if self.work.name == "dns-tcp" else (self.work.transport,)
        listen = ", ".join(f'"{self.address}:{self.work.port}/{one}"' for one in transports)
        probe = f'{{ type = "tcp", interval = "{SELDOM}s" }}'
        if self.work.protocol == "dns":
            probe = f'{{ type = "dns", query = "example.net SOA", interval = "{SELDOM}s" }}'
        elif self.work.transport == "udp":
            probe = '{ type = "none" }'
        names = ", ".join(f'"{address}"' for address in self.work.backends)
        text = f"""
[service.bench]
listen   = [{listen}]
protocol = "{self.work.protocol}"
backends = [{names}]
probe    = {probe}
"""
        self.daemon = Daemon(
            self.bed,
            "balancer",
            text,
            workers=1,
            command=(command(),),
            cpus=self.cpus,
            nofile=DESCRIPTORS,
            patience=PATIENCE,
        )
        self.proc = self.daemon.proc


class Direct(System):
    """No balancer: the client asks the first server, and the balancer's host only routes."""

    family = "none"
    works = EVERY

    def launch(self) -> None:
        """Name the server."""
        self.address = self.work.backends[0]


class Nat(System):
    """The kernel's NAT by nftables: each new flow goes to the next server, with the balancer's address as its source."""

    family = "NAT"
    works = EVERY

    @property
    def version(self) -> str:
        """The kernel is named once, in the facts."""
        return "(nftables)"

    def launch(self) -> None:
        """Load the rules on the host `nat`, which is not pinned to a processor."""
        self.address = NAT
        port = self.bed.hosts["nat"].ports["servers"]
        servers = ", ".join(f"{number} : {address}" for number, address in enumerate(self.work.backends))
        match = f"{self.work.transport} dport {self.work.port}"
        self.bed.nft("nat", nat_rules(match, len(self.work.backends), servers, port))


def nat_rules(match: str, count: int, servers: str, port: str) -> str:
    """Return the rules: what `match` fits goes to one of the `count` servers (a map of nft)."""
    return f"""table ip bench {{
  chain incoming {{
    type nat hook prerouting priority dstnat
    {match} dnat to numgen inc mod {count} map {{ {servers} }}
  }}
  chain outgoing {{
    type nat hook postrouting priority srcnat
    oifname "{port}" masquerade
  }}
}}"""
