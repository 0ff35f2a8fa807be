"""Hostile clients and backends of TCP, and system calls that fail: `python -m tests.sanitize.fuzz_streams`.

Both ends of a connection send segments of any size, urgent octets, FINs and RSTs in any order, read or do not read, and
now and then begin with a broken PROXY header.  Invariants:

- The process lives, and no handler raises an exception, unless memory fails as well.
- What arrives is a prefix of what the other end of the same connection has sent.
- Each connection is accepted and ends for exactly one reason.
- Afterwards no connection or descriptor is left, and a well-behaved client is served.
"""

import argparse
import contextlib
import gc
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from proxy.relay.plan import LimitsPlan, TcpPlan
from proxy.relay.proxy_header.header import build
from tests.proxy.relay.conftest import Relay
from tests.proxy.relay.streams import exactly, listen, where
from tests.sanitize.faults import WAYS, Faults
from tests.sanitize.tcp_trial import ENDS, Echo, turned
from tests.sanitize.trial import descriptors

AT_ONCE = 60  # connections of hostile clients
ACTIONS = 100  # each end closes with one of three of these
PERIOD = 1 << 20  # octets after which a stream repeats
STREAM = random.Random(7).randbytes(PERIOD)
URGENT = b"!"
WEATHER = 0.25  # s until other calls fail
FAILING = 5
SHOWN = 30.0  # s between two lines that say how far it is
CHANCE = 0.02
SIZES = (1, 2, 100, 1400, 16_384, 70_000, 300_000)
TIMES = TcpPlan(
    connect_timeout=0.5,
    idle_timeout=1.0,
    fin_timeout=0.5,
    keepalive=120.0,
    user_timeout=5.0,
    max_lifetime=2.0,
    quiet=0.3,
)


class End:
    """One end of a connection: a stream begins anywhere in STREAM, which its first four octets say."""

    def __init__(self, sock: socket.socket, chosen: random.Random, header: bytes = b"", *, checks: bool = True) -> None:
        sock.setblocking(False)
        self.checks = checks
        self.sock = sock
        self.random = chosen
        self.start = chosen.randrange(PERIOD)
        self.head = header + struct.pack(">I", self.start)
        self.sent = 0
        self.got = bytearray()  # the head that arrived
        self.taken = 0  # octets that arrived behind it
        self.over = self.finished = self.urgent = False
        self.wrong: list[str] = []

    def act(self) -> None:
        """Do anything."""
        try:
            self._act()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _act(self) -> None:
        match self.random.randrange(ACTIONS):
            case 0:
                self.sock.shutdown(socket.SHUT_WR)
                self.finished = True
            case 1:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close()
            case 2:
                self.close()
            case 3 if not self.urgent and not self.finished and not self.head:
                self.urgent = True  # a second one would make the first one an octet like the others
                self.sock.send(URGENT, socket.MSG_OOB)
            case 4:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.random.choice((2048, 65536, 1 << 20)))
            case 5:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, self.random.randrange(2))
            case one if one < ACTIONS // 2:
                self._read()
            case _ if not self.finished:
                self._write()

    def _write(self) -> None:
        size = self.random.choice(SIZES)
        if self.head:
            self.head = self.head[self.sock.send(self.head[:size]) :]
        else:
            at = (self.start + self.sent) % PERIOD
            self.sent += self.sock.send(STREAM[at : at + size])

    def _read(self) -> None:
        data = self.sock.recv(self.random.choice(SIZES))
        if not data:
            if self.finished or self.random.random() < 0.3:
                self.close()
            return
        missing = 4 - len(self.got)
        self.got += data[: max(missing, 0)]
        data = data[max(missing, 0) :]
        if data:
            at = (int.from_bytes(self.got, "big") + self.taken) % PERIOD
            expected = STREAM[at : at + len(data)]
            expected += STREAM[: len(data) - len(expected)]
            if data != expected and self.checks:
                self.wrong.append(f"other octets than were sent, after {self.taken}: {data[:20]!r}")
                self.close()
            self.taken += len(data)

    def close(self) -> None:
        """Close the socket, with an RST if that was set."""
        self.over = True
        self.sock.close()


