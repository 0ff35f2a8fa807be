"""A few hosts on a bad network, in time that is a number: real machines, real packets, no sockets.

Each host has a monotonic clock of its own origin and a wall clock that may jump.  Its adverts are built, signed if there
are keys, lost, delayed, doubled, verified and parsed.  `holders` is who answers for the addresses of a segment: between
InstallAddresses and RemoveAddresses, or the end of the lease where a host was killed or stopped.
"""

import heapq
import itertools
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from random import Random

from vrrp import events as ev
from vrrp import packet
from vrrp.auth import Signer, Verifier
from vrrp.group import Group

REFRESH = 0.5
NORMAL_DELAY = 0.001
FAMILIES = (4, 6)


@dataclass
class Faults:
    """What the network does to packets while it is ill."""

    loss: float = 0.0
    delay: float = 0.0
    duplicates: float = 0.0
    cut: set[tuple[int, int, int]] = field(default_factory=set)
    """Directions that do not work: (sender, receiver, segment)."""


class Host:
    """One host: a group of one router a segment, its clocks, its kernel."""

    def __init__(self, number: int, configs: list[ev.RouterConfig], offset: float, keys: tuple[bytes, ...]) -> None:
        self.number, self.configs, self.offset, self.keys = number, configs, offset, keys
        self.wall = 1.7e9
        self.stored = [0] * len(configs)
        self.running = self.stopped = False
        self.inbox: list = []
        self.lease_until = [-1.0] * len(configs)
        self.epoch = 0
        self.group: Group | None = None
        self.known: float | None = None

    @property
    def due(self) -> float:
        """The group's deadline in the network's time; only what is handed to the group changes it (`perform`)."""
        if self.known is None:
            deadline = self.group.deadline
            self.known = float("inf") if deadline is None else deadline - self.offset
        return self.known

    def start(self, now: float) -> None:
        """A fresh process: everything but what it stored is forgotten."""
        self.running, self.stopped, self.inbox, self.known = True, False, [], None
        self.group = Group(self.configs, now + self.offset)
        if self.keys:
            keys = dict(enumerate(self.keys, 1))
            self.signers = [Signer(1, keys[1], stored) for stored in self.stored]
            self.verifiers = [Verifier(keys) for _ in self.configs]


