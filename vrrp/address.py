"""The addresses of a virtual router as leases: the kernel removes what nobody refreshes, and tells us of the rest.

Whatever becomes of our processes, killed or stopped, the address is gone `LEASE` seconds after the last refresh (V14).
An address that somebody else removes comes back and is told (V23), unless our own lease had run out: then another host
may have it by now, and we are not to take it from there (V15).
"""

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_interface
from pathlib import Path

from vrrp.kernel import LEASE, Address, AddressChanged, Kernel

REFRESH = 0.5
"""s between two refreshes."""
REFRESH_FAST = 1.0
"""s between them when the other host takes over before a lease ends anyway."""
_AGAIN = 0.2  # s between two times that the same address is put back at once; in between the refresh does it

_log = logging.getLogger("steelyard.vrrp")


def refresh_interval(advert_interval: float) -> float:
    """Seconds between two refreshes of a router with this advert interval."""
    return REFRESH_FAST if 3 * advert_interval < LEASE else REFRESH


def prefix_for(configured: str, present: Sequence[Address]) -> int:
    """Return the prefix length to install "192.0.2.1/24" or "192.0.2.1" with, beside what the interface has.

    That of a host, as the removal of the first address of a subnet takes the others along (V25); but as configured
    when there is no other address in the subnet, which could not be reached otherwise.
    """
    wanted = ip_interface(configured)
    host = wanted.max_prefixlen
    if wanted.network.prefixlen == host:
        return host
    for one in present:
        same = one.address == str(wanted.ip)
        if not same and one.prefix < host and ip_address(one.address) in wanted.network:
            return host
    return wanted.network.prefixlen


def source_for(
    present: Sequence[Address], version: int, virtual: Sequence[str], told: Sequence[str] = ()
) -> str | None:
    """Return the address that adverts leave from: the primary IPv4, the link-local IPv6 one (RFC 9568 5.1.1.1, 5.1.2.1).

    With `told` one of those, as the others know us by no other (unicast).  Never a virtual one; None when there is none.
    """
    virtual = [str(ip_interface(one).ip) for one in virtual]
    told = [one for one in told if ip_address(one).version == version]
    if told:
        usable = {one.address for one in present if one.usable and not one.lease}
        return next((one for one in told if one in usable and one not in virtual), None)
    for one in present:
        ip = ip_address(one.address)
        if ip.version != version or not one.usable or one.secondary or one.lease or one.address in virtual:
            continue
        if version == 4 or ip.is_link_local:  # noqa: PLR2004 - the version of IP
            return one.address
    return None


def owned_source(present: Sequence[Address], version: int, virtual: Sequence[str]) -> str | None:
    """Return the virtual address that adverts of an owner leave from, whose interface has it for good and no other one."""
    mine = {str(ip_interface(one).ip) for one in virtual}
    for one in present:
        ip = ip_address(one.address)
        wanted = ip.version == version and (version == 4 or ip.is_link_local)  # noqa: PLR2004 - the version of IP
        if wanted and one.address in mine and one.usable and not one.lease:
            return one.address
    return None


def accept_own_source(interface: str) -> None:
    """Let the host accept IPv4 packets whose source is an address of its own, which Linux drops by default.

    Adverts of an owner may come from the address that we have in its place (ip-sysctl: accept_local).
    """
    with contextlib.suppress(OSError):
        Path("/proc/sys/net/ipv4/conf", interface, "accept_local").write_text("1", encoding="ascii")


def is_ours(one: Address, addresses: Sequence[str]) -> bool:
    """Whether it is one of these virtual addresses, and on lease: nobody but us installs such."""
    return one.lease and one.address in [str(ip_interface(each).ip) for each in addresses]


