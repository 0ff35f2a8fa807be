"""Which addresses this host has: nothing is bound to find out."""

import array
import fcntl
import ipaddress
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LEAF = re.compile(r"\|-- ([0-9.]+)")
_LOCAL = re.compile(r"/(\d+) host LOCAL")
_SIOCGIFCONF = 0x8912  # linux/sockios.h
_IFREQ = 40  # octets of a struct ifreq: a name of 16, then a sockaddr_in
_ROOM = 64  # of these at first


def is_ours(address: str) -> bool:
    """Whether an address, perhaps with its interface behind %, is this host's; whole blocks are, as 127.0.0.0/8."""
    return has(address, _read("/proc/net/fib_trie"), _read("/proc/net/if_inet6"))


def has(address: str, fib_trie: str, if_inet6: str) -> bool:
    """The same of a host with these tables (proc(5), and net/ipv6/addrconf.c for the second)."""
    bare, _, zone = address.partition("%")
    wanted = ipaddress.ip_address(bare)
    if wanted.version == 4:  # noqa: PLR2004 - the version of IP
        return any(wanted in network for network in _local_four(fib_trie))
    rows = [line.split() for line in if_inet6.splitlines()]
    return any(
        len(row) == 6 and row[0] == wanted.packed.hex() and zone in ("", row[5], str(int(row[1], 16)))  # noqa: PLR2004
        for row in rows
    )


def interface_addresses() -> frozenset[str]:
    """Return the addresses of all interfaces, as the configuration writes them; link-local ones also behind % and a name.

    It costs in proportion to them alone: the kernel's routes, which `is_ours` reads, may be a million.
    """
    found = set(_fours())
    for line in _read("/proc/net/if_inet6").splitlines():
        row = line.split()
        if len(row) == 6:  # noqa: PLR2004 - the kernel's columns
            address = str(ipaddress.IPv6Address(bytes.fromhex(row[0])))
            found |= {address, f"{address}%{row[5]}"}
    return frozenset(found)


def _fours() -> Iterator[str]:
    """Return the IPv4 addresses of all interfaces (netdevice(7), SIOCGIFCONF)."""
    room = _ROOM * _IFREQ
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while True:
            buffer = array.array("B", bytes(room))
            asked = struct.pack("iL", room, buffer.buffer_info()[0])
            (filled,) = struct.unpack_from("i", fcntl.ioctl(sock, _SIOCGIFCONF, asked))
            if filled <= room - _IFREQ:  # else there may be more
                break
            room *= 2
    for at in range(0, filled, _IFREQ):
        yield socket.inet_ntop(socket.AF_INET, buffer[at + 20 : at + 24].tobytes())


def _local_four(fib_trie: str) -> Iterator[Network]:
    leaf = ""
    for line in fib_trie.splitlines():
        if found := _LEAF.search(line):
            leaf = found[1]
        elif leaf and (found := _LOCAL.search(line)):
            yield ipaddress.ip_network(f"{leaf}/{found[1]}", strict=False)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
