"""What the kernel has, by netlink: interfaces and addresses, their changes as they happen, and orders to change them.

rtnetlink(7).  Changes are told, never polled for.  When the kernel had more to tell than the socket could hold
(ENOBUFS), everything is read anew and what differs is told, so that a change is at most late, never lost.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

LEASE = 2
"""s that the kernel keeps an address of ours which nobody refreshes."""

_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_SECONDARY, _NODAD, _DADFAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x02, 0x08, 0x20, 0x40  # IFA_F_
_BUFFER = 1 << 20  # octets of changes that may wait for us
_MOST = 1 << 17  # octets of one message
_MACVLAN_PRIVATE = 1
_NO_LINK_LOCAL = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}
_NEW = ("RTM_NEWLINK", "RTM_NEWADDR")

_log = logging.getLogger("steelyard.vrrp")


@dataclass(frozen=True, slots=True)
class Link:
    """An interface.  `up` only when it can carry packets: set up, and with a carrier."""

    index: int
    name: str
    mac: bytes
    up: bool


@dataclass(frozen=True, slots=True)
class Address:
    """An address of an interface.

    `usable` says that packets may leave from it; `lease` that it has the lifetimes that we give, and nobody else does.
    """

    index: int
    address: str
    prefix: int
    usable: bool
    secondary: bool
    lease: bool

    @property
    def key(self) -> tuple[int, str, int]:
        """What the kernel knows it by."""
        return self.index, self.address, self.prefix


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """An interface came, changed, or is gone (`link` is None)."""

    name: str
    link: Link | None


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """An address came, changed, or is gone."""

    address: Address
    present: bool


Change = LinkChanged | AddressChanged


class Kernel:
    """The mirror of interfaces and addresses of this network namespace.  `on_change` is called once it shows a change."""

    def __init__(self, on_change: Callable[[Change], None]) -> None:
        self._on_change = on_change
        self._links: dict[int, Link] = {}
        self._addresses: dict[tuple[int, str, int], Address] = {}
        self._orders = AsyncIPRoute()
        self._lock = asyncio.Lock()
        self._marshal = MarshalRtnl()
        self._events: socket.socket | None = None
        self._resync: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Read what there is, and listen from then on.  OSError if the kernel refuses."""
        self._listen()
        for change in await self._dump():
            self._apply(change)

    async def close(self) -> None:
        """Stop listening."""
        if self._resync is not None:
            self._resync.cancel()
            await asyncio.wait([self._resync])
        if self._events is not None:
            asyncio.get_running_loop().remove_reader(self._events)
            self._events.close()
            self._events = None
        self._orders.close()

    # What there is

    def link(self, name: str) -> Link | None:
        """Return the interface of this name."""
        return next((link for link in self._links.values() if link.name == name), None)

    def links(self) -> list[Link]:
        """Return all interfaces."""
        return list(self._links.values())

    def addresses(self, index: int | None = None) -> list[Address]:
        """Return the addresses of an interface, or of all, in the kernel's order."""
        return [one for one in self._addresses.values() if index is None or one.index == index]

    # Orders

    async def add(self, index: int, address: str, prefix: int, lifetime: int = LEASE) -> None:
        """Install an address, or refresh it, for `lifetime` seconds; OSError."""
        more: dict[str, Any] = {"IFA_FLAGS": _NODAD} if ":" in address else {}
        # Deprecated from the start (preferred 0), so that it is no source of connections that leave this host.
        life = {"ifa_preferred": 0, "ifa_valid": lifetime}
        await self._order("addr", "replace", index=index, address=address, prefixlen=prefix, IFA_CACHEINFO=life, **more)

    async def remove(self, index: int, address: str, prefix: int) -> None:
        """Remove an address; OSError, also when it is not there."""
        await self._order("addr", "del", index=index, address=address, prefixlen=prefix)

    async def add_macvlan(self, name: str, parent: int, mac: bytes) -> None:
        """Make an interface with an Ethernet address of its own above another, and set it up; OSError."""
        text = mac.hex(":")
        await self._order(
            "link", "add", ifname=name, kind="macvlan", link=parent, address=text, macvlan_mode=_MACVLAN_PRIVATE
        )
        # The kernel is not to give it an IPv6 address of its own, which would be of our virtual Ethernet address.
        await self._order("link", "set", ifname=name, IFLA_AF_SPEC=_NO_LINK_LOCAL)
        await self._order("link", "set", ifname=name, state="up")

    async def remove_link(self, name: str) -> None:
        """Remove an interface; OSError, also when it is not there."""
        await self._order("link", "del", ifname=name)

    async def _order(self, what: str, command: str, **arguments: Any) -> None:
        async with self._lock:
            try:
                await getattr(self._orders, what)(command, **arguments)
            except NetlinkError as error:
                raise OSError(error.code, f"netlink {what} {command}: {error.args[-1]}") from None

    # Changes

    def _listen(self) -> None:
        self._events = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._events.bind((0, _GROUPS))
        asyncio.get_running_loop().add_reader(self._events, self._read)

    def _read(self) -> None:
        assert self._events is not None  # noqa: S101 - for the type checker: it is readable
        for _ in range(64):  # then others have their turn
            try:
                data = self._events.recv(_MOST)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: something was lost
                if self._resync is None or self._resync.done():
                    self._resync = asyncio.create_task(self._reread())
                return
            for change in self._parse(data):
                self._apply(change)

    async def _reread(self) -> None:
        found = await self._dump()
        links = {change.link.index for change in found if isinstance(change, LinkChanged) and change.link}
        addresses = {change.address.key for change in found if isinstance(change, AddressChanged)}
        for index in self._links.keys() - links:
            self._apply(LinkChanged(self._links[index].name, None))
        for key in self._addresses.keys() - addresses:
            self._apply(AddressChanged(self._addresses[key], present=False))
        for change in found:
            self._apply(change)

    async def _dump(self) -> list[Change]:
        async with self._lock:
            try:
                messages = [one async for one in await self._orders.link("dump")]
                messages += [one async for one in await self._orders.addr("dump")]
            except NetlinkError as error:
                raise OSError(error.code, f"netlink dump: {error.args[-1]}") from None
        return [change for one in messages for change in _change(one)]

    def _parse(self, data: bytes) -> Iterator[Change]:
        for message in self._marshal.parse(data):
            yield from _change(message)

    def _apply(self, change: Change) -> None:
        """Take a change over, and tell of it unless nothing has changed."""
        if isinstance(change, LinkChanged):
            if not self._apply_link(change):
                return
        elif change.present:
            before = self._addresses.get(change.address.key)
            self._addresses[change.address.key] = change.address
            if before == change.address:
                return
        elif self._addresses.pop(change.address.key, None) is None:
            return
        try:
            self._on_change(change)
        except Exception:
            _log.exception("a change of %s could not be followed", change)

    def _apply_link(self, change: LinkChanged) -> bool:
        before = self.link(change.name)
        if change.link is None:
            if before is None:
                return False
            del self._links[before.index]
            return True
        renamed = self._links.get(change.link.index)
        if before is not None and before.index != change.link.index:
            del self._links[before.index]  # made anew under the same name
        self._links[change.link.index] = change.link
        if renamed is not None and renamed.name != change.name:
            with contextlib.suppress(Exception):
                self._on_change(LinkChanged(renamed.name, None))
        return before != change.link


