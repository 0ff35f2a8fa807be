"""Hostile clients and hostile backends of datagrams, and system calls that fail: `python -m tests.sanitize.fuzz_datagrams`.

Invariants:
- The process lives, and no handler raises an exception, unless memory fails as well.
- Beside all that a well-behaved client of a well-behaved server gets an answer, and only right ones.
- Each datagram that the relay has read is in exactly one counter.
- Afterwards no query, session or descriptor is left.
"""

import argparse
import contextlib
import gc
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxy.relay.plan import DnsPlan, LimitsPlan, PersistencePlan, UdpPlan
from proxy.relay.udp.one_way import PerDatagramService
from proxy.stats.layout import BACKEND_CELLS, SERVICE_CELLS
from tests.proxy.relay import dnsbed
from tests.proxy.relay.conftest import LAYOUT, Relay
from tests.sanitize import corpus, hostile
from tests.sanitize.faults import WAYS, Faults
from tests.sanitize.trial import descriptors

SOCKETS = 24  # of the clients of one service
LOT = 20_000  # datagrams sent to one service before it is another one's turn
WEATHER = 0.25  # s until other calls fail
FAILING = 5  # calls that fail at a time
CHANCE = 0.01
REPLACED = 1.0  # s after which a backend's socket is replaced, in place of a minute
ANYBODY = ("127.0.0.0/8",)
TAKEN = ("queries", "malformed", "empty_datagram", "response_as_query", "source_port_zero", "denied", "joined",
         "proxy_malformed")  # fmt: skip
"""The counters of which each datagram of a client of DNS adds to exactly one."""
ANSWERED = ("wrong_id", "late_reply", "wrong_question", "malformed_reply", "unwanted_reply")
"""The service's counters of backends' datagrams that go no further."""


@dataclass
class Target:
    """One service that is attacked."""

    address: tuple[str, int]
    dns: bool
    pieces: list[bytes]
    clients: list[socket.socket]


