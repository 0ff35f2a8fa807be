"""One router's hands: its socket, its addresses, its announcements.  The commands of `router.py` are performed here.

Adverts leave at once.  Everything that has to wait for the kernel or for a grace stands in the router's own lane, one
after the other in the order of the commands, and holds up neither adverts nor other routers.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address, ip_interface

from vrrp import arp, auth, packet, virtualmac
from vrrp.address import Lease, refresh_interval, source_for
from vrrp.events import AddressRemoved as Removed
from vrrp.events import (
    AdvertReceived,
    Announce,
    Command,
    Count,
    Event,
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
from vrrp.kernel import Kernel, Link
from vrrp.packet import IPAddress
from vrrp.reset import reset_connections
from vrrp.settings import RouterSettings
from vrrp.sockets import GROUPS, Announcer, Packet, Port

_AT_ONCE = 64  # frames before others have their turn
_REFUSED_AGAIN = 60.0  # s until the same reason to refuse adverts is told again

_log = logging.getLogger("steelyard.vrrp")


class Instance:
    """What one router of one IP version needs to act on interface `settings.interface`.

    `feed(event)` hands an event back to the router; `tell(words)` is for people.  `sent` and `seen` are the highest numbers
    of signed adverts that this host used before, and that others did.
    """

    def __init__(
        self,
        settings: RouterSettings,
        family: int,
        kernel: Kernel,
        *,
        feed: Callable[[Event], None],
        tell: Callable[[str], None],
        sent: int = 0,
        seen: Mapping[IPAddress, int] | None = None,
    ) -> None:
        self.settings = settings
        self.family = family
        self.counters: Counter[str] = Counter()
        self.addresses = settings.of_family(family)
        self._kernel = kernel
        self._feed = feed
        self._tell = tell
        self._announcer: Announcer | None = None
        self._lane: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._task = asyncio.create_task(self._work())
        mode, keys = settings.auth.mode, settings.auth.keys
        self._signer = auth.Signer(*keys[0], sent) if mode in {"permissive", "enforce"} else None
        self._verifier: auth.Verifier | None = None
        if mode != "off":
            required, interval = mode == "enforce", settings.advert_interval
            self._verifier = auth.Verifier(dict(keys), required=required, advert_interval=interval, seen=seen)
        self._refused: dict[str, float] = {}  # why adverts do not count -> when that was told last
        self.lease = Lease(
            kernel,
            self.addresses,
            refresh_interval(settings.advert_interval),
            on_refreshed=lambda: feed(LeaseRefreshed()),
            on_restored=self._restored,
            on_lapsed=lambda: feed(LeaseLost()),
            on_problem=tell,
        )
        peers = settings.peers
        self.peers = None if peers is None else frozenset(ip_address(one) for one in peers if _version(one) == family)
        self._virtual: Link | None = None
        self.source = self.present_source()
        self.config = self._config()

    def _config(self) -> RouterConfig:
        settings = self.settings
        return RouterConfig(
            name=settings.name,
            vrid=settings.vrid,
            addresses=tuple(ip_interface(one).ip for one in self.addresses),
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
        """Return the address that adverts are to leave from now, as the interface is; None: it has none."""
        link = self._kernel.link(self.settings.interface)
        if link is None:
            return None
        settings = self.settings
        found = source_for(self._kernel.addresses(link.index), self.family, settings.addresses, settings.sources)
        return None if found is None else ip_address(found)

    # Packets in

    def receive(self, got: Packet) -> None:
        """Take a packet with our VRID: to the router if it counts, else to a counter."""
        source, destination = ip_address(got.source), ip_address(got.destination)
        if self.peers is not None and source not in self.peers:
            self.counters["not_peer"] += 1  # V10: before anything of it is looked at
            return
        advert = packet.parse(
            got.data, source, destination, got.ttl, version=self.settings.version, multicast=self.peers is None
        )
        if isinstance(advert, packet.Drop):
            self.counters[advert.reason] += 1
            return
        refused = self._verifier.check(got.data, source, time.time()) if self._verifier is not None else None
        if refused is not None:
            self._refuse(refused, source)
            return
        self.counters["adverts_received"] += 1
        self._feed(AdvertReceived(advert, source))

    def _refuse(self, drop: packet.Drop, source: IPAddress) -> None:
        """Count an advert that nobody we believe has signed, and tell of each reason once in a while."""
        self.counters[drop.reason] += 1
        now = time.monotonic()
        if now - self._refused.get(drop.reason, -_REFUSED_AGAIN) >= _REFUSED_AGAIN:
            self._refused[drop.reason] = now
            self._tell(f"an advert from {source} does not count: {drop.detail}")

    # Commands out

    def perform(self, command: Command, port: Port | None) -> None:
        """Perform one command, or put it into the lane; `Notify` is for the runner."""
        match command:
            case SendAdvert(priority):
                self._send(priority, port)
            case InstallAddresses():
                link = self._kernel.link(self.settings.interface)
                if link is None:
                    return  # its end has been or will be told: a fault
                self.lease.want(link.index)
                self._lane.put_nowait(self._install)
            case RemoveAddresses():
                self.lease.unwant()
                self._lane.put_nowait(self._remove)
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

    def clean(self) -> None:
        """Remove what an earlier life left behind."""
        self._lane.put_nowait(self._clean)

    async def settle(self) -> None:
        """Wait until everything that was asked for is done."""
        await self._lane.join()

    async def close(self) -> None:
        """Remove what is installed, and stop."""
        await self.lease.close()
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._virtual is not None:
            self._virtual = None
            await virtualmac.remove(self._kernel, self.settings.interface, self.settings.vrid, self.family)
        if self._announcer is not None:
            self._announcer.close()

    @property
    def sent(self) -> int:
        """The highest number of our own signed adverts, for the next life; 0 without keys."""
        return self._signer.number if self._signer else 0

    @property
    def seen(self) -> Mapping[IPAddress, int]:
        """The highest number of each sender's signed adverts."""
        return self._verifier.seen if self._verifier else {}

    def _send(self, priority: int, port: Port | None) -> None:
        if port is None or self.source is None:
            self.counters["send_failed"] += 1
            return
        settings = self.settings
        addresses = self.config.addresses
        advert = packet.Advert(settings.version, settings.vrid, priority, addresses, settings.advert_interval)
        targets = [ip_address(GROUPS[self.family])] if self.peers is None else sorted(self.peers, key=int)
        trailer = b""
        if self._signer is not None:  # once, for all the copies
            trailer = self._signer.trailer(packet.build(advert, self.source, self.source), self.source, time.time())
        for target in targets:
            data = packet.build(advert, self.source, target, checksum=settings.checksum, trailer=trailer)
            if port.send(data, str(self.source), str(target), self._virtual.index if self._virtual else None):
                self.counters["adverts_sent"] += 1

    def _restored(self, addresses: list[str]) -> None:
        for one in addresses:
            self._feed(Removed(ip_interface(one).ip))

    async def _work(self) -> None:
        while True:
            job = await self._lane.get()
            try:
                await job()
            except Exception:
                _log.exception("%s: a command could not be performed", self.settings.name)
            finally:
                self._lane.task_done()

    async def _install(self) -> None:
        if self.settings.virtual_mac and self.lease.held:
            try:
                self._virtual = await virtualmac.make(
                    self._kernel, self.settings.interface, self.settings.vrid, self.family
                )
            except OSError as error:
                self._tell(f"no virtual Ethernet address, the interface's own is used: {error.strerror}")
            else:
                if self.lease.held:
                    self.lease.want(self._virtual.index)
        await self.lease.install()

    async def _remove(self) -> None:
        await self.lease.remove()
        if self._virtual is not None and not self.lease.held:
            self._virtual = None
            await virtualmac.remove(self._kernel, self.settings.interface, self.settings.vrid, self.family)

    async def _clean(self) -> None:
        if self.settings.virtual_mac and not self.lease.held:
            await virtualmac.remove(self._kernel, self.settings.interface, self.settings.vrid, self.family)
        if not self.lease.held and (count := await self.lease.clean()):
            self._tell(f"{count} addresses that an earlier run had left were removed")

    async def _reset(self, addresses: tuple[IPAddress, ...], grace: float) -> None:
        await asyncio.sleep(grace)
        for one in addresses:
            if self.lease.held:
                return  # taken back meanwhile
            try:
                self.counters["connections_reset"] += await reset_connections(str(one))
            except OSError as error:
                self.counters["reset_failed"] += 1
                _log.warning("%s: connections of %s were not reset: %s", self.settings.name, one, error)

    async def _announce(self, addresses: tuple[IPAddress, ...], count: int) -> None:
        link = self._virtual or self._kernel.link(self.settings.interface)
        if link is None or not self.lease.held:
            return
        if self._announcer is None or self._announcer.index != link.index:
            if self._announcer is not None:
                self._announcer.close()
                self._announcer = None
            try:
                self._announcer = Announcer(link.name, self.counters)
            except OSError:
                self.counters["send_failed"] += 1
                return
        frames = [arp.build(_announcement(one, link.mac)) for one in addresses]
        for number, frame in enumerate(frames * count, 1):
            if self._announcer.send(frame):
                self.counters["announced"] += 1
            if not number % _AT_ONCE:
                await asyncio.sleep(0)


def _announcement(address: IPAddress, mac: bytes) -> arp.GratuitousArp | arp.NeighbourAdvertisement:
    if address.version == 4:  # noqa: PLR2004 - the version of IP
        return arp.GratuitousArp(address, mac)
    return arp.NeighbourAdvertisement(address, mac)


def _version(address: str) -> int:
    return ip_address(address).version
