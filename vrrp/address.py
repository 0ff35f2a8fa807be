"""The addresses of a virtual router as leases: the kernel removes an address that is not refreshed in time.

If our processes are killed or stopped, the addresses are gone `LEASE` seconds after the last refresh (V14).  If another
program removes an address, it is installed again and reported (V23).  If our lease ran out, it is not: another host may
have the address by now, and must keep it (V15).
"""

import asyncio
import contextlib
import errno
import functools
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from pathlib import Path

from vrrp import netlink
from vrrp.keeper import Keeper, Key, Order
from vrrp.kernel import SLICE, Kernel
from vrrp.netlink import LEASE, Address, AddressChanged

REFRESH = 0.5
"""s between two refreshes."""
REFRESH_FAST = 1.0
"""s between two refreshes when the other host takes over before a lease ends anyway."""
_AGAIN = 0.2  # s until an address that was removed again is installed again
_GONE = {0, errno.EADDRNOTAVAIL, errno.ENODEV}  # removed, gone before, or gone with its interface


def refresh_interval(advert_interval: float) -> float:
    """Return the seconds between two refreshes of a router with this advert interval."""
    return REFRESH_FAST if 3 * advert_interval < LEASE else REFRESH


class Prefixes:
    """Decides the prefix lengths of many addresses beside what an interface has, at a cost that grows with their number."""

    def __init__(self, present: Sequence[Address]) -> None:
        addresses = [(ip_address(one.address), one.prefix) for one in present]
        self._there = [ip for ip, prefix in addresses if prefix < ip.max_prefixlen]
        self._networks: dict[tuple[int, int], dict[int, set[int]]] = {}  # version, length -> network -> addresses

    def of(self, wanted: IPv4Interface | IPv6Interface) -> int:
        """Return the prefix length to install an address with; one with its subnet's counts as present from then on.

        That of a host, as the removal of the first address of a subnet takes the others along (V25); but as configured
        when there is no other address in the subnet, which could not be reached otherwise.
        """
        host, length = wanted.max_prefixlen, wanted.network.prefixlen
        if length == host:
            return host
        address = int(wanted.ip)
        networks = self._by_network(wanted.version, length, host)
        others = networks.setdefault(address >> host - length, set())
        if others - {address}:
            return host
        if address not in others:
            self._there.append(wanted.ip)
            for (version, other), table in self._networks.items():
                if version == wanted.version:
                    table.setdefault(address >> host - other, set()).add(address)
        return length

    def _by_network(self, version: int, length: int, host: int) -> dict[int, set[int]]:
        found = self._networks.get((version, length))
        if found is None:
            found = self._networks[version, length] = {}
            for one in self._there:
                if one.version == version:
                    found.setdefault(int(one) >> host - length, set()).add(int(one))
        return found


def prefix_for(configured: str, present: Sequence[Address]) -> int:
    """Return the prefix length to install "192.0.2.1/24" or "192.0.2.1" with, beside what the interface has."""
    return Prefixes(present).of(ip_interface(configured))


def source_for(
    present: Sequence[Address], version: int, virtual: Sequence[str], told: Sequence[str] = ()
) -> str | None:
    """Return the address that adverts leave from: the primary IPv4, the link-local IPv6 one (RFC 9568 5.1.1.1, 5.1.2.1).

    With `told` one of those, as the others know us by no other (unicast).  Never a virtual one; None when there is none.
    """
    plain = _plain(tuple(virtual))
    told = [one for one in told if ip_address(one).version == version]
    if told:
        usable = {one.address for one in present if one.usable and not one.lease}
        return next((one for one in told if one in usable and one not in plain), None)
    for one in present:
        ip = ip_address(one.address)
        if ip.version != version or not one.usable or one.secondary or one.lease or one.address in plain:
            continue
        if version == 4 or ip.is_link_local:  # noqa: PLR2004 - the version of IP
            return one.address
    return None


def owned_source(present: Sequence[Address], version: int, virtual: Sequence[str]) -> str | None:
    """Return the virtual address that an owner's adverts leave from, if its interface has no other address."""
    mine = {str(ip_interface(one).ip) for one in virtual}
    for one in present:
        ip = ip_address(one.address)
        wanted = ip.version == version and (version == 4 or ip.is_link_local)  # noqa: PLR2004 - the version of IP
        if wanted and one.address in mine and one.usable and not one.lease:
            return one.address
    return None


def accept_own_source(interface: str) -> None:
    """Let the host accept IPv4 packets whose source is an address of its own, which Linux drops by default.

    An owner may send adverts from the address that this host has taken over from it (ip-sysctl: accept_local).
    """
    with contextlib.suppress(OSError):
        Path("/proc/sys/net/ipv4/conf", interface, "accept_local").write_text("1", encoding="ascii")


def is_ours(one: Address, addresses: Sequence[str]) -> bool:
    """Return True for one of these virtual addresses that is a lease: only this daemon installs leases."""
    return one.lease and one.address in _plain(tuple(addresses))


