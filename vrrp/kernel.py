"""The kernel's interfaces and addresses, by netlink: a mirror of them, their changes, and orders to change them.

rtnetlink(7).  The kernel reports changes; nothing is polled.  If its reports overflow the socket, everything is read
again, so that a change may be late but is never lost.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vrrp import netlink
from vrrp.netlink import LEASE, Address, AddressChanged, Change, IncompleteDumpError, Link, LinkChanged, Request

__all__ = ["LEASE", "SLICE", "Address", "AddressChanged", "Change", "Kernel", "Link", "LinkChanged"]

SLICE = 64
"""Orders that go to the kernel at once; then adverts get a turn."""
AUDIT = 60.0
"""s between two comparisons of the mirror with what the kernel has."""

_AT_ONCE = 256  # messages that are read before other work gets a turn
_BUFFER = 4 << 20  # octets of changes that may wait for us
_SO_RCVBUFFORCE = 33
_SO_MEMINFO, _MEMINFO, _DROPS = 55, struct.Struct("=9I"), 8  # linux/sock_diag.h: the last number is what was lost
_MOST = 1 << 17  # octets of one message
_PATIENCE = 1.0  # s: the kernel answers within the call; the timeout is for one that does not
_PAUSES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)  # s before everything is read again, the last one from then on
_MACVLAN_PRIVATE = 1
_NO_LINK_LOCAL = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}

_log = logging.getLogger("steelyard.vrrp")


class Kernel:
    """The mirror of interfaces and addresses of this network namespace.

    `on_change` is called once the mirror shows a change; `on_lost` once it is right again after changes were lost.
    """

    def __init__(self, on_change: Callable[[Change], None], on_lost: Callable[[], None] = lambda: None) -> None:
        self._on_change = on_change
        self._on_lost = on_lost
        self._links: dict[int, Link] = {}
        self._names: dict[str, int] = {}
        self._addresses: dict[int, dict[tuple[int, str, int], Address]] = {}  # by the interface
        self._owned: dict[int, dict[tuple[int, str, int], Address]] = {}  # those that are no lease
        self._places: dict[str, dict[tuple[int, str, int], Address]] = {}  # the same by the address
        self._slow = AsyncIPRoute()
        self._lock = asyncio.Lock()
        self._orders: socket.socket | None = None
        self._sequence = 0
        self._events: socket.socket | None = None
        self._meanwhile: list[Change] | None = None  # changes that came while everything is read again
        self._audit: asyncio.Task[None] | None = None
        self._wrong = asyncio.Event()
        self.counters: Counter[str] = Counter()
        """`overruns`: times that changes were lost; `dumps`: times that everything was read; `audit_corrections`."""

    async def open(self) -> None:
        """Read all interfaces and addresses, and listen from then on.  Raises OSError if the kernel refuses."""
        self._orders = _socket()
        self._orders.settimeout(_PATIENCE)
        self._listen()
        await self._synchronise(patient=False)
        self._audit = asyncio.create_task(self._keep_right())

    async def close(self) -> None:
        """Stop listening."""
        if self._audit is not None:
            self._audit.cancel()
            await asyncio.wait([self._audit])
        if self._events is not None:
            asyncio.get_running_loop().remove_reader(self._events)
            self._events.close()
            self._events = None
        if self._orders is not None:
            self._orders.close()
            self._orders = None
        self._slow.close()

    # The mirror

    def link(self, name: str) -> Link | None:
        """Return the interface of this name."""
        index = self._names.get(name)
        return None if index is None else self._links[index]

    def links(self) -> list[Link]:
        """Return all interfaces."""
        return list(self._links.values())

    def link_at(self, index: int) -> Link | None:
        """Return the interface of this index."""
        return self._links.get(index)

    def addresses(self, index: int | None = None) -> list[Address]:
        """Return the addresses of an interface, or of all, in the kernel's order."""
        if index is not None:
            return list(self._addresses.get(index, {}).values())
        return [one for found in self._addresses.values() for one in found.values()]

    def owned(self, index: int) -> list[Address]:
        """Return the addresses of an interface that are no lease, in the kernel's order."""
        return list(self._owned.get(index, {}).values())

    def places(self, address: str) -> list[Address]:
        """Return each place of an address (text without a prefix) on this host, by interface and prefix."""
        return list(self._places.get(address, {}).values())

    def catch_up(self) -> None:
        """Read all changes that the kernel has reported up to now."""
        self._read()

    # Orders

    def order(self, requests: Sequence[Request]) -> list[int]:
        """Have the kernel carry out at most `SLICE` orders; return the error number of each, 0 for success.

        The mirror shows their effect afterwards.  One call takes about a millisecond.
        """
        if self._orders is None or not requests:
            return [errno.EBADF] * len(requests)
        first = self._sequence + 1
        self._sequence += len(requests)
        found = [0] * len(requests)
        try:
            self._orders.send(netlink.pack(requests, first))
            answered = False
            while not answered:
                for sequence, code in netlink.refusals(self._orders.recv(_MOST)):
                    if first <= sequence <= self._sequence:
                        found[sequence - first] = code
                    answered = answered or sequence == self._sequence
        except OSError as error:
            return [error.errno or errno.EIO] * len(requests)
        self._read()
        return found

    async def add_macvlan(self, name: str, parent: int, mac: bytes) -> None:
        """Create an interface with its own Ethernet address above another, and set it up.  Raises OSError."""
        text = mac.hex(":")
        await self._change("add", ifname=name, kind="macvlan", link=parent, address=text, macvlan_mode=_MACVLAN_PRIVATE)
        # The kernel must not give it an IPv6 address that it derives from the virtual Ethernet address.
        await self._change("set", ifname=name, IFLA_AF_SPEC=_NO_LINK_LOCAL)
        await self._change("set", ifname=name, state="up")

    async def remove_link(self, name: str) -> None:
        """Remove an interface.  Raises OSError, also if there is no such interface."""
        await self._change("del", ifname=name)

    async def _change(self, command: str, **arguments: Any) -> None:
        async with self._lock:
            try:
                await self._slow.link(command, **arguments)
            except NetlinkError as error:
                raise OSError(error.code, f"netlink link {command}: {error.args[-1]}") from None

    # Changes

    def _listen(self) -> None:
        self._events = made = _socket()
        made.setblocking(False)
        try:
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except OSError:  # root of a user namespace: net.core.rmem_max limits the buffer
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        made.bind((0, netlink.GROUPS))
        asyncio.get_running_loop().add_reader(made, self._read)

    def _read(self) -> bool:
        """Apply changes that wait, a bounded number; return True if more may wait."""
        for _ in range(_AT_ONCE):
            data = self._next()
            if data is None:
                return False
            for change in netlink.changes_in(data):
                if self._meanwhile is not None:
                    self._meanwhile.append(change)
                self._apply(change)
        return True

    def _next(self) -> bytes | None:
        """Return the next message of the kernel; None when there is no more."""
        while self._events is not None:
            try:
                return self._events.recv(_MOST)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    self._wrong.set()
                    return None
                # The messages in the socket are still there.  Until all are read, the kernel drops new ones, and
                # reports that only this once.
                self.counters["overruns"] += 1
                self._wrong.set()
        return None

    def _lost(self) -> int:
        """Return how many messages the kernel has dropped for lack of room, ever."""
        if self._events is None:
            return 0
        found = self._events.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(found.ljust(_MEMINFO.size, b"\0"))[_DROPS])

    async def _keep_right(self) -> None:
        """Read everything again after a loss, and once a minute."""
        while True:
            overrun = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AUDIT):
                    overrun = await self._wrong.wait()
            self._wrong.clear()
            corrections = await self._synchronise(patient=True)
            if overrun:
                self._on_lost()
            elif corrections:
                self.counters["audit_corrections"] += corrections
                _log.error("the mirror of interfaces and addresses was wrong in %d places", corrections)

    async def _synchronise(self, *, patient: bool) -> int:
        """Read everything until nothing was lost meanwhile; return how many entries of the mirror were wrong.

        A `patient` call tries again after each error; otherwise raises OSError.
        """
        attempt = 0
        while True:
            await self._drain()
            lost = self._lost()
            self._meanwhile = []
            try:
                found = await self._dump()
                await self._drain()
                if self._lost() == lost:
                    return self._compare(found + self._meanwhile)
            except IncompleteDumpError:
                pass
            except OSError as error:
                if not patient:
                    raise
                if not attempt:
                    _log.warning("interfaces and addresses cannot be read, trying again: %s", error)
            finally:
                self._meanwhile = None
            attempt += 1
            await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES)) - 1])

    async def _drain(self) -> None:
        """Apply all changes that wait: after a loss the kernel reports nothing new until the socket is empty."""
        while self._read():  # noqa: ASYNC110 - it is no waiting, others have their turn
            await asyncio.sleep(0)

    async def _dump(self) -> list[Change]:
        self.counters["dumps"] += 1
        found: list[Change] = []
        with _socket() as asked:
            asked.settimeout(_PATIENCE)
            for request in (netlink.dump_links(), netlink.dump_addresses()):
                asked.send(request)
                done = False
                while not done:
                    changes, done = netlink.dumped(asked.recv(_MOST))
                    found += changes
                    await asyncio.sleep(0)
        return found

    def _compare(self, changes: Iterable[Change]) -> int:
        """Set the mirror to the result of these changes, from nothing; return how many entries differed."""
        links: dict[int, LinkChanged] = {}
        addresses: dict[tuple[int, str, int], AddressChanged] = {}
        for change in changes:
            if isinstance(change, LinkChanged):
                links[change.index] = change
            else:
                addresses[change.address.key] = change
        gone: list[Change] = [
            AddressChanged(one, present=False)
            for one in self.addresses()
            if one.key not in addresses or not addresses[one.key].present
        ]
        for index, link in self._links.items():
            if index not in links or links[index].link is None:
                gone.append(LinkChanged(link.name, None, index))
        there = [one for one in links.values() if one.link is not None]
        return sum([self._apply(change) for change in (*gone, *there, *[a for a in addresses.values() if a.present])])

    def _apply(self, change: Change) -> bool:
        """Apply a change, and report it; return False if the mirror already shows it."""
        changed = self._apply_link(change) if isinstance(change, LinkChanged) else self._apply_address(change)
        if changed:
            self._tell(change)
        return changed

    def _tell(self, change: Change) -> None:
        try:
            self._on_change(change)
        except Exception:
            _log.exception("a change of %s could not be followed", change)

    def _apply_link(self, change: LinkChanged) -> bool:
        before = self._links.get(change.index)
        if change.link is None:
            if before is None:
                return False
            self._forget(before)
            return True
        if before == change.link:
            return False
        namesake = self.link(change.name)
        if namesake is not None and namesake.index != change.index:
            self._forget(namesake)  # created again under the same name
        if before is not None and before.name != change.name:
            self._forget(before)
            self._tell(LinkChanged(before.name, None, before.index))
        self._links[change.index] = change.link
        self._names[change.name] = change.index
        return True

    def _forget(self, link: Link) -> None:
        del self._links[link.index]
        if self._names.get(link.name) == link.index:
            del self._names[link.name]

    def _apply_address(self, change: AddressChanged) -> bool:
        new = change.address
        here = self._addresses.setdefault(new.index, {})
        owned = self._owned.setdefault(new.index, {})
        before = here.get(new.key)
        if change.present:
            if before == new:
                return False
            here[new.key] = self._places.setdefault(new.address, {})[new.key] = new
            if new.lease:
                owned.pop(new.key, None)
            else:
                owned[new.key] = new
            return True
        if before is None:
            return False
        del here[new.key]
        owned.pop(new.key, None)
        places = self._places[new.address]
        del places[new.key]
        if not places:
            del self._places[new.address]
        return True


def _socket() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