class Lease:
    """The addresses of one virtual router on one interface.

    `on_refreshed()`: the kernel has taken all of them for another lease.
    `on_restored(addresses)`: somebody had removed them, they are there again and want to be announced.
    `on_lapsed()`: nobody refreshed in time (we were stopped); nothing is installed any more, as far as we are concerned.
    `on_problem(words)`: what the kernel refused, once for each kind.
    `allowed()`: whether the addresses are ours to hold; otherwise nothing is done to them.
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
    ) -> None:
        self._kernel = kernel
        self._allowed = allowed
        self._addresses = tuple(addresses)
        self._every = every
        self._on_refreshed = on_refreshed
        self._on_restored = on_restored
        self._on_lapsed = on_lapsed
        self._on_problem = on_problem
        self._lock = asyncio.Lock()  # a refresh under way must not bring back what was removed meanwhile
        self._wanted = False
        self._index = 0
        self._installed: dict[tuple[int, str, int], str] = {}  # what the kernel knows it by -> as configured
        self._missing: set[tuple[int, str, int]] = set()
        self._refreshed = 0.0
        self._restored = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._problems: set[str] = set()

    @property
    def held(self) -> bool:
        """Whether addresses are installed and refreshed."""
        return self._wanted

    def lapsed(self, now: float) -> bool:
        """Whether the addresses are held, but the kernel has been free to remove them for want of a refresh."""
        return self._wanted and bool(self._installed) and now - self._refreshed >= LEASE

    def want(self, index: int) -> None:
        """Say that the addresses are to be held on interface `index`; `install` does it."""
        self._wanted = True
        self._index = index

    def unwant(self) -> None:
        """Say that the addresses are to be held no more; from now on their removal is nobody's fault."""
        self._wanted = False

    def abandon(self) -> None:
        """Leave the addresses as they are, to another process of this host."""
        self.unwant()
        self._installed.clear()
        self._missing.clear()

    async def install(self) -> None:
        """Install what is wanted, and refresh it from then on."""
        async with self._lock:
            if not self._wanted or not self._allowed():
                return
            self._refreshed = time.monotonic()
            done = [await self._install(configured) for configured in self._addresses]
        if all(done):
            self._on_refreshed()
        if self._task is None:
            self._task = asyncio.create_task(self._keep())

    async def remove(self) -> None:
        """Remove what is installed, unless it is wanted again."""
        async with self._lock:
            if self._wanted:
                return
            # The last first: an address with the subnet's prefix was installed before the others of the subnet.
            for index, address, prefix in reversed(self._installed):
                await self._remove(index, address, prefix)
            self._installed.clear()
            self._missing.clear()

    async def clean(self, index: int | None = None) -> int:
        """Remove leases of these addresses that an earlier life of ours left behind, on any interface; how many.

        A link-local address may be that of another router on another interface: those of interface `index` only.
        """
        left = [
            one
            for one in self._kernel.addresses()
            if is_ours(one, self._addresses)
            and (index is None or one.index == index or not ip_address(one.address).is_link_local)
        ]
        async with self._lock:
            for one in left:
                await self._remove(*one.key)
        return len(left)

    async def close(self) -> None:
        """Remove everything, and stop."""
        self.unwant()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self.remove()

    def changed(self, change: AddressChanged, now: float) -> None:
        """Follow what the kernel says of an address: one of ours that is gone comes back."""
        key = change.address.key
        if not self._wanted or change.present or key not in self._installed:
            return
        self._missing.add(key)  # unless the lease had run out, as the refresh will find
        if now - self._restored >= _AGAIN:
            self._wake.set()

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            try:
                async with asyncio.timeout(self._every):
                    await self._wake.wait()
            except TimeoutError:
                pass
            try:
                await self._refresh()
            except Exception:
                _log.exception("addresses could not be refreshed")

    async def _refresh(self) -> None:
        async with self._lock:
            if not self._wanted or not self._allowed():
                return
            now = time.monotonic()
            if lapsed := self.lapsed(now):
                self._wanted = False
            else:
                self._refreshed = now
                restored = [self._installed[key] for key in self._missing if key in self._installed]
                if restored:
                    self._restored = now
                self._missing.clear()
                done = [await self._install(configured) for configured in self._addresses]
        if lapsed:
            self._on_lapsed()
            return
        if all(done):
            self._on_refreshed()
        if restored:
            self._on_restored(restored)

    async def _install(self, configured: str) -> bool:
        """Install or refresh one; whether this host has it now."""
        if not self._allowed():
            return False
        address = str(ip_interface(configured).ip)
        present = self._kernel.addresses(self._index)
        known = [key for key, one in self._installed.items() if one == configured and key[0] == self._index]
        prefix = known[0][2] if known else prefix_for(configured, present)
        if any(one.address == address and not one.lease for one in present):
            self._problem(f"{address} is on the interface already, and not as ours: it is left alone")
            return True
        if ":" not in address and prefix < ip_interface(configured).max_prefixlen and not self._promote():
            self._problem("the interface does not keep secondary addresses (promote_secondaries): /32 is used")
            prefix = ip_interface(configured).max_prefixlen
        try:
            await self._kernel.add(self._index, address, prefix)
        except OSError as error:
            self._problem(f"{address} cannot be installed: {error.strerror}")
            return False
        self._installed[self._index, address, prefix] = configured
        return True

    def _promote(self) -> bool:
        """Let the other addresses of a subnet stay when the first one goes (ip-sysctl: promote_secondaries)."""
        name = next((link.name for link in self._kernel.links() if link.index == self._index), None)
        if name is None:
            return True  # it is gone, and installing will say so
        switch = Path("/proc/sys/net/ipv4/conf", name, "promote_secondaries")
        try:
            if switch.read_text(encoding="ascii").strip() == "0":
                switch.write_text("1", encoding="ascii")
        except OSError:
            return False
        return True

    async def _remove(self, index: int, address: str, prefix: int) -> None:
        if not self._allowed():
            return
        try:
            await self._kernel.remove(index, address, prefix)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):  # it is gone by itself, or its interface is
                self._problem(f"{address} cannot be removed, and lapses: {error.strerror}")

    def _problem(self, words: str) -> None:
        if words not in self._problems and len(self._problems) < 64:  # noqa: PLR2004 - and that is all we remember
            self._problems.add(words)
            self._on_problem(words)
