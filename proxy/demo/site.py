"""The network of the pair's demo, in namespaces: a client, two load balancers, servers behind them.

client .100 --+-- bridge "outside" 198.51.100.0/24 --+-- lb1 .2 --+-- bridge "inside" 10.0.0.0/24 -- servers
                                                     +-- lb2 .3 --+
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from proxy.demo.namespaces import new_network, within
from proxy.demo.parts import DemoError

BALANCERS = {"lb1": "10.0.0.2", "lb2": "10.0.0.3"}
"""The source addresses of the balancers' queries, as the servers see them."""
SERVERS = {"ns1": "10.0.0.11", "ns2": "10.0.0.12", "app1": "10.0.0.21", "app2": "10.0.0.22"}
ADDRESS = "198.51.100.10"
"""The virtual address of the pair."""

_HOSTS = {
    "client": {"outside": ["198.51.100.100"]},
    "lb1": {"outside": ["198.51.100.2"], "inside": [BALANCERS["lb1"]]},
    "lb2": {"outside": ["198.51.100.3"], "inside": [BALANCERS["lb2"]]},
    "servers": {"inside": list(SERVERS.values())},
}
_PREFIX = 24


class Site:
    """The hosts, each a network namespace, and their cables; the kernel removes everything when this process ends."""

    def __init__(self) -> None:
        """Create the hosts and cables. Raises DemoError if the kernel refuses."""
        try:
            self._switch = new_network()
            self.networks = {name: new_network() for name in _HOSTS}
            with self._links(self._switch) as ip:
                for lan in ("outside", "inside"):
                    ip.link("add", ifname=lan, kind="bridge", br_forward_delay=0, br_mcast_snooping=0)
                    ip.link("set", index=_index(ip, lan), state="up")
            for name, lans in _HOSTS.items():
                for number, (lan, addresses) in enumerate(lans.items()):
                    self._plug(name, lan, f"eth{number}", addresses)
        except (OSError, NetlinkError) as error:
            raise DemoError(f"cannot create the network of the demo: {_why(error)}") from error

    def cable(self, host: str, lan: str, *, plugged: bool) -> None:
        """Pull the cable between a host and a LAN, at the switch's end, or plug it in again."""
        with self._links(self._switch) as ip:
            ip.link("set", index=_index(ip, f"{host}-{lan}"), state="up" if plugged else "down")

    def holders(self) -> list[str]:
        """Return the balancers that have the virtual address now."""
        return [name for name in BALANCERS if self._has(name, ADDRESS)]

    def _has(self, host: str, address: str) -> bool:
        with within(self.networks[host]), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 0))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                return False
        return True

    def _plug(self, host: str, lan: str, interface: str, addresses: list[str]) -> None:
        port = f"{host}-{lan}"
        with self._links(self._switch) as ip:
            peer = {"ifname": interface, "net_ns_fd": self.networks[host]}
            ip.link("add", ifname=port, kind="veth", peer=peer)
            ip.link("set", index=_index(ip, port), master=_index(ip, lan), state="up")
        with self._links(self.networks[host]) as ip:
            index = _index(ip, interface)
            for address in addresses:
                ip.addr("add", index=index, address=address, prefixlen=_PREFIX)
            for each in (index, _index(ip, "lo")):
                ip.link("set", index=each, state="up")

    @contextmanager
    def _links(self, network: int) -> Iterator[Any]:
        with within(network), IPRoute() as ip:
            yield ip


def _index(ip: Any, name: str) -> int:
    index: int = ip.link_lookup(ifname=name)[0]
    return index


def _why(error: Exception) -> str:
    number = error.code if isinstance(error, NetlinkError) else getattr(error, "errno", None)
    if number == errno.EOPNOTSUPP:
        return "this kernel has no bridges or no virtual Ethernet (modules bridge and veth)"
    if number in (errno.EPERM, errno.EACCES):
        return f"{error}: the kernel does not let this user create networks in namespaces: run it as root"
    return str(error)