class Network:
    """Everything, driven by one heap of events."""

    def __init__(self, hosts: list[Host], seed: int) -> None:
        self.hosts, self.random, self.faults = hosts, Random(seed), Faults()
        self.now = 0.0
        self.heap: list = []
        self.order = itertools.count()
        self.moves: list[tuple[float, int, int, str]] = []
        self.announced: list[tuple[float, int, int]] = []
        self.counted: set[tuple[int, int, str]] = set()
        self.watch = lambda: None

    def at(self, when: float, action) -> None:
        """Let something happen at a time."""
        heapq.heappush(self.heap, (when, next(self.order), action))

    def run(self, until: float) -> None:
        """Let time pass; a host's deadline comes when it is due."""
        while True:
            due = [(host.due, host) for host in self.hosts if host.running and not host.stopped]
            tick, host = min(due, key=lambda one: one[0], default=(float("inf"), None))
            action = self.heap[0][0] if self.heap else float("inf")
            when = min(tick, action)
            if when > until:
                break
            self.now = max(self.now, when)
            if action <= tick:
                heapq.heappop(self.heap)[2]()
            else:
                self.perform(host, host.group.handle_all(ev.Tick(), max(self.now + host.offset, host.group.deadline)))
            self.watch()
        self.now = until

    # Hosts

    def start(self, host: Host) -> None:
        """Start a host that does not run."""
        if host.running:
            return
        host.start(self.now)
        host.epoch += 1
        self.feed_all(host, ev.Startup())
        self._refresh(host, host.epoch)

    def kill(self, host: Host) -> None:
        """End every process at once: the addresses stay for the rest of the lease."""
        host.running = False
        if host.keys and host.group:
            host.stored = [signer.number for signer in host.signers]

    def stop(self, host: Host) -> None:
        """SIGSTOP."""
        host.stopped = True

    def wake(self, host: Host) -> None:
        """SIGCONT: the sockets are read before timers are looked at; of these the refresh is overdue."""
        if not host.stopped:
            return
        host.stopped = False
        inbox, host.inbox = host.inbox, []
        for packet_in in inbox:
            self.receive(host, *packet_in)
        self._refresh_now(host)

    def feed_all(self, host: Host, event: ev.Event) -> None:
        """Hand an event to all routers of a host."""
        if host.running and not host.stopped:
            self.perform(host, host.group.handle_all(event, self.now + host.offset))

    def feed(self, host: Host, segment: int, event: ev.Event) -> None:
        """Hand an event to one."""
        if host.running and not host.stopped:
            self.perform(host, host.group.handle(host.group.routers[segment], event, self.now + host.offset))

    def _refresh(self, host: Host, epoch: int) -> None:
        if not host.running or host.epoch != epoch:
            return
        if not host.stopped:
            self._refresh_now(host)
        self.at(self.now + REFRESH, lambda: self._refresh(host, epoch))

    def _refresh_now(self, host: Host) -> None:
        for segment, router in enumerate(host.group.routers if host.running else ()):
            if router.state == "active" and host.lease_until[segment] > self.now:
                host.lease_until[segment] = self.now + 2
                self.feed(host, segment, ev.LeaseRefreshed())

    # Commands and packets

    def perform(self, host: Host, commands) -> None:
        """What the shell would do."""
        host.known = None
        for router, command in commands:
            segment = host.group.routers.index(router)
            match command:
                case ev.SendAdvert(priority):
                    self.send(host, segment, priority)
                case ev.InstallAddresses():
                    host.lease_until[segment] = self.now + 2
                case ev.RemoveAddresses():
                    host.lease_until[segment] = -1.0
                case ev.Announce():
                    self.announced.append((self.now, host.number, segment))
                case ev.Count(name):
                    self.counted.add((host.number, segment, name))
                case ev.Notify(state, _, reason):
                    self.moves.append((self.now, host.number, segment, f"{state}: {reason}"))

    def send(self, host: Host, segment: int, priority: int) -> None:
        """Put an advert on the segment."""
        config = host.configs[segment]
        destination = packet.GROUP4 if config.family == 4 else packet.GROUP6
        advert = packet.Advert(config.version, config.vrid, priority, config.addresses, config.advert_interval)
        data = packet.build(advert, config.source, destination)
        if host.keys:
            trailer = host.signers[segment].trailer(data, config.source, host.wall + self.now)
            data = packet.build(advert, config.source, destination, trailer=trailer)
        for other in self.hosts:
            if other is host or (host.number, other.number, segment) in self.faults.cut:
                continue
            copies = 1 + (self.random.random() < self.faults.duplicates)
            for _ in range(copies):
                if self.random.random() < self.faults.loss:
                    continue
                delay = NORMAL_DELAY * self.random.uniform(0.1, 1) + self.faults.delay * self.random.random()
                when = self.now + delay
                self.at(when, lambda other=other: self.receive(other, segment, data, config.source, destination))

    def receive(self, host: Host, segment: int, data: bytes, source, destination) -> None:
        """Take a packet in, or leave it in the socket of a stopped process."""
        if not host.running:
            return
        if host.stopped:
            host.inbox.append((segment, data, source, destination))
            return
        advert = packet.parse(data, source, destination, 255)
        assert isinstance(advert, packet.Advert)
        if not host.keys or host.verifiers[segment].check(data, source, host.wall + self.now) is None:
            self.feed(host, segment, ev.AdvertReceived(advert, source))

    # What can be seen

    def actives(self, segment: int) -> list[int]:
        """The hosts whose router is active."""
        return [h.number for h in self.hosts if h.running and h.group.routers[segment].state == "active"]

    def holders(self, segment: int) -> list[int]:
        """The hosts that answer for the addresses."""
        return [host.number for host in self.hosts if host.lease_until[segment] > self.now]


def make_hosts(priorities, segments=1, version=3, keys=(), mirrored=False, **settings) -> list[Host]:
    """Hosts of these priorities; `mirrored`: whose address is higher on one segment has the lower on the next."""
    hosts = []
    for number, priority in enumerate(priorities):
        configs = []
        for segment in range(segments):
            family = FAMILIES[segment % 2]
            suffix = len(priorities) - number if mirrored and segment % 2 else 1 + number
            base = ev.RouterConfig(
                name=f"h{number}s{segment}",
                vrid=51 + segment,
                addresses=(ip_address("198.51.100.10" if family == 4 else "2001:db8::10"),),
                source=ip_address(f"192.0.2.{suffix}" if family == 4 else f"fe80::{suffix}"),
                priority=priority,
                version=version,
            )
            configs.append(replace(base, **settings))
        hosts.append(Host(number, configs, 1000.0 * number, keys))
    return hosts
