"""Changes of a service in place, in any order, while clients come and go."""

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.relay.clients.store import Store
from proxy.relay.plan import BackendPlan, DnsPlan, LimitsPlan, LogPlan, PersistencePlan, ServicePlan, UdpPlan
from proxy.stats.layout import (
    BACKEND_ACTIVE,
    BACKEND_QUEUED,
    SERVICE_CONNECTIONS,
    SERVICE_INFLIGHT,
    SERVICE_QUEUED,
    SERVICE_SESSIONS,
    TURN_ACCEPT,
    TURN_QUEUE,
)
from tests.proxy.relay.conftest import LAYOUT, TCP, UDP, Relay, eventually

PLACES = 3
QUERY = bytes.fromhex("abcd01000001000000000000") + b"\x03www\x07example\x00" + bytes.fromhex("00010001")


class Echo:
    """Servers on a thread that send all back, over TCP and UDP on the same ports; a query becomes its own answer."""

    def __init__(self, count: int) -> None:
        self.ports: list[int] = []
        self._poll = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        self._streams: set[int] = set()
        while len(self.ports) < count:
            stream, datagrams = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
            stream.bind(("127.0.0.1", 0))
            try:
                datagrams.bind(stream.getsockname())
            except OSError:
                stream.close()
                datagrams.close()
                continue
            stream.listen(128)
            self.ports.append(stream.getsockname()[1])
            for sock in (stream, datagrams):
                self._add(sock)
        self._ends = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _add(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socks[sock.fileno()] = sock
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _run(self) -> None:
        while not self._ends:
            for fd, _ in self._poll.poll(0.05):
                with contextlib.suppress(BlockingIOError):
                    self._serve(self._socks[fd])

    def _serve(self, sock: socket.socket) -> None:
        if sock.type == socket.SOCK_DGRAM:
            data, source = sock.recvfrom(2000)
            sock.sendto(data[:2] + b"\x81\x80" + data[4:] if data[2:4] == b"\1\0" else data, source)
        elif sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self._add(sock.accept()[0])
        else:
            try:
                data = sock.recv(2000)
                sock.sendall(data)
            except ConnectionError:
                data = b""
            if not data:
                del self._socks[sock.fileno()]
                sock.close()

    @property
    def streams(self) -> int:
        """The number of open connections."""
        return len(self._socks) - 2 * len(self.ports)

    def close(self) -> None:
        """End the thread and all connections."""
        self._ends = True
        self._thread.join(5)
        for sock in self._socks.values():
            sock.close()
        self._poll.close()


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    """Four servers: one more than a service has backends, so that a backend can move to another address."""
    warm = Relay()  # uvloop's first loop opens a pipe that stays
    warm.start()
    warm.close()
    servers = Echo(PLACES + 1)
    yield servers
    servers.close()


backends = st.lists(
    st.tuples(
        st.integers(0, PLACES - 1), st.booleans(), st.sampled_from((0, 0, 1, 2)), st.sampled_from(("off", "off", "v2")),
        st.sampled_from(((), (), ("127.0.0.2",))), st.integers(0, 2), st.integers(0, 1),
    ),
    min_size=1, max_size=PLACES, unique_by=lambda one: one[0],
)  # fmt: skip
plans = st.fixed_dictionaries(
    {
        "scheduler": st.sampled_from(
            ("round-robin", "least-connections", "maglev", "failover", "overflow", "least-latency", "source-hash",
             "destination-affinity", "never-queue", "random-two")
        ),
        "hash_on": st.sampled_from(("source", "source-port", "query-name")),
        "protocol": st.sampled_from(("plain", "dns")),
        "on_down": st.sampled_from(("keep", "reset")),
        "on_failback": st.sampled_from(("keep", "reset")),
        "tcp": st.sampled_from((TCP, replace(TCP, connect_timeout=0.3, idle_timeout=0.5, fin_timeout=0.3),
                                replace(TCP, max_lifetime=0.2, quiet=0.1, fin_timeout=0.3))),
        "udp": st.builds(
            UdpPlan, st.sampled_from((0.3, 1.0, float("inf"))), st.sampled_from((2, 1000)),
            st.sampled_from(("drop-new", "evict-idle")), st.booleans(),
        ),
        "dns": st.sampled_from((DnsPlan(0.1, 0.4), DnsPlan(0.05, 0.2), DnsPlan(0.3, 0.5, client_subnet=True))),
        "allow": st.sampled_from(((), (), ("127.0.0.0/8",))),
        "deny": st.sampled_from(((), (), (), ("127.0.0.1/32",))),
        "accept_proxy": st.sampled_from(((), (), ("192.0.2.0/24",), ("127.0.0.0/8",))),
        "limits": st.builds(
            LimitsPlan, st.sampled_from((0, 0, 1, 5)), st.sampled_from((0.1, 3.0)), st.sampled_from((0, 0, 1, 3)),
            st.sampled_from((0, 0, 1, 2)), st.sampled_from((0.0, 0.0, 5.0)), st.sampled_from((0, 3)),
        ),
        "transparent": st.booleans(),
        "persistence": st.sampled_from((None, PersistencePlan(60.0, 32, 128), PersistencePlan(1.0, 24, 64))),
        "weight_scale": st.sampled_from((1, 10)),
    }
)  # fmt: skip
acts = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.tuples(plans, backends)),
        st.tuples(st.sampled_from(("open", "open", "close", "datagram", "query", "speak")), st.integers(0, 3)),
        st.tuples(
            st.just("verdict"),
            st.tuples(
                st.integers(0, PLACES - 1), st.sampled_from(("up", "up", "down", "standby", "ejected")),
                st.sampled_from(("ready", "ready", "drain", "maint")),
            ),
        ),
        st.tuples(st.just("weight"), st.tuples(st.integers(0, PLACES - 1), st.integers(0, 3))),
        st.tuples(st.just("settings"), st.tuples(st.sampled_from((1, 3, 1000)), st.sampled_from(("off", "failed", "all")))),
    ),
    min_size=3, max_size=25,
)  # fmt: skip


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count of names


