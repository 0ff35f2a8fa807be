"""Which addresses this host has, read from /proc: nothing is bound to find out."""

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LEAF = re.compile(r"\|-- ([0-9.]+)")
_LOCAL = re.compile(r"/(\d+) host LOCAL")


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