class Fuzz:
    """One relay with three services, of which two read PROXY headers."""

    def __init__(self, faults: Faults, seed: int, *, memory: bool) -> None:
        """Start everything."""
        self.before = descriptors()
        self.faults = faults
        self.random = random.Random(seed)
        self.calls = [call for call in WAYS if memory or call != "memory"]
        self.wrong: list[str] = []
        self.connections = 0
        self.listeners = [listen() for _ in range(4)]
        self.relay = Relay()
        limits = LimitsPlan(queue_size=20, queue_timeout=0.5)
        *hostile, last = [where(one) for one in self.listeners]
        self.plain = self.relay.service(hostile, tcp=TIMES, limits=limits, limit=30)
        self.told = self.relay.service(hostile, tcp=TIMES, accept_proxy=("127.0.0.0/8",))
        # What is behind a broken header is anybody's guess.
        self.broken = self.relay.service([last], tcp=TIMES, accept_proxy=("127.0.0.0/8",))
        self.echo = Echo()
        self.honest = self.relay.service(
            [self.echo.address], tcp=replace(TIMES, idle_timeout=5.0, fin_timeout=5.0, max_lifetime=float("inf"))
        )
        self.relay.start()
        self.relay.call(faults.here)
        self.relay.call(lambda: faults.seed(seed))
        self.clients: list[End] = []
        self.backends: list[End] = []

    def run(self, connections: int) -> None:
        """Attack with so many connections."""
        changed = 0.0
        shown = time.monotonic()
        while self.connections < connections or self.clients:
            if time.monotonic() > shown + SHOWN:
                shown = time.monotonic()
                print(f"{self.connections:,} connections, {len(descriptors() - self.before)} descriptors", flush=True)
            if time.monotonic() > changed + WEATHER:
                changed = time.monotonic()
                self._weather()
            while len(self.clients) < AT_ONCE and self.connections < connections:
                self._connect()
            for listener in select.select(self.listeners, [], [], 0)[0]:
                with contextlib.suppress(OSError):
                    checks = listener is not self.listeners[-1]
                    self.backends.append(End(listener.accept()[0], self.random, checks=checks))
            for one in (*self.clients, *self.backends):
                one.act()
            self.wrong += [text for one in (*self.clients, *self.backends) for text in one.wrong]
            self.clients = [one for one in self.clients if not one.over]
            self.backends = [one for one in self.backends if not one.over]

    def _connect(self) -> None:
        address = self.random.choice((self.plain, self.told, self.broken))
        header = b"" if address == self.plain else self._header(broken=address == self.broken)
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(address)
        self.connections += 1
        self.clients.append(End(sock, self.random, header))

    def _header(self, *, broken: bool) -> bytes:
        """Return a PROXY header."""
        header = bytearray(build(self.random.choice(("v1", "v2")), ("10.0.0.1", 1234), ("192.0.2.1", 80)))
        match self.random.randrange(4) if broken else None:
            case 0:
                header[self.random.randrange(len(header))] ^= 1 << self.random.randrange(8)
            case 1:
                del header[self.random.randrange(len(header)) :]
            case 2:
                header = bytearray(self.random.randbytes(self.random.randrange(1, 300)))
        return bytes(header)

    def _weather(self) -> None:
        """Let other calls fail; sometimes none."""

        def change() -> None:
            self.faults.clear()
            if self.random.random() < 0.8:
                for call in self.random.sample(self.calls, FAILING):
                    self.faults.rule(call, self.random.choice(WAYS[call]), CHANCE)

        self.relay.call(change)

    def finish(self) -> list[str]:
        """Let everything come to rest; return all that is wrong."""
        relay, wrong = self.relay, self.wrong
        relay.call(self.faults.clear)
        deadline = time.monotonic() + 5.0
        while any(relay.counter("sessions", slot) for slot in range(3)) and time.monotonic() < deadline:
            for listener in select.select(self.listeners, [], [], 0)[0]:
                listener.accept()[0].close()
            for end in self.backends:
                end.close()
            time.sleep(0.05)
        for slot in range(3):
            for name in ("sessions", "connections", "queued"):
                if value := relay.counter(name, slot):
                    wrong.append(f"{name} stays at {value}")
            accepted = relay.counter("accepted", slot)
            parts = {name: count for name in (*ENDS, "rate_limited") if (count := relay.counter(name, slot))}
            if accepted != sum(parts.values()):
                wrong.append(f"{accepted} connections were accepted, and ended for these reasons: {parts}")
        wrong += self._served()
        relay.call(lambda: self.faults.here(on=False))
        self.echo.close()
        for listener in self.listeners:
            listener.close()
        if relay.faults and "memory" not in self.calls:
            wrong.append(f"{relay.faults} exceptions of handlers")
        with contextlib.suppress(AssertionError):  # they were looked at
            relay.close()
        del relay, self.relay  # what is pooled is closed with the engine
        gc.collect()
        if left := descriptors() - self.before:
            wrong.append(f"descriptors are left: {sorted(left)}")
        return wrong

    def _served(self) -> Iterator[str]:
        data = STREAM[:200_000]
        with socket.create_connection(self.honest, timeout=5) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            if exactly(sock, len(data)) != turned(data):
                yield "a well-behaved client got other octets than its backend sent"


def main() -> int:
    """Attack; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--memory", action="store_true", help="allocations of native modules fail, too")
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}", flush=True)
    faults = Faults()
    fuzz = Fuzz(faults, wanted.seed, memory=wanted.memory)
    began = time.monotonic()
    fuzz.run(wanted.connections)
    took = time.monotonic() - began
    wrong = fuzz.finish()
    for one in wrong[:50]:
        print(one)
    failed = {call: faults.failed(call) for call in WAYS if faults.failed(call)}
    print(f"{fuzz.connections:,} connections in {took:.0f} s, failed: {failed}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
