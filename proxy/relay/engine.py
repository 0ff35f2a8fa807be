"""The data plane of one worker: it passes the worker's orders to services, listeners and backends."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from proxy.relay.clients.connection_counts import Clients
from proxy.relay.clients.persistence import Persistence
from proxy.relay.clients.store import Store
from proxy.relay.departures import Departures
from proxy.relay.dns import journal
from proxy.relay.dns.service import DnsService
from proxy.relay.handing import Handing, HandOn
from proxy.relay.housekeeping import Housekeeping
from proxy.relay.members import Members
from proxy.relay.native.dns_listener import Listener as DnsListener
from proxy.relay.native.poller import Poller
from proxy.relay.native.rates import Rates
from proxy.relay.native.siblings import Siblings
from proxy.relay.observe.connection_log import ConnectionLog
from proxy.relay.observe.follow import Followers, Tell
from proxy.relay.observe.listing import Browser, Row
from proxy.relay.observe.pick import foretell
from proxy.relay.observe.wanted import Wanted
from proxy.relay.plan import LogPlan, Member, Plan, ServicePlan
from proxy.relay.relays import Relays
from proxy.relay.service import Failing, Hint, Service
from proxy.relay.sockets.transparent import Want
from proxy.relay.tcp.service import Admission, TcpService
from proxy.relay.transparency import Transparency
from proxy.relay.udp.sessions import UdpService
from proxy.stats import layout
from proxy.stats.table import Table


class Engine:
    """The data plane as its worker sees it, on the worker's event loop."""

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
        self._siblings = Siblings()
        self._rates = rates
        self._failing = failing
        clients = Clients(self._cells, plan.layout, self._siblings, bytes.fromhex(plan.salt))
        self._admission = Admission(plan.max_connections, self._poller, self._siblings, clients)
        self._store = store
        self._services: dict[int, Service] = {}
        self._relays = Relays(self._poller, self._admission, self._journal)
        self._members = Members(self._poller, self._count_members)
        self._handing = Handing(self._poller, self._relays, self._members)
        self._draining = False
        self._log = ConnectionLog(plan.log, self._poller)
        self._departures = Departures(self._poller, self._is_over, self._forget)
        self._transparency = Transparency(want, self._members, self._relays)
        self._layout = plan.layout
        self._hint = hint
        self._rng = Random(int.from_bytes(os.urandom(8), "big"))  # noqa: S311 - it spreads load, and protects no secret
        for service in plan.services:
            self._add(service)
        self._browser = Browser(self._relays.values)
        self._node = plan.log.node
        self._followers: Followers | None = None
        self._housekeeping = Housekeeping(
            self._poller,
            self._cells,
            self._siblings,
            self._services,
            self._relays,
            self._members,
            self._browser,
            self._log,
        )
        self._housekeeping.watch()
        self._cells[layout.PID] = os.getpid()
        self._cells[layout.GENERATION] = plan.generation
        self._cells[layout.STARTED] = time.monotonic_ns()
        self._housekeeping.begin()

    def _add(self, plan: ServicePlan) -> None:
        service = Service(
            plan,
            self._layout,
            self._cells,
            self._rng,
            self._hint,
            lambda: self._poller.now,
            self._siblings,
            self._rates,
            self._failing,
            self._log if self._log.wanted else None,
        )
        self._services[plan.slot] = service
        self._transparency.add(service)
        self._persist(service)
        self._relays.add(service)

    def _persist(self, service: Service) -> None:
        """Let clients keep their backends, or no longer, as the plan says."""
        plan = service.plan.persistence
        if plan is None or self._store is None:
            service.persistence = None
            return
        if service.keeper is None:
            service.keeper = Persistence(plan, service, self._store, self._poller)
        else:
            service.keeper.change(plan)
        service.persistence = service.keeper

    def listen(self, member: Member, sock: socket.socket) -> None:
        """Poll a member's socket.  The engine owns it from now on, and closes it if the member is polled already."""
        key = member.listener, member.index
        if self._draining or (key in self._members.polled and self._members.polled[key][1].member == member):
            sock.close()
            return
        self.unlisten(*key)  # the listener belongs to another service now
        relay = self._relays[member.service, member.transport]
        self._transparency.keep(relay.service, member)
        self._members.listen(key, relay, member, sock)

    def _count_members(self, number: int) -> None:
        self._cells[layout.MEMBERS] = number

    def unlisten(self, listener: int, index: int, drain: bool = False) -> None:
        """Stop polling a member.  Its socket is closed when all queries and sessions that came by it are over.

        With `drain` the listener goes for good: what is queued in it is served first.
        """
        key = listener, index
        if key in self._members.polled:
            if drain:
                self._members.dry(key, for_good=True)
            else:
                self._members.retire(key)

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
            for relay in self._relays.of(service_):
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

    def change(
        self,
        services: Sequence[ServicePlan],
        gone: Sequence[tuple[int, float]],
        generation: int,
        confirm: Callable[[int], None],
    ) -> None:
        """Add these services, or change those that are there, whole; let the `gone` ones, (slot, seconds), finish.

        What is open goes on; new backends are `unknown`.  `confirm(generation)` is called when nothing is used any more
        that is not in this generation; only the newest generation is confirmed.
        """
        for plan in services:
            if plan.slot in self._departures:
                self._departures.finish(plan.slot)
            if plan.slot in self._services:
                self._change(self._services[plan.slot], plan)
            else:
                self._add(plan)
            self._cells[layout.HEARTBEAT] = time.monotonic_ns()  # a hundred large tables take a second
        for slot, seconds in gone:
            if slot in self._services:
                for key in self._members.of(self._services[slot]):
                    self._members.dry(key, for_good=True)
                self._departures.service(slot, seconds)
        self._housekeeping.watch()
        if self._followers is not None:
            self._followers.attach()
        self._cells[layout.GENERATION] = generation
        self._departures.begin(generation, confirm)

    def _change(self, service: Service, plan: ServicePlan) -> None:
        """Change a service where it stands; reset the connections that are still open on backends that are gone."""
        gone, moved = service.change(plan)
        self._persist(service)
        self._transparency.change(service)
        handover = self._relays.changed(service, gone, moved)
        if handover is not None:
            self._members.hand(*handover)
        self._departures.targets(gone)

    def _is_over(self, slot: int) -> bool:
        """Return True if nothing is open any more in a service that is gone."""
        service = self._services[slot]
        return not self._members.of(service) and all(relay.idle for relay in self._relays.of(service))

    def _forget(self, slot: int) -> None:
        """End what is left of a service that is gone, and leave nothing in its counters that is not a count."""
        service = self._services[slot]
        for key in self._members.of(service):
            self._members.retire(key)
        self._housekeeping.pauses += self._cells[service.cell + layout.SERVICE_ACCEPT_PAUSED]
        self._relays.remove(service)
        self._members.tidy()
        del self._services[slot]
        self._transparency.forget(service)
        self._cells[service.cell + layout.TURN_ACCEPT] = self._cells[service.cell + layout.TURN_QUEUE] = 0
        self._housekeeping.watch()

    def settings(self, max_connections: int, log: LogPlan) -> None:
        """Use another limit on connections, and another connection log; a new file of it comes by `log_to`."""
        self._admission.limit(max_connections)
        self._log.change(log)
        self._node = log.node
        if self._followers is not None:
            self._followers.node = log.node
        for service in self._services.values():
            service.log = self._log if self._log.wanted else None
        for relay in self._relays.values():
            if isinstance(relay, TcpService | UdpService):
                relay.log = relay.service.log

    def weigh(self, changes: Sequence[tuple[int, int, int]]) -> None:
        """Apply weights, (service slot, backend slot, weight); open connections stay where they are."""
        by_service: dict[int, list[tuple[int, int]]] = {}
        for service, backend, weight in changes:
            by_service.setdefault(service, []).append((backend, weight))
        for slot, part in by_service.items():
            if slot in self._services:
                self._services[slot].weigh(part)

    def siblings(self, tables: Iterable[Table]) -> None:
        """Add up the counters of the other workers from these columns.  The engine owns them from now on."""
        self._siblings.close()
        for number, table in enumerate(tables):
            self._siblings.set(number, table)
        self._relays.share(self._siblings.count + 1)
        self._housekeeping.look()

    def prepared(self, family: int, kind: int, asked: int, socks: Sequence[socket.socket]) -> None:
        """Take the transparent sockets that the master made, of `asked` ones.  The engine owns them from now on."""
        self._transparency.prepared((family, kind), asked, socks)

    def log_to(self, fd: int) -> None:
        """Write the connection log to this file from now on.  The engine owns the descriptor."""
        if self._log.wanted:
            self._log.open(fd)
        else:
            os.close(fd)

    def replay(self, fd: int) -> int:
        """Send the queries in a dead worker's journal again; this worker's members of the same listeners answer them.

        Return how many there were.
        """
        by_listener = {polled.member.listener: (relay, polled) for relay, polled in self._members.polled.values()}
        count = 0
        for entry in journal.entries(fd):
            relay, polled = by_listener.get(entry.listener, (None, None))
            if isinstance(relay, DnsService) and isinstance(polled, DnsListener):
                relay.replay(polled, entry.message, entry.client, time.monotonic())
                self._cells[relay.base + layout.SERVICE_REPLAYED] += 1
                count += 1
        return count

    def browse(self, listing: int, wanted: Wanted | None, *, reset: bool) -> tuple[list[Row], int, bool]:
        """Show or reset a portion of the open connections and sessions: (rows, how many, whether there are more)."""
        return self._browser.page(listing, wanted, time.monotonic(), reset=reset)

    def follow(self, number: int, wanted: Wanted | None, tell: Tell) -> None:
        """Report connections and sessions that begin or end from now on; None as `wanted` stops that."""
        if self._followers is None:
            self._followers = Followers(self._relays.values, self._poller, self._node, tell)
        if wanted is None:
            self._followers.remove(number)
        else:
            self._followers.add(number, wanted)

    def foretell(self, service: str, host: str, port: int, name: str) -> dict[str, Any]:
        """Return the backend that this client would get; empty if this worker polls no listener of the service."""
        for _, (relay, polled) in sorted(self._members.polled.items(), key=lambda item: item[0]):
            if relay.service.plan.name == service:
                return foretell(polled, host, port, name)
        return {}

    def drain(self) -> None:
        """Serve all clients that are queued already, and none after them."""
        self._handing.stop()  # there is no successor any more
        if self._draining:
            return
        self._draining = True
        self._cells[layout.DRAINING] = 1
        for key in self._members.polled:
            self._members.dry(key, for_good=False)

    def hand_over(self, tell: HandOn) -> None:
        """Stop polling at once: a successor serves what is queued.  What was taken already is finished.

        `tell` gets the UDP sessions, the newest first, and whether these are the last; it returns False if it cannot
        take them yet.  The descriptors are closed afterwards.
        """
        self._draining = True
        self._cells[layout.DRAINING] = 1
        self._handing.collect()
        for key in list(self._members.polled):
            self._members.retire(key)
        self._handing.hand(tell, self._poller.now)

    def adopt(self, rows: Sequence[list[Any]], fds: Sequence[int]) -> int:
        """Continue a predecessor's UDP sessions and own the descriptors; return how many cannot go on here."""
        return self._handing.adopt(rows, fds)

    @property
    def idle(self) -> bool:
        """Return True if no connection is open, no answer is pending, and a drain has emptied all listeners."""
        waits = self._draining and (self._members.polled or self._handing.pending)
        return not waits and all(relay.idle for relay in self._relays.values())

    def close(self) -> None:
        """Reset all connections, answer pending queries with SERVFAIL, and close all sockets."""
        for relay in self._relays.values():
            relay.close()
        self._members.close()
        self._transparency.stock.close()
        self._poller.close()
        self._siblings.close()
        self._journal.close()
        if self._store is not None:
            self._store.close()
        if self._rates is not None:
            self._rates.close()
        self._log.close()  # last: the connections closed above are logged
        self._housekeeping.count_log()