class Fuzz:
    """One relay with services of all kinds."""

    def __init__(self, faults: Faults, library: Path, seed: int, *, memory: bool) -> None:
        """Start everything."""
        self.before = descriptors()
        self.faults = faults
        self.random = random.Random(seed)
        self.hostile = hostile.Hostile(library, faults.datagrams_at)
        self.calls = [call for call in WAYS if memory or call != "memory"]
        self.wrong: list[str] = []
        self.asked = self.answered = 0
        self.relay = Relay()
        self.relay.max_connections = 100
        self.backends = [_bound() for _ in range(4)]
        names, plain = [_name(one) for one in self.backends[:2]], [_name(one) for one in self.backends[2:]]
        self.targets = list(self._services(names, plain))
        self.server = dnsbed.Server()
        self.honest = self.relay.service([self.server.address], protocol="dns", transports=("udp",))
        self.relay.start()
        for one in self.relay.engine._relays.values():
            if isinstance(one, PerDatagramService):
                one.lifetime = REPLACED
        self.replaced = time.monotonic()
        for number, sock in enumerate(self.backends):
            self.hostile.backend(sock, dns=number < 2, seed=seed * 100 + number)
        self.relay.call(faults.here)
        self.relay.call(lambda: faults.seed(seed))

    def _services(self, dns: list[tuple[str, int]], plain: list[tuple[str, int]]) -> Iterator[Target]:
        times = DnsPlan(retry_after=0.05, give_up=0.4)
        sessions = UdpPlan(idle_timeout=2.0, max_sessions=200, when_full="evict-idle")
        kept = PersistencePlan(timeout=60.0, ipv4_prefix=32, ipv6_prefix=128)
        messages, others = corpus.queries(), corpus.datagrams()
        common: dict[str, Any] = {"protocol": "dns", "transports": ("udp",), "dns": times}
        yield self._target(self.relay.service(dns, **common), messages)
        told = replace(times, client_subnet=True)
        address = self.relay.service(dns, **common | {"dns": told}, accept_proxy=ANYBODY)
        self._introduce()
        yield self._target(address, corpus.introduced(messages))
        address = self.relay.service(
            dns,
            **common,
            address="0.0.0.0",
            scheduler="source-hash",
            persistence=kept,
            limits=LimitsPlan(rate=20_000.0),
        )
        yield self._target(("127.0.0.1", address[1]), messages)
        common = {"transports": ("udp",), "udp": sessions}
        yield self._target(self.relay.service(plain, **common), others, dns=False)
        address = self.relay.service(plain, **common, accept_proxy=ANYBODY)
        self._introduce()
        yield self._target(address, corpus.introduced(others), dns=False)
        each: dict[str, Any] = {"udp": replace(sessions, per_datagram=True)}
        yield self._target(self.relay.service(plain, **common | each), others, dns=False)

    def _introduce(self) -> None:
        """Let the last service name its clients to its backends."""
        plan = self.relay.services[-1]
        self.relay.services[-1] = replace(plan, backends=tuple(replace(one, send_proxy="v2") for one in plan.backends))

    def _target(self, address: tuple[str, int], pieces: list[bytes], *, dns: bool = True) -> Target:
        clients = [dnsbed.client(address, f"127.0.1.{number + 1}") for number in range(SOCKETS)]
        return Target(address, dns, pieces, clients)

    def run(self, inputs: int) -> None:
        """Attack until the relay has read so many datagrams."""
        honest = threading.Thread(target=self._ask, daemon=True)
        honest.start()
        shown = time.monotonic()
        for number in range(1 << 30):
            target = self.targets[number % len(self.targets)]
            seed = self.random.getrandbits(60)
            sender = self.hostile.clients(target.clients, target.pieces, dns=target.dns, seed=seed, count=LOT)
            while sender.is_alive():
                self._weather()
                sender.join(WEATHER)
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                print(
                    f"{self.faults.datagrams:,} datagrams, {self.answered} of {self.asked} answers, "
                    f"{len(descriptors() - self.before)} descriptors",
                    flush=True,
                )
            if self.faults.datagrams >= inputs:
                break
        self.hostile.stop()
        honest.join(10)

    def _weather(self) -> None:
        """Let other calls fail; sometimes none."""

        def change() -> None:
            self.faults.clear()
            if self.random.random() < 0.8:
                for call in self.random.sample(self.calls, FAILING):
                    self.faults.rule(call, self.random.choice(WAYS[call]), CHANCE)

        self.relay.call(change)
        if time.monotonic() - self.replaced > REPLACED:
            self.replaced = time.monotonic()
            self._return(self.random.choice(self.backends))

    def _return(self, backend: socket.socket) -> None:
        """Let a backend come back, so that its sockets are replaced."""
        for admin in ("maint", "ready"):
            self.relay.verdict(_name(backend), "up", admin)

    def _ask(self) -> None:
        """Be a well-behaved client of a well-behaved server."""
        number = 0
        while not self.hostile.stopped:
            message = dnsbed.query(f"q{number}.example.net", ident=number & 0xFFFF)
            number += 1
            self.asked += 1
            with contextlib.suppress(TimeoutError):
                got = dnsbed.ask(self.honest, message, 2.0)
                if got == dnsbed.answer(message):
                    self.answered += 1
                elif got[3] & 15 != 2 or got[:2] != message[:2]:
                    self.wrong.append(f"a wrong answer: {got.hex()} to {message.hex()}")
            time.sleep(0.05)

    def finish(self) -> list[str]:
        """Let everything come to rest; return all that is wrong."""
        relay, wrong = self.relay, self.wrong
        relay.call(self.faults.clear)
        self._rest()
        wrong += [f"{name} stays at {value}" for name, value in self._gauges().items()]
        wrong += self._balance()
        if self.answered < 0.9 * self.asked:
            wrong.append(f"of {self.asked} questions of the well-behaved client only {self.answered} were answered")
        if self.hostile.bad:
            wrong.append(f"{self.hostile.bad} answers are no DNS answers")
        if dnsbed.ask(self.honest, dnsbed.query()) != dnsbed.answer(dnsbed.query()):
            wrong.append("it does not work afterwards")
        relay.call(lambda: self.faults.here(on=False))
        for sock in (*self.backends, *(sock for target in self.targets for sock in target.clients)):
            sock.close()
        self.server.close()
        if relay.faults and "memory" not in self.calls:
            wrong.append(f"{relay.faults} exceptions of handlers")
        with contextlib.suppress(AssertionError):  # they were looked at
            relay.close()
        del relay, self.relay  # what is pooled is closed with the engine
        gc.collect()
        if left := descriptors() - self.before:
            wrong.append(f"descriptors are left: {sorted(left)}")
        return wrong

    def _rest(self) -> None:
        deadline = time.monotonic() + 10.0
        seen = -1
        while time.monotonic() < deadline and (self._gauges() or seen != self.faults.datagrams):
            seen = self.faults.datagrams
            time.sleep(0.3)
            for one in self.backends:
                self._return(one)

    def _gauges(self) -> dict[str, int]:
        cells = self.relay.table.cells
        named: dict[str, int] = {}
        for plan in self.relay.services:
            at = LAYOUT.service(plan.slot)
            named |= {
                f"{plan.name} {name}": cells[at + n] for n, (name, kind) in enumerate(SERVICE_CELLS) if kind == "gauge"
            }
            for one in plan.backends:
                at = LAYOUT.backend(one.slot)
                named |= {
                    f"{plan.name} {one.name} {name}": cells[at + n]
                    for n, (name, kind) in enumerate(BACKEND_CELLS)
                    if kind == "gauge"
                }
        return {name: value for name, value in named.items() if value}

    def _balance(self) -> Iterator[str]:
        """Yield what does not add up."""
        total = 0
        for plan in self.relay.services:
            taken = self.relay.counter("datagrams", plan.slot)
            replies = sum(
                self.relay.backend((one.address, one.port or 0), "replies", plan.slot) for one in plan.backends
            )
            total += taken + replies + sum(self.relay.counter(name, plan.slot) for name in ANSWERED)
            if plan.protocol == "dns":
                parts = {name: self.relay.counter(name, plan.slot) for name in TAKEN}
                if taken != sum(parts.values()):
                    yield f"{plan.name}: {taken} datagrams, but {parts}"
        read = self.faults.datagrams
        lost = sum(self.relay.counter("no_memory", plan.slot) for plan in self.relay.services)
        if not total <= read <= total + lost:
            yield f"{read} datagrams were read, {total} are counted, {lost} were lost for want of memory"


def _bound() -> socket.socket:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", 0))
    return sock


def _name(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()
    return host, port


def main() -> int:
    """Attack; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--library", type=Path, required=True, help="the compiled hostile.c")
    parser.add_argument("--memory", action="store_true", help="allocations of native modules fail, too")
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}", flush=True)
    fuzz = Fuzz(Faults(), wanted.library, wanted.seed, memory=wanted.memory)
    began = time.monotonic()
    fuzz.run(wanted.inputs)
    took = time.monotonic() - began
    wrong = fuzz.finish()
    for one in wrong:
        print(one)
    read = fuzz.faults.datagrams
    failed = {call: fuzz.faults.failed(call) for call in WAYS if fuzz.faults.failed(call)}
    print(
        f"{read:,} datagrams in {took:.0f} s ({read / took:,.0f}/s), {fuzz.hostile.received:,} answers, failed: {failed}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