class Site:
    """One service with its clients."""

    def __init__(self, relay: Relay, echo: Echo) -> None:
        self.relay = relay
        self.echo = echo
        self.generation = 1
        self.at = relay.service(
            [("127.0.0.1", port) for port in echo.ports[:PLACES]],
            transports=("tcp", "udp"),
            udp=replace(UDP, idle_timeout=0.5),
        )
        relay.start()
        self.plan: ServicePlan = relay.services[0]
        self.clients: list[socket.socket] = []
        self.datagrams = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(4)]

    def change(self, fields: dict[str, Any], listed: list[tuple[Any, ...]]) -> None:
        """Let the service be as drawn from now on."""
        backends = tuple(
            BackendPlan(
                place, f"b{place}", "127.0.0.1", self.echo.ports[PLACES if moved else place], weight, send_proxy=proxy,
                source_addresses=sources, max_connections=limit, tier=tier,
            )
            for place, moved, limit, proxy, sources, weight, tier in listed
        )  # fmt: skip
        self.plan = replace(self.plan, **fields, backends=backends)
        self.generation += 1
        plan, generation = self.plan, self.generation
        engine = self.relay.engine
        self.relay.call(lambda: engine.change([plan], [], generation, lambda _: None))

    def act(self, name: str, drawn: Any) -> None:
        """Do one thing."""
        engine, relay = self.relay.engine, self.relay
        match name:
            case "change":
                self.change(*drawn)
            case "open":
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(self.at)
                self.clients.append(sock)
            case "close" if self.clients:
                self.clients.pop(drawn % len(self.clients)).close()
            case "speak" if self.clients:
                with contextlib.suppress(OSError):
                    self.clients[drawn % len(self.clients)].send(b"hello")
            case "datagram":
                self.datagrams[drawn].sendto(b"hello", self.at)
            case "query":
                self.datagrams[drawn].sendto(struct.pack(">H", drawn) + QUERY[2:], self.at)
            case "verdict":
                relay.call(lambda: engine.apply([(0, *drawn)]))
            case "weight":
                relay.call(lambda: engine.weigh([(0, *drawn)]))
            case "settings":
                log = LogPlan(drawn[1], "json", "", "127.0.0.1", 9)
                relay.call(lambda: engine.settings(drawn[0], log))

    def open(self) -> dict[str, int]:
        """Return all that is counted as open, without what is zero."""
        cells, base = self.relay.table.cells, LAYOUT.service(0)
        counts = {
            "sessions": cells[base + SERVICE_SESSIONS], "inflight": cells[base + SERVICE_INFLIGHT],
            "connections": cells[base + SERVICE_CONNECTIONS], "queued": cells[base + SERVICE_QUEUED],
            "turns": cells[base + TURN_ACCEPT] + cells[base + TURN_QUEUE],
            "admitted": self.relay.engine._admission.open, "counted clients": len(self.relay.engine._admission.clients),
            "retired": len(self.relay.engine._members.retired), "former": len(self.relay.engine._relays._former),
        }  # fmt: skip
        for place in range(PLACES):
            counts[f"active {place}"] = cells[LAYOUT.backend(place) + BACKEND_ACTIVE]
            counts[f"queued {place}"] = cells[LAYOUT.backend(place) + BACKEND_QUEUED]
        service = self.relay.engine._services.get(0)
        if service is not None:
            counts |= {f"holds {target.name}": target.active for target in service.targets}
            counts["held"] = 0 if service.keeper is None else len(service.keeper._held)
        return {name: count for name, count in counts.items() if count}

    def close(self) -> None:
        """End the clients."""
        for sock in (*self.clients, *self.datagrams):
            sock.close()
        self.clients.clear()


def ended(site: Site) -> None:
    """Wait until nothing is open, then let the service go, and wait until it is over."""
    site.close()
    site.change(
        {"udp": UDP, "tcp": replace(TCP, idle_timeout=0.5), "persistence": None}, [(0, False, 0, "off", (), 1, 0)]
    )
    confirmed: list[int] = []
    engine = site.relay.engine
    site.change({"udp": replace(UDP, idle_timeout=0.1)}, [(0, False, 0, "off", (), 1, 0)])
    eventually(lambda: not site.open(), within=8)
    site.relay.call(lambda: engine.change([], [(0, 5.0)], 99, confirmed.append))
    eventually(lambda: confirmed == [99])
    assert not engine._services
    assert not list(engine._relays.values())
    assert not site.open()


@settings(max_examples=int(os.environ.get("CHANGES", "25")), deadline=None, suppress_health_check=list(HealthCheck))
@given(acts)
def test_any_sequence_of_changes(echo: Echo, acts: list[tuple[str, Any]]) -> None:
    """R3: however a service is changed while its clients come and go, all is given back once: counts return to zero, no descriptor is left, no handler fails."""
    eventually(lambda: not echo.streams)
    before = descriptors()
    relay = Relay()
    relay.store, relay.salt = Store.create(), "00" * 16
    site = Site(relay, echo)
    try:
        for name, drawn in acts:
            site.act(name, drawn)
        ended(site)
    finally:
        site.close()
        relay.close()
        relay.store.close()
    eventually(lambda: descriptors() == before)
