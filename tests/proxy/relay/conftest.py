"""A relay in this process: the engine on a uvloop of its own thread, real sockets on loopback around it."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from proxy.relay.clients import rates
from proxy.relay.clients.store import Store
from proxy.relay.dns import journal
from proxy.relay.engine import Engine
from proxy.relay.native.rates import Rates
from proxy.relay.plan import BackendPlan, DnsPlan, LogPlan, Member, Plan, ServicePlan, TcpPlan, UdpPlan
from proxy.stats.layout import BACKEND_CELLS, BACKEND_ERRORS, SERVICE_CELLS, Layout
from proxy.stats.table import Table
from proxy.workers import binding

LAYOUT = Layout(16, 64)
TCP = TcpPlan(connect_timeout=1.0, idle_timeout=60.0, fin_timeout=5.0, keepalive=120.0, user_timeout=30.0)
UDP = UdpPlan(idle_timeout=30.0, max_sessions=1000, when_full="drop-new")
DNS = DnsPlan(retry_after=0.2, give_up=1.5)

Address = tuple[str, int]


def free_port(kind: int = socket.SOCK_STREAM, host: str = "127.0.0.1") -> int:
    """A port that nothing uses just now, for either transport."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family, kind) as one:
            one.bind((host, 0))
            port = one.getsockname()[1]
            other = socket.SOCK_DGRAM if kind == socket.SOCK_STREAM else socket.SOCK_STREAM
            with socket.socket(family, other) as two:
                try:
                    two.bind((host, port))
                except OSError:
                    continue
                return int(port)


def eventually(condition: Callable[[], object], within: float = 5.0) -> None:
    """Wait until `condition()` is true; fails with its last value after `within` seconds."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within} s, last: {value!r}"
        time.sleep(0.01)


class Relay:
    """One worker's data plane with one or more services; all backends are up by default."""

    def __init__(self) -> None:
        self.table = Table.create(LAYOUT)
        self.journal_fd = journal.create()
        self.services: list[ServicePlan] = []
        self.hints: list[tuple[int, int]] = []
        self.engine: Engine
        self.failing: list[tuple[int, int, int]] = []
        self.max_connections = 1000
        self.store: Store | None = None  # of templates; shared by relays that are given the same one
        self.salt = ""
        self.rates_fd = rates.create()
        self.log = LogPlan()
        self._slots = 0
        self._listeners: list[tuple[Member, socket.socket]] = []
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def service(
        self,
        backends: Sequence[Address],
        *,
        protocol: str = "plain",
        transports: Sequence[str] = ("tcp",),
        address: str = "127.0.0.1",
        port: int | None = None,
        scheduler: str = "round-robin",
        limit: int = 0,
        **changes: Any,
    ) -> Address:
        """Add a service before `start`; where it listens.  `tcp`, `udp`, `dns` and other fields may be replaced.

        `limit` is each backend's max-connections.
        """
        plans = []
        for host, backend_port in backends:
            plans.append(
                BackendPlan(self._slots, f"{host}:{backend_port}", host, backend_port, 1, "up", max_connections=limit)
            )
            self._slots += 1
        plan = ServicePlan(
            slot=len(self.services), name=f"s{len(self.services)}", protocol=protocol, scheduler=scheduler,
            hash_on="source", on_down="keep", backends=tuple(plans), tcp=TCP, udp=UDP, dns=DNS,
        )  # fmt: skip
        plan = replace(plan, **changes)
        port = port or free_port(host=address)
        for transport in transports:
            member = Member(len(self._listeners), 0, plan.slot, transport, address, port)
            (sock,) = binding.bind(member, 1, plan.tcp, 4096, lambda _: None)
            self._listeners.append((member, sock))
        self.services.append(plan)
        return (address, port)

    def start(self) -> "Relay":
        """Begin to relay."""
        self._thread.start()
        plan = Plan(1, LAYOUT, self.max_connections, tuple(self.services), salt=self.salt, log=self.log)

        def begin() -> None:
            store = Store(self.store.again(), bytes.fromhex(self.salt)) if self.store is not None else None
            self.engine = Engine(
                self._loop,
                plan,
                self.table,
                self.journal_fd,
                lambda *hint: self.hints.append(hint),
                store=store,
                rates=Rates(self.rates_fd, b""),
                failing=lambda *failing: self.failing.append(failing),
            )
            for member, sock in self._listeners:
                self.engine.listen(member, sock.dup())

        self.call(begin)
        return self

    def call(self, function: Callable[[], Any]) -> Any:
        """Run on the relay's thread, as every call of the engine must be; its result."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return future.result(10)

    def verdict(self, backend: Address, state: str, admin: str = "ready") -> None:
        """Apply a verdict or admin state of a backend in every service that has it."""
        name = f"{backend[0]}:{backend[1]}"
        changes = [(s.slot, b.slot, state, admin) for s in self.services for b in s.backends if b.name == name]
        assert changes, f"no backend {name}"
        self.call(lambda: self.engine.apply(changes))

    def counter(self, name: str, service: int = 0) -> int:
        """A service's counter by its stable name."""
        offset = [cell for cell, _ in SERVICE_CELLS].index(name)
        return self.table.cells[LAYOUT.service(service) + offset]

    def backend(self, backend: Address, name: str, service: int = 0) -> int:
        """A backend's counter by its stable name."""
        offset = {cell: at for at, (cell, _) in enumerate(BACKEND_CELLS)} | dict(BACKEND_ERRORS)
        wanted = f"{backend[0]}:{backend[1]}"
        (slot,) = [b.slot for b in self.services[service].backends if b.name == wanted]
        return self.table.cells[LAYOUT.backend(slot) + offset[name]]

    @property
    def faults(self) -> int:
        """Exceptions that a handler let through: each is a bug."""
        return self.engine._poller.faults

    def close(self) -> None:
        """End the relay; fails if it had a bug to report."""
        faults = 0
        if self._thread.is_alive():
            faults = self.faults
            self.call(self.engine.close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._loop.run_until_complete(asyncio.sleep(0)) if not self._loop.is_closed() else None
        self._loop.close()
        for _, sock in self._listeners:
            sock.close()
        os.close(self.journal_fd)
        os.close(self.rates_fd)
        self.table.close()
        assert faults == 0, "a handler of the relay raised"


@pytest.fixture
def relay() -> Iterator[Relay]:
    """A relay to which the test adds services before it starts it."""
    one = Relay()
    yield one
    one.close()