@functools.lru_cache(maxsize=512)
def _plain(addresses: tuple[str, ...]) -> frozenset[str]:
    """Return addresses without their prefixes."""
    return frozenset(str(ip_interface(one).ip) for one in addresses)


class Lease:
    """The addresses of one virtual router on one interface.

    `on_refreshed()`: the kernel has refreshed all addresses for another lease.
    `on_restored(addresses)`: another program had removed these; they are installed again, and must be announced.
    `on_lapsed()`: the lease ran out, as this process was stopped; the addresses count as removed.
    `on_problem(words)`: the kernel refused something; each message is reported once.
    `allowed()`: False if another process of this host has the addresses; then they are left alone.

    Routers share a `keeper`, which refreshes their leases together.
    """

    def __init__(
        self,
        kernel: Kernel,
        addresses: Sequence[str],
        every: float,
        *,
        on_refreshed: Callable[[], None],
        on_restored: Callable[[list[str]], None],
        on_lapsed: Callable[[], None],
        on_problem: Callable[[str], None],
        allowed: Callable[[], bool] = lambda: True,
        keeper: Keeper | None = None,
    ) -> None:
        self._kernel = kernel
        self._allowed = allowed
        self._keeper = keeper or Keeper(kernel)
        self._own_keeper = keeper is None
        self._addresses = {one: ip_interface(one) for one in addresses}
        self._every = every
        self._on_refreshed = on_refreshed
        self._on_restored = on_restored
        self._on_lapsed = on_lapsed
        self._on_problem = on_problem
        self._wanted = False
        self._index = 0
        self._keys: dict[str, Key] = {}  # as configured -> the kernel's key of it on our interface
        self._installed: dict[Key, str] = {}  # all installed addresses, on earlier interfaces too
        self._missing: set[Key] = set()
        self._failed = False
        self._restoring: list[str] = []
        self._refreshed = 0.0
        self._restored = 0.0
        self._problems: set[str] = set()
        self.due = math.inf
        """When the next refresh is due, in monotonic seconds."""

    @property
    def held(self) -> bool:
        """Whether addresses are installed and refreshed."""
        return self._wanted

    def lapsed(self, now: float) -> bool:
        """Return True if the addresses are held, but the kernel may have removed them, as the refresh is overdue."""
        return self._wanted and bool(self._installed) and now - self._refreshed >= LEASE

    def want(self, index: int) -> None:
        """Decide to hold the addresses on interface `index`; `install` installs them."""
        self._wanted = True
        if index != self._index:
            self._keys.clear()
        self._index = index

    def change(self, addresses: Sequence[str] | None, every: float) -> None:
        """Have other addresses, unless they are None, and another time between refreshes.

        If addresses are held, `install` what is new, then `drop` what is gone; `tidy` after a change of a prefix.
        """
        self._every = every
        if addresses is None:
            return
        known = self._addresses
        self._addresses = {one: known[one] if one in known else ip_interface(one) for one in addresses}
        self._keys = {one: key for one, key in self._keys.items() if one in self._addresses}

    def unwant(self) -> None:
        """Decide to hold the addresses no longer; from now on their removal is not reported."""
        self._wanted = False
        self._keeper.drop(self)

    def abandon(self) -> None:
        """Leave the addresses as they are, to another process of this host."""
        self.unwant()
        self._installed.clear()
        self._keys.clear()
        self._missing.clear()

    async def install(self) -> None:
        """Install the addresses if they are wanted, and refresh them from then on."""
        if not self._wanted or not self._allowed():
            return
        self._refreshed = time.monotonic()
        self.due = self._refreshed + self._every
        self._keeper.add(self)
        await self._keeper.carry_out(self)

    async def remove(self, elsewhere: Callable[[str], bool] = lambda _: False) -> None:
        """Remove the installed addresses, unless they are wanted again, or `elsewhere` says that another router has one."""
        # The last first: an address with the subnet's prefix was installed before the others of the subnet.
        await self._remove(self._alone(list(reversed(self._installed)), elsewhere), lambda: self._wanted)
        if not self._wanted:
            self._missing.clear()

    async def drop(self, elsewhere: Callable[[str], bool]) -> None:
        """Remove the addresses that are no longer ours, but for those that another router of this host has by now."""
        present = {str(one.ip) for one in self._addresses.values()}
        gone = [key for key in reversed(self._installed) if key[1] not in present]
        await self._remove(self._alone(gone, elsewhere), lambda: False)

    async def tidy(self) -> None:
        """Remove earlier places of our addresses: with another prefix, or on another interface."""
        here = {key[1]: key for key in self._keys.values()}
        stale = [key for key in reversed(self._installed) if here.get(key[1], key) != key]
        await self._remove(stale, lambda: False)

    def _alone(self, keys: Sequence[Key], elsewhere: Callable[[str], bool]) -> list[Key]:
        """Return the installed addresses of these that no other router has, and forget the others: they stay."""
        for key in keys:
            if elsewhere(key[1]):
                del self._installed[key]
        return [key for key in keys if key in self._installed]

    async def clean(self, index: int | None = None, elsewhere: Callable[[str], bool] = lambda _: False) -> int:
        """Remove leases of these addresses that an earlier run left behind, on any interface; return how many.

        A link-local address may be that of another router on another interface: those of interface `index` only.
        """
        plain = {one.ip: None for one in self._addresses.values()}
        left = [
            one.key
            for ip in plain
            for one in self._kernel.places(str(ip))
            if one.lease and (index is None or one.index == index or not ip.is_link_local) and not elsewhere(str(ip))
        ]
        await self._remove(left, lambda: False)
        return len(left)

    async def close(self) -> None:
        """Remove everything, and stop."""
        self.unwant()
        if self._own_keeper:
            await self._keeper.close()
        await self.remove()

    def changed(self, change: AddressChanged, now: float) -> None:
        """Follow a change of an address: one of ours that was removed is installed again."""
        key = change.address.key
        if not self._wanted or change.present or self._installed.get(key) not in self._addresses:
            return
        self._missing.add(key)  # unless the lease had run out, as the refresh will find
        self.due = min(self.due, max(now, self._restored + _AGAIN))
        self._keeper.hurry()

    # For the keeper

    def begin(self) -> bool:
        """Begin a refresh; return False if the addresses are not held (any more)."""
        now = time.monotonic()
        self.due = now + self._keeper.interval(self._every)
        if not self._wanted or not self._allowed():
            return False
        if self.lapsed(now):
            self.unwant()
            self._on_lapsed()
            return False
        self._refreshed, self._failed = now, False
        self._restoring += [self._installed[key] for key in self._missing if key in self._keys.values()]
        if self._restoring:
            self._restored = now
        self._missing.clear()
        return True

    def orders(self) -> Iterator[Order]:
        """Yield the kernel's orders of a refresh, for as long as the addresses are wanted."""
        prefixes = None
        for configured, wanted in self._addresses.items():
            if not self._wanted or not self._allowed():
                return
            address = str(wanted.ip)
            if any(one.index == self._index and not one.lease for one in self._kernel.places(address)):
                self._problem(
                    f"{address} is on the interface already, and not as a lease of this daemon: it is left alone"
                )
                continue
            key = self._keys.get(configured)
            if key is None:
                if prefixes is None:
                    self._kernel.catch_up()
                    prefixes = Prefixes(self._kernel.addresses(self._index))
                key = self._index, address, self._possible(wanted, prefixes.of(wanted))
            yield Order(self, configured, key, netlink.install(self._index, wanted.ip, key[2]))

    def done(self, order: Order, code: int) -> None:
        """Note the result of an order."""
        index, address, _ = order.key
        if code:
            self._failed = True
            self._problem(f"{address} cannot be installed: {os.strerror(code)}")
            return
        self._installed[order.key] = order.configured
        if index == self._index:
            self._keys[order.configured] = order.key

    def end(self) -> None:
        """End a refresh: the kernel has carried out all of it."""
        restored, self._restoring = self._restoring, []
        if not self._wanted:
            return
        if not self._failed:
            self._on_refreshed()
        if restored:
            self._on_restored(restored)

    # The small steps

    async def _remove(self, keys: Sequence[Key], stop: Callable[[], bool]) -> None:
        for start in range(0, len(keys), SLICE):
            async with self._keeper.turn:
                if stop() or not self._allowed():
                    return
                part = keys[start : start + SLICE]
                requests = [netlink.removal(index, ip_address(address), prefix) for index, address, prefix in part]
                for key, code in zip(part, self._kernel.order(requests), strict=True):
                    self._installed.pop(key, None)
                    if code not in _GONE:
                        self._problem(f"{key[1]} cannot be removed, and expires by itself: {os.strerror(code)}")
                await asyncio.sleep(0)

    def _possible(self, wanted: IPv4Interface | IPv6Interface, prefix: int) -> int:
        """Return the prefix length, or a host's where the removal of one address would take others along."""
        if wanted.version == 4 and prefix < wanted.max_prefixlen and not self._promote():  # noqa: PLR2004
            self._problem("the interface does not keep secondary addresses (promote_secondaries): /32 is used")
            return wanted.max_prefixlen
        return prefix

    def _promote(self) -> bool:
        """Let the other addresses of a subnet stay when the first one goes (ip-sysctl: promote_secondaries)."""
        link = self._kernel.link_at(self._index)
        if link is None:
            return True  # the interface is gone, and the installation will fail
        switch = Path("/proc/sys/net/ipv4/conf", link.name, "promote_secondaries")
        try:
            if switch.read_text(encoding="ascii").strip() == "0":
                switch.write_text("1", encoding="ascii")
        except OSError:
            return False
        return True

    def _problem(self, words: str) -> None:
        if words not in self._problems and len(self._problems) < 64:  # noqa: PLR2004 - and that is all we remember
            self._problems.add(words)
            self._on_problem(words)


def reprefixed(old: Collection[str], new: Collection[str]) -> bool:
    """Return True if one of the addresses has another prefix now."""
    gone, come = set(old) - set(new), set(new) - set(old)
    return not {ip_interface(one).ip for one in gone}.isdisjoint(ip_interface(one).ip for one in come)
