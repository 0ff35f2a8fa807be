"""An instance performs the commands of one router: it sends adverts, installs addresses and announces them.

Adverts leave at once.  Work that waits for the kernel or for a grace goes into a queue of the router, its lane, and is
done one piece after the other in the order of the commands.  So it delays neither adverts nor other routers.
"""

import asyncio
import errno
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address, ip_interface

from vrrp import packet, virtualmac
from vrrp.address import Lease, accept_own_source, owned_source, refresh_interval, reprefixed, source_for
from vrrp.events import AddressRemoved as Removed
from vrrp.events import (
    Announce,
    Command,
    Count,
    DropAddresses,
    Event,
    Fault,
    FaultCleared,
    InstallAddresses,
    LeaseLost,
    LeaseRefreshed,
    Notify,
    RemoveAddresses,
    ResetConnections,
    RouterConfig,
    SendAdvert,
    Tell,
)
from vrrp.fitness import LEAVING, OWNER
from vrrp.hands import Hands
from vrrp.netlink import Link
from vrrp.packet import IPAddress
from vrrp.receiving import Receiving
from vrrp.sending import Sending
from vrrp.settings import Key, RouterSettings
from vrrp.signing import Signing
from vrrp.sockets import GROUPS, Packet, Port
from vrrp.trial import shape, unfit

_log = logging.getLogger("steelyard.vrrp")


