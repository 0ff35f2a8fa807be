"""The data plane of one worker in pure Python: it passes the worker's orders to services, listeners and backends."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from proxy.relay.clients.connection_counts import Clients
from proxy.relay.clients.persistence import Persistence
from proxy.relay.clients.rates import Rates
from proxy.relay.clients.store import Store
from proxy.relay.dns import journal
from proxy.relay.dns.intake import DnsListener
from proxy.relay.dns.service import DnsService
from proxy.relay.engine import Want
from proxy.relay.loop.poller import Poller
from proxy.relay.observe.connection_log import ConnectionLog
from proxy.relay.observe.follow import Followers, Tell
from proxy.relay.observe.listing import Browser, Row
from proxy.relay.observe.pick import foretell
from proxy.relay.observe.wanted import Wanted
from proxy.relay.plan import Member, Plan, ServicePlan
from proxy.relay.service import Failing, Hint, Service
from proxy.relay.sockets.transparent import Stock
from proxy.relay.tcp.service import Admission, TcpListener, TcpService
from proxy.relay.udp.listener import UdpListener
from proxy.relay.udp.one_way import PerDatagramListener, PerDatagramService
from proxy.relay.udp.sessions import UdpService
from proxy.stats import layout
from proxy.stats.columns import Siblings
from proxy.stats.table import Table

HEARTBEAT = 0.1  # s
REFRESH = 0.02  # s between two looks at the siblings' open connections
HOUSEKEEPING = 1.0  # s
DRAIN_LOOK = 0.01  # s between two looks whether a draining listener is dry
DRAIN_LIMIT = 1.0  # s until listeners are closed although clients still come: they must not hold a worker

Relay = DnsService | UdpService | PerDatagramService | TcpService
Listener = DnsListener | UdpListener | PerDatagramListener | TcpListener


class PythonEngine:
    """An `engine.Engine` on the worker's event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plan: Plan,
        table: Table,
        journal_fd: int,
        hint: Hint,
        want: Want = lambda *_: None,
        store: Store | None = None,
        rates: Rates | None = None,
        failing: Failing | None = None,
    ) -> None:
        self._table = table
        self._cells = table.cells
        self._poller = Poller(loop)
        self._journal = journal.Journal(journal_fd)
        self._stock = Stock(want)
        self._siblings = Siblings()
        self._rates = rates
        self._failing = failing
        clients = Clients(self._cells, plan.layout, self._siblings, bytes.fromhex(plan.salt))
        self._admission = Admission(plan.max_connections, self._poller, self._siblings, clients)
        self._store = store
        self._services: dict[int, Service] = {}
        self._relays: dict[tuple[int, str], Relay] = {}
        self._listeners: dict[tuple[int, int], tuple[Relay, Listener]] = {}
        self._retired: list[tuple[Relay, Listener]] = []  # no longer polled, still open for pending answers
        self._draining = False
        self._drain_ends = 0.0
        self._refreshing = False
        self._log = ConnectionLog(plan.log, self._poller) if plan.log.connections != "off" else None
        rng = Random(int.from_bytes(os.urandom(8), "big"))  # noqa: S311 - it spreads load, and protects no secret
        for service in plan.services:
            self._add(service, plan.layout, rng, hint)
        self._browser = Browser(self._relays.values())
        self._node = plan.log.node
        self._followers: Followers | None = None
        self._watch()
        now = time.monotonic()
        self._cells[layout.PID] = os.getpid()
        self._cells[layout.GENERATION] = plan.generation
        self._cells[layout.STARTED] = time.monotonic_ns()
        self._beat(now)
        self._house(now)

    def _add(self, plan: ServicePlan, where: layout.Layout, rng: Random, hint: Hint) -> None:
        service = Service(
            plan,
            where,
            self._cells,
            rng,
            hint,
            lambda: self._poller.now,
            self._siblings,
            self._rates,
            self._failing,
            self._log,
        )
        self._services[plan.slot] = service
        if plan.transparent:
            service.stock = self._stock
        if plan.persistence is not None and self._store is not None:
            service.persistence = Persistence(plan.persistence, service, self._store, self._poller)
        tcp = TcpService(service, self._poller, self._admission)
        self._relays[plan.slot, "tcp"] = tcp
        self._admission.services.append(tcp)
        if plan.protocol == "dns":
            self._relays[plan.slot, "udp"] = DnsService(service, self._poller, self._journal)
        elif plan.udp.per_datagram:
            self._relays[plan.slot, "udp"] = PerDatagramService(service, self._poller)
        else:
            self._relays[plan.slot, "udp"] = UdpService(service, self._poller)

    def listen(self, member: Member, sock: socket.socket) -> None:
        """Poll a member's socket.  The engine owns it from now on, and closes it if the member is polled already."""
        key = member.listener, member.index
        if key in self._listeners or self._draining:
            sock.close()
            return
        relay = self._relays[member.service, member.transport]
        if relay.service.stock is not None:
            family = socket.AF_INET6 if ":" in member.address else socket.AF_INET
            self._stock.keep((family, socket.SOCK_STREAM if member.transport == "tcp" else socket.SOCK_DGRAM))
        try:
            self._listeners[key] = relay, relay.listen(member, sock)
        except OSError:
            sock.close()
            raise
        self._cells[layout.MEMBERS] = len(self._listeners)

    def unlisten(self, listener: int, index: int) -> None:
        """Stop polling a member.  Its socket is closed when all queries and sessions that came by it are over."""
        relay, polled = self._listeners.pop((listener, index), (None, None))
        if relay is None or polled is None:
            return
        relay.unlisten(polled)  # type: ignore[arg-type]
        self._cells[layout.MEMBERS] = len(self._listeners)
        self._retired.append((relay, polled))
        self._close_retired()

    def apply(self, changes: Sequence[tuple[int, int, str, str]]) -> None:
        """Apply verdicts and admin states; keep or reset the connections on a backend that went down.

        A draining backend keeps its connections; one in maintenance loses them at once.
        """
        by_service: dict[int, list[tuple[int, str, str]]] = {}
        for service, backend, verdict, admin in changes:
            by_service.setdefault(service, []).append((backend, verdict, admin))
        for slot, part in by_service.items():
            service_ = self._services.get(slot)
            if service_ is None:
                continue
            moved = service_.apply(part)
            for transport in ("tcp", "udp"):
                relay = self._relays[slot, transport]
                if moved["down"] or moved["ejected"]:
                    relay.unfit([*moved["down"], *moved["ejected"]])
                if moved["down"]:
                    relay.went_down(moved["down"])
                if moved["up"]:
                    relay.returned(moved["up"])
                if moved["standby"] and service_.plan.on_failback == "reset":
                    relay.failed_back(moved["standby"])
                if moved["maint"]:
                    relay.cut(moved["maint"])

    def relist(self, plan: ServicePlan, generation: int) -> None:
        """Replace a service's backends; reset the connections that are still open on one that is gone."""
        service = self._services[plan.slot]
        gone = service.relist(plan)
        for transport in ("tcp", "udp"):
            relay = self._relays[plan.slot, transport]
            relay.cut(gone)
            relay.relisted(gone)
        self._watch()
        self._cells[layout.GENERATION] = generation

    def _watch(self) -> None:
        """Watch the siblings' counters of all backends."""
        targets = [target for service in self._services.values() for target in service.targets]
        self._siblings.watch(target.cell + layout.BACKEND_ACTIVE for target in targets)

    def weigh(self, changes: Sequence[tuple[int, int, int]]) -> None:
        """Apply weights; open connections stay where they are."""
        by_service: dict[int, list[tuple[int, int]]] = {}
        for service, backend, weight in changes:
            by_service.setdefault(service, []).append((backend, weight))
        for slot, part in by_service.items():
            if slot in self._services:
                self._services[slot].weigh(part)

    def siblings(self, tables: Iterable[Table]) -> None:
        """Replace the columns of the other workers."""
        self._siblings.close()
        some = False
        for number, table in enumerate(tables):
            self._siblings.set(number, table)
            some = True
        if some and not self._refreshing:
            self._refreshing = True
            self._refresh(self._poller.now)
        elif not some:
            for service in self._services.values():
                service.refresh([0] * len(service.targets))

    def prepared(self, family: int, kind: int, asked: int, socks: Sequence[socket.socket]) -> None:
        """Put transparent sockets into the stock."""
        self._stock.put((family, kind), asked, socks)

    def log_to(self, fd: int) -> None:
        """Write the connection log to this file from now on.  The engine owns the descriptor."""
        if self._log is not None:
            self._log.open(fd)
        else:
            os.close(fd)

    def replay(self, fd: int) -> int:
        """Send the queries in a dead worker's journal again; this worker's members of the same listeners answer them."""
        by_listener = {polled.member.listener: (relay, polled) for relay, polled in self._listeners.values()}
        count = 0
        for entry in journal.entries(fd):
            relay, polled = by_listener.get(entry.listener, (None, None))
            if isinstance(relay, DnsService) and isinstance(polled, DnsListener):
                relay.intake.replay(polled, entry.message, entry.client, time.monotonic())
                self._cells[relay.base + layout.SERVICE_REPLAYED] += 1
                count += 1
        return count

    def browse(self, listing: int, wanted: Wanted | None, *, reset: bool) -> tuple[list[Row], int, bool]:
        """Show or reset a portion of the open connections and sessions: (rows, how many, whether there are more)."""
        return self._browser.page(listing, wanted, time.monotonic(), reset=reset)

    def follow(self, number: int, wanted: Wanted | None, tell: Tell) -> None:
        """Report connections and sessions that begin or end from now on; None as `wanted` stops that."""
        if self._followers is None:
            self._followers = Followers(self._relays.values(), self._poller, self._node, tell)
        if wanted is None:
            self._followers.remove(number)
        else:
            self._followers.add(number, wanted)

    def foretell(self, service: str, host: str, port: int, name: str) -> dict[str, Any]:
        """Return the backend that this client would get; empty if this worker polls no listener of the service."""
        for _, (relay, polled) in sorted(self._listeners.items(), key=lambda item: item[0]):
            if relay.service.plan.name == service:
                return foretell(polled, host, port, name)
        return {}

    def drain(self) -> None:
        """Serve all clients that are queued already, and none after them."""
        if self._draining:
            return
        self._draining = True
        self._cells[layout.DRAINING] = 1
        now = time.monotonic()
        self._drain_ends = now + DRAIN_LIMIT
        for _, polled in self._listeners.values():
            self._poller.forget(polled.sock)
            self._poller.again(polled.on_event)
        self._poller.at(now + DRAIN_LOOK, self._look_dry)

    @property
    def idle(self) -> bool:
        """Return True if no connection is open, no answer is pending, and a drain has emptied all listeners."""
        return not (self._draining and self._listeners) and all(relay.idle for relay in self._relays.values())

    def close(self) -> None:
        """Reset all connections, answer pending queries with SERVFAIL, and close all sockets."""
        for relay in self._relays.values():
            relay.close()
        for _, polled in (*self._listeners.values(), *self._retired):
            self._poller.forget(polled.sock)
            polled.sock.close()
        self._listeners.clear()
        self._retired.clear()
        self._stock.close()
        self._poller.close()
        self._siblings.close()
        self._journal.close()
        if self._store is not None:
            self._store.close()
        if self._rates is not None:
            self._rates.close()
        if self._log is not None:
            self._log.close()  # last: the connections closed above are logged
            self._count_log()

    # -- regular work: each function sets its next timer first, so that an exception costs only one turn

    def _beat(self, now: float) -> None:
        """Show the master that the event loop runs."""
        self._poller.at(now + HEARTBEAT, self._beat)
        self._cells[layout.HEARTBEAT] = time.monotonic_ns()

    def _refresh(self, now: float) -> None:
        """Read the siblings' open connections, for the schedulers that count them."""
        if not self._siblings.count:
            self._refreshing = False
            return
        self._poller.at(now + REFRESH, self._refresh)
        values = self._siblings.refresh()
        start = 0
        for service in self._services.values():
            service.refresh(values[start : start + len(service.targets)])
            start += len(service.targets)

    def _house(self, now: float) -> None:
        self._poller.at(now + HOUSEKEEPING, self._house)
        self._close_retired()
        for service in self._services.values():
            service.tick(now)
        self._browser.expire(now)
        cells = self._cells
        # Since Linux 6.2 the size of this directory is the number of descriptors; before, it is 0.
        with contextlib.suppress(OSError):
            cells[layout.OPEN_FILES] = Path("/proc/self/fd").stat().st_size
        cells[layout.OPEN_FILES_LIMIT] = os.sysconf("SC_OPEN_MAX")
        tcp = [relay for relay in self._relays.values() if isinstance(relay, TcpService)]
        cells[layout.ACCEPT_PAUSED] = int(any(relay.paused for relay in tcp))
        cells[layout.ACCEPT_PAUSES] = sum(cells[relay.base + layout.SERVICE_ACCEPT_PAUSED] for relay in tcp)
        cells[layout.SESSIONS] = sum(
            cells[service.cell + layout.SERVICE_SESSIONS] + cells[service.cell + layout.SERVICE_INFLIGHT]
            for service in self._services.values()
        )
        cells[layout.LOOP_WAKEUPS] = self._poller.wakeups
        cells[layout.LOOP_EVENTS] = self._poller.events
        cells[layout.INTERNAL_ERRORS] = self._poller.faults
        self._count_log()

    def _count_log(self) -> None:
        if self._log is not None:
            self._cells[layout.LOG_LINES] = self._log.lines
            self._cells[layout.LOG_LOST] = self._log.lost

    def _look_dry(self, now: float) -> None:
        """While draining: close each listener that is empty."""
        for (listener, index), (relay, polled) in list(self._listeners.items()):
            stalled = isinstance(relay, TcpService) and polled in relay.stalled  # its clients wait for room
            if now >= self._drain_ends or not (stalled or self._poller.waits(polled.on_event)):
                self.unlisten(listener, index)
        if self._listeners:
            self._poller.at(now + DRAIN_LOOK, self._look_dry)

    def _close_retired(self) -> None:
        """Close the sockets of former members that no pending answer needs."""
        still = []
        for relay, polled in self._retired:
            if _needed(relay, polled):
                still.append((relay, polled))
            else:
                polled.sock.close()
        self._retired = still


def _needed(relay: Relay, polled: Listener) -> bool:
    """Return True if a pending query (until give-up) or an open session is still answered by this socket."""
    if isinstance(relay, DnsService):
        return any(query.listener is polled for query in relay.inflight.values())
    return isinstance(polled, UdpListener) and polled.sessions > 0
