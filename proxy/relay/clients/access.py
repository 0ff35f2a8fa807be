"""Access to a service: blocks of addresses that are allowed or denied, and of sources of PROXY headers."""

import socket
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

REMEMBERED: Final = 8192
"""Addresses in the cache of answers; when it is full, it is cleared."""


class Blocks:
    """A set of CIDR blocks, IPv4 and IPv6.  `in` is O(different prefix lengths), and O(1) for a cached address."""

    __slots__ = ("_four", "_seen", "_six")

    def __init__(self, blocks: Iterable[str]) -> None:
        self._four: dict[int, set[int]] = {}  # number of bits after the prefix -> prefixes
        self._six: dict[int, set[int]] = {}
        self._seen: dict[str, bool] = {}
        for block in map(ip_network, blocks):
            spare = block.max_prefixlen - block.prefixlen
            table = self._four if block.version == 4 else self._six  # noqa: PLR2004 - the version of IP
            table.setdefault(spare, set()).add(int(block.network_address) >> spare)

    def __bool__(self) -> bool:
        return bool(self._four or self._six)

    def __contains__(self, address: str) -> bool:
        known = self._seen.get(address)
        if known is None:
            known = self._look_up(address)
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[address] = known
        return known

    def _look_up(self, address: str) -> bool:
        six = ":" in address
        packed = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, address.partition("%")[0])
        number = int.from_bytes(packed, "big")
        return any(number >> spare in prefixes for spare, prefixes in (self._six if six else self._four).items())


class Access:
    """The rules of `allow` and `deny`: deny wins, and without `allow` all other clients may use the service."""

    __slots__ = ("_allow", "_deny", "anybody")

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        self._allow = Blocks(allow)
        self._deny = Blocks(deny)
        self.anybody = not self._allow and not self._deny
        """True if there are no rules."""

    def permits(self, address: str) -> bool:
        """Return True if a client may use the service."""
        return address not in self._deny and (not self._allow or address in self._allow)