class Instance:
    """The acting part of one router of one IP version on interface `settings.interface`.

    `feed(event)` hands an event back to the router; `tell(words)` reports to people.  `sent` is the highest number of
    signed adverts that this host used before, and `seen` the highest of each sender.  `allowed()` returns False once
    another process of this host has become this router: the instance then sends nothing and leaves the addresses alone.
    `ready()` opens the socket if it is not open, and returns False if that fails.  `elsewhere(address)` returns True if
    another router of this host holds the address on the same interface.
    """

    def __init__(
        self,
        settings: RouterSettings,
        family: int,
        hands: Hands,
        *,
        feed: Callable[[Event], None],
        tell: Callable[[str], None],
        sent: int = 0,
        seen: Mapping[IPAddress, int] | None = None,
        allowed: Callable[[], bool] = lambda: True,
        ready: Callable[[], bool] = lambda: True,
        elsewhere: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.settings = settings
        self.family = family
        self.counters: Counter[str] = Counter()
        self.addresses = settings.of_family(family)
        self._hands = hands
        self._kernel = hands.kernel
        self._loop = asyncio.get_running_loop()
        self._feed = feed
        self._tell = tell
        self._installing = False  # the lane holds an `_install`, which will install all addresses
        self._allowed = allowed
        self._ready = ready
        self._elsewhere = elsewhere
        self._sending = Sending()
        self._mute = ""  # why the router has given up its addresses
        self._retry: asyncio.TimerHandle | None = None
        self._lane: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._task = asyncio.create_task(self._work())
        self.signing = Signing(settings.auth, settings.advert_interval, sent, seen)
        self._receiving = Receiving(self.counters, tell)
        self.lease = Lease(
            hands.kernel,
            self.addresses,
            refresh_interval(settings.advert_interval),
            on_refreshed=lambda: feed(LeaseRefreshed()),
            on_restored=self._restored,
            on_lapsed=lambda: feed(LeaseLost()),
            on_problem=tell,
            allowed=allowed,
            keeper=hands.keeper,
        )
        self.peers = self._present_peers()
        self._virtual: Link | None = None
        self.source = self.present_source()
        self.config = self._config()
        self.unfit = unfit(settings, family)
        """Why no advert can be made of the settings, in words; "" if one can."""

    def change(self, settings: RouterSettings) -> None:
        """Have other settings of the same router from now on; hand the router its new `config` next."""
        before, self.settings = self.settings, settings
        old, self.addresses = self.addresses, settings.of_family(self.family)
        other = old != self.addresses  # many addresses take long to read
        self.lease.change(self.addresses if other else None, refresh_interval(settings.advert_interval))
        if (before.auth, before.advert_interval) != (settings.auth, settings.advert_interval):
            self.signing.change(settings.auth, settings.advert_interval)
        self.peers = self._present_peers()
        self.source = self.present_source()
        self.config = self._config(None if other else self.config.addresses)
        if other or shape(before) != shape(settings):
            self.unfit = unfit(settings, self.family)
        moved = before.virtual_mac != settings.virtual_mac
        if self.lease.held and (moved or (other and reprefixed(old, self.addresses))):
            self._lane.put_nowait(lambda: self._reinstall(announce=moved))
        if settings.owned and self.family == 4 and self.lease.held:  # noqa: PLR2004 - the version of IP
            accept_own_source(settings.interface)
        if self._retry is not None and self._retry.when() > self._loop.time() and not self._retry.cancelled():
            self._retry.cancel()  # the new settings may be what lets the adverts leave
            self._retry = self._loop.call_later(0, self._try_again)

    def _present_peers(self) -> frozenset[IPAddress] | None:
        if self.settings.peers is None:
            return None
        return frozenset(one for one in map(ip_address, self.settings.peers) if one.version == self.family)

    def _advert(self, priority: int) -> packet.Advert:
        settings = self.settings
        return packet.Advert(settings.version, settings.vrid, priority, self.config.addresses, settings.advert_interval)

    def _config(self, addresses: tuple[IPAddress, ...] | None = None) -> RouterConfig:
        settings = self.settings
        if addresses is None:
            addresses = tuple(ip_interface(one).ip for one in self.addresses)
        return RouterConfig(
            name=settings.name,
            vrid=settings.vrid,
            addresses=addresses,
            source=self.source,
            priority=settings.priority,
            advert_interval=settings.advert_interval,
            version=settings.version,
            preempt=settings.preempt,
            preempt_delay=settings.preempt_delay,
            start_delay=settings.start_delay,
            peers=self.peers,
            awaits_verdicts=settings.awaits_verdicts,
            announce_count=settings.announce_count,
            announce_repeat_after=settings.announce_repeat_after,
            announce_refresh=settings.announce_refresh,
        )

    def present_source(self) -> IPAddress | None:
        """Return the address of the interface that adverts must leave from now, None if it has none."""
        link = self._kernel.link(self.settings.interface)
        if link is None:
            return None
        settings = self.settings
        owned = self._kernel.owned(link.index)
        found = source_for(owned, self.family, settings.addresses, settings.sources)
        if found is None and settings.priority == OWNER:
            found = owned_source(owned, self.family, settings.addresses)
        return None if found is None else ip_address(found)

    @property
    def key(self) -> Key:
        """What the router is known by on the wire."""
        return self.settings.interface, self.settings.vrid, self.family

    # Packets in

    def receive(self, got: Packet) -> None:
        """Hand a packet with our VRID to the router if it counts; otherwise count why it does not."""
        event = self._receiving.screen(got, self.settings.version, self.peers, self.signing, time.time())
        if event is not None:
            self._feed(event)

    # Commands out

    def perform(self, command: Command, port: Port | None) -> None:
        """Perform one command, or put it into the lane.  `Notify` is left to the runner."""
        if not isinstance(command, Count | Tell) and not self._allowed():
            return
        match command:
            case SendAdvert(priority):
                self._send(priority, port)
            case InstallAddresses():
                self._want()
            case RemoveAddresses():
                self.lease.unwant()
                self._installing = False
                self._lane.put_nowait(self._remove)
            case DropAddresses():
                self._lane.put_nowait(lambda: self.lease.drop(self._elsewhere))
            case Announce(addresses, count):
                self._lane.put_nowait(lambda: self._announce(addresses, count))
            case ResetConnections(addresses, grace):
                self._lane.put_nowait(lambda: self._reset(addresses, grace))
            case Count(name):
                self.counters[name] += 1
            case Tell(text):
                self._tell(text)
            case Notify():
                pass

    def _want(self) -> None:
        link = self._kernel.link(self.settings.interface)
        if link is None:
            return  # the router is in fault, or soon will be, as the interface is gone
        virtual = self._virtual if self.lease.held else None
        self.lease.want((virtual or link).index)
        if not self._installing:
            self._installing = True
            self._lane.put_nowait(self._install)

    def clean(self) -> None:
        """Remove addresses that an earlier run left behind."""
        self._lane.put_nowait(self._clean)

    async def settle(self) -> None:
        """Wait until the lane is empty."""
        await self._lane.join()

    def abandon(self) -> None:
        """Leave the addresses as they are, to another process of this host."""
        self.lease.abandon()
        self._installing = False  # `_work` skips what is still in the lane
        self._virtual = None

    async def close(self) -> None:
        """Remove the addresses, and stop."""
        if self._retry is not None:
            self._retry.cancel()
        await self.lease.close()
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._virtual is not None:
            self._virtual = None
            await virtualmac.remove(self._kernel, self.settings.interface, self.settings.vrid, self.family)

    def _send(self, priority: int, port: Port | None) -> None:
        code = self._send_to_all(priority, port)
        if priority == LEAVING:
            return
        if not code:
            self._sending.left()
        elif (why := self._sending.failed(code)) and not self._mute:
            # Not at once: the next commands of this batch might install the addresses again.
            self._mute = why
            self._loop.call_soon(self._give_up)

    def _send_to_all(self, priority: int, port: Port | None) -> int:
        """Send an advert.  Return 0 if it left for at least one peer, else the error number."""
        if port is None or self.source is None:
            self.counters["send_failed"] += 1
            return (
                errno.ENOTCONN if self.source is not None else errno.ENETDOWN
            )  # without a source the router is in fault anyway
        settings = self.settings
        advert = self._advert(priority)
        targets = [ip_address(GROUPS[self.family])] if self.peers is None else sorted(self.peers, key=int)
        trailer = b""
        if self.signing.signs:  # one trailer for all copies
            trailer = self.signing.trailer(packet.build(advert, self.source, self.source), self.source, time.time())
        sent = 0
        for target in targets:
            data = packet.build(advert, self.source, target, checksum=settings.checksum, trailer=trailer)
            if port.send(data, str(self.source), str(target), self._virtual.index if self._virtual else None):
                self.counters["adverts_sent"] += 1
                sent += 1
        return 0 if sent or not targets else port.error

    def mute(self, why: str) -> None:
        """Give the addresses up, as no advert can be sent for the reason `why`, and try again later."""
        if not self._mute:
            self._mute = why
            self._give_up()

    def _give_up(self) -> None:
        if self._task.done():
            return
        self._feed(Fault(self._mute))
        self._wait()

    def _wait(self) -> None:
        self._retry = self._loop.call_later(self._sending.next_pause(), self._try_again)

    def _try_again(self) -> None:
        if not self._ready():
            self._wait()
            return
        why, self._mute = self._mute, ""
        self._feed(FaultCleared(why))

    def _restored(self, addresses: list[str]) -> None:
        for one in addresses:
            self._feed(Removed(ip_interface(one).ip))

    async def _work(self) -> None:
        while True:
            job = await self._lane.get()
            try:
                if self._allowed():
                    await job()
            except Exception:
                _log.exception("%s: a command could not be performed", self.settings.name)
            finally:
                self._lane.task_done()

    async def _install(self) -> None:
        self._installing = False
        if self.settings.virtual_mac and self.lease.held:
            try:
                self._virtual = await virtualmac.make(
                    self._kernel, self.settings.interface, self.settings.vrid, self.family
                )
            except OSError as error:
                self._tell(
                    f"the virtual Ethernet address cannot be used, so the interface's own is used: {error.strerror}"
                )
            else:
                if self.lease.held:
                    self.lease.want(self._virtual.index)
        if self.settings.owned and self.family == 4:  # noqa: PLR2004 - the version of IP
            accept_own_source(self.settings.interface)
        await self.lease.install()

    async def _reinstall(self, *, announce: bool) -> None:
        """Move the addresses to the interface, or to the prefixes, that the settings ask for now."""
        old = self._virtual
        link = self._kernel.link(self.settings.interface)
        if not self.lease.held or link is None:
            return
        if old is not None and not self.settings.virtual_mac:
            self._virtual = None
            self.lease.want(link.index)
        await self._install()
        await self.lease.tidy()
        if old is not None and self._virtual is None:
            await virtualmac.remove(self._kernel, self.settings.interface, self.settings.vrid, self.family)
        if announce:
            self._hands.announcer.announce(self, self.config.addresses, self.settings.announce_count)

    async def _remove(self) -> None:
        await self.lease.remove(self._elsewhere)
        if self._virtual is not None and not self.lease.held:
            self._virtual = None
            await virtualmac.remove(self._kernel, self.settings.interface, self.settings.vrid, self.family)

    async def _clean(self) -> None:
        if self.settings.virtual_mac and not self.lease.held:
            await virtualmac.remove(self._kernel, self.settings.interface, self.settings.vrid, self.family)
        if not self.lease.held and (count := await self.lease.clean(self._index, self._elsewhere)):
            self._tell(f"removed {count} addresses that an earlier run left behind")

    async def _reset(self, addresses: tuple[IPAddress, ...], grace: float) -> None:
        link = self._virtual or self._kernel.link(self.settings.interface)
        await asyncio.sleep(grace)
        try:
            index = 0 if link is None else link.index
            # If this host has taken an address back by now, none of its connections is reset.
            left = [one for one in addresses if self._has_left(one)]
            reset = await self._hands.resets.of(left, index, lambda: all(map(self._has_left, left))) if left else 0
        except OSError as error:
            self.counters["reset_failed"] += 1
            _log.warning("%s: connections were not reset: %s", self.settings.name, error)
        else:
            self.counters["connections_reset"] += reset

    def _has_left(self, address: IPAddress) -> bool:
        """Return True if neither this process nor another one of this host holds the address."""
        held = self.lease.held and address in self.config.addresses
        return self._allowed() and not held and not self._elsewhere(str(address))

    @property
    def _index(self) -> int:
        """The kernel's index of the interface, 0 if there is no such interface."""
        link = self._kernel.link(self.settings.interface)
        return 0 if link is None else link.index

    def announces_by(self) -> Link | None:
        """Return the interface that announcements leave by, None if the addresses are not held."""
        if not self.lease.held or not self._allowed():
            return None
        return self._kernel.link(self.settings.interface if self._virtual is None else self._virtual.name)

    async def _announce(self, addresses: tuple[IPAddress, ...], count: int) -> None:
        self._hands.announcer.announce(self, addresses, count)