def _change(message: Any) -> Iterator[Change]:
    """Read one message of pyroute2: none, or one change."""
    event = message.get("event")
    present = event in _NEW
    if event in ("RTM_NEWLINK", "RTM_DELLINK"):
        name = message.get("ifname")
        if not name or message.get("family", 0) != socket.AF_UNSPEC:
            return  # of a bridge's port, not of the interface
        flags = message["flags"]
        up = bool(flags & _IFF_UP and flags & _IFF_RUNNING)
        mac = bytes.fromhex((message.get("address") or "").replace(":", ""))
        yield LinkChanged(name, Link(message["index"], name, mac, up) if present else None)
    elif event in ("RTM_NEWADDR", "RTM_DELADDR"):
        text = message.get("local") or message.get("address")
        if not text:
            return
        flags = message.get("IFA_FLAGS") or message["flags"]
        life = message.get("cacheinfo") or {}
        yield AddressChanged(
            Address(
                index=message["index"],
                address=str(ip_address(text)),
                prefix=message["prefixlen"],
                usable=not flags & (_TENTATIVE | _DADFAILED | _DEPRECATED),
                secondary=bool(flags & _SECONDARY),
                lease=bool(flags & _DEPRECATED) and life.get("ifa_valid", 1 << 32) <= LEASE,
            ),
            present=present,
        )
