"""Plain UDP sessions, over real sockets, and the session table against a model of it."""

import asyncio
import errno
import os
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.relay.native.poller import Poller
from proxy.relay.native.udp import Session
from proxy.relay.plan import BackendPlan, DnsPlan, Member, ServicePlan, TcpPlan, UdpPlan
from proxy.relay.service import Service
from proxy.relay.target import ATTEMPTS
from proxy.relay.udp import closed_ports, sessions
from proxy.relay.udp.sessions import UdpService
from proxy.stats.layout import BACKEND_ACTIVE, SERVICE_CELLS, Layout
from tests.proxy.relay.conftest import eventually

PLAN = UdpPlan(idle_timeout=30.0, max_sessions=1000, when_full="drop-new")


class Server:
    """A backend that the test plays itself."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.bind((host, 0))
        self.sock.settimeout(3)
        self.address: tuple[str, int] = self.sock.getsockname()[:2]

    def get(self) -> tuple[bytes, tuple[str, int]]:
        """The next datagram, and the relay's socket that it came from."""
        return self.sock.recvfrom(65535)

    def silent(self, for_: float = 0.1) -> bool:
        """Whether nothing arrives for a while."""
        self.sock.settimeout(for_)
        try:
            self.sock.recvfrom(65535)
        except TimeoutError:
            return True
        else:
            return False
        finally:
            self.sock.settimeout(3)

    def close(self) -> None:
        """Close the port: senders get ICMP errors."""
        self.sock.close()


class Peers:
    """Servers and clients of one test."""

    def __init__(self) -> None:
        self.socks: list[socket.socket] = []

    def server(self, host: str = "127.0.0.1") -> Server:
        """A backend."""
        server = Server(host)
        self.socks.append(server.sock)
        return server

    def client(self, service: tuple[str, int], source: str | None = None) -> socket.socket:
        """A client that takes answers from the asked address only, as clients do."""
        sock = socket.socket(socket.AF_INET6 if ":" in service[0] else socket.AF_INET, socket.SOCK_DGRAM)
        if source is not None:
            sock.bind((source, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.connect(service)
        sock.settimeout(3)
        self.socks.append(sock)
        return sock


@pytest.fixture
def peers() -> Iterator[Peers]:
    """Clients and servers, closed at the end."""
    all_of_them = Peers()
    yield all_of_them
    for sock in all_of_them.socks:
        sock.close()


@contextmanager
def held(relay) -> Iterator[None]:
    """Keep the relay's thread from running, so that datagrams queue up in its sockets."""
    entered, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        go_on.wait(5)

    relay._loop.call_soon_threadsafe(wait)
    assert entered.wait(5)
    try:
        yield
    finally:
        go_on.set()


def silent(sock: socket.socket, for_: float = 0.15) -> bool:
    """Whether nothing arrives at a client for a while."""
    sock.settimeout(for_)
    try:
        sock.recv(65535)
    except TimeoutError:
        return True
    else:
        return False
    finally:
        sock.settimeout(3)


def exchange(client: socket.socket, server: Server, question: bytes = b"question", answer: bytes = b"answer"):
    """A question that reaches this server and its answer that comes back; the relay's address as the server saw it."""
    client.send(question)
    data, relayed = server.get()
    assert data == question
    server.sock.sendto(answer, relayed)
    assert client.recv(65535) == answer
    return relayed


def start(relay, *servers: Server, udp: UdpPlan = PLAN, **more) -> tuple[str, int]:
    """Begin to relay to these servers; where the service listens."""
    where = relay.service([server.address for server in servers], transports=("udp",), udp=udp, **more)
    relay.start()
    return where


# -- datagrams


@pytest.mark.parametrize("size", [512, 1232, 4096, 65507])
def test_datagrams_arrive_intact(relay, peers, size) -> None:
    """U5, U6: datagrams of every size up to the largest arrive byte for byte, in both directions."""
    server = peers.server()
    client = peers.client(start(relay, server))
    one, two = random.randbytes(size), random.randbytes(size)
    exchange(client, server, one, two)
    assert relay.backend(server.address, "bytes_in") == size
    assert relay.backend(server.address, "bytes_out") == size


def test_what_is_too_large_for_the_backend_is_counted(relay, peers) -> None:
    """U5: an IPv6 client's datagram that IPv4 cannot carry is dropped and counted; the session and its backend stay."""
    server = peers.server()
    client = peers.client(start(relay, server, address="::1"))
    relayed = exchange(client, server)
    client.send(bytes(65520))
    eventually(lambda: relay.backend(server.address, "send_failed") == 1)
    assert exchange(client, server, bytes(65507), bytes(65507)) == relayed
    assert relay.hints == []


def test_empty_datagrams_are_forwarded(relay, peers) -> None:
    """U12: a datagram of no bytes reaches the backend, one comes back, and service goes on."""
    server = peers.server()
    client = peers.client(start(relay, server))
    exchange(client, server, b"", b"")
    exchange(client, server)
    assert relay.counter("sessions_opened") == 1


def test_any_datagram_is_harmless(relay, peers) -> None:
    """U13: datagrams of 0 to 11 bytes and random ones pass unchanged both ways, whatever is in them."""
    server = peers.server()
    client = peers.client(start(relay, server))
    noise = Random(13)
    for size in [*range(12), *(noise.randrange(2000) for _ in range(60))]:
        exchange(client, server, noise.randbytes(size), noise.randbytes(size))
    assert relay.counter("sessions") == 1


def test_a_session_stays_with_its_backend(relay, peers) -> None:
    """A client's datagrams go to one backend from one address, those of the next client to the next backend."""
    one, two = peers.server(), peers.server()
    where = start(relay, one, two)
    clients = [peers.client(where) for _ in range(4)]

    def turn() -> list[tuple[int, tuple[str, int]]]:
        seen = []
        for client in clients:
            client.send(b"who")
            ready, _, _ = select.select([one.sock, two.sock], [], [], 3)
            seen.append((ready[0].getsockname()[1], ready[0].recvfrom(100)[1]))
        return seen

    first = turn()
    assert len(set(first)) == 4
    assert [port for port, _ in first[:2]] == [port for port, _ in first[2:]]
    assert first[0][0] != first[1][0]
    assert turn() == first
    assert relay.backend(one.address, "total") == relay.backend(two.address, "total") == 2


def test_a_port_of_the_listeners_where_the_backend_has_none(relay, peers) -> None:
    """A backend without a port of its own is asked at the listener's."""
    server = Server("127.0.0.2")
    peers.socks.append(server.sock)
    where = relay.service([server.address], transports=("udp",), udp=PLAN, port=server.address[1])
    relay.services[0] = replace(relay.services[0], backends=(replace(relay.services[0].backends[0], port=None),))
    relay.start()
    exchange(peers.client(where), server)


# -- who gets what


def test_a_late_answer_reaches_nobody_else(relay, peers) -> None:
    """U3: the answer to an evicted session reaches neither its own client nor the one that took its place."""
    server = peers.server()
    where = start(relay, server, udp=replace(PLAN, max_sessions=1, when_full="evict-idle"))
    first, second = peers.client(where), peers.client(where)
    first.send(b"slow")
    _, old = server.get()
    second.send(b"quick")
    data, new = server.get()
    assert data == b"quick"
    assert new != old
    server.sock.sendto(b"late", old)
    server.sock.sendto(b"prompt", new)
    assert second.recv(100) == b"prompt"
    assert silent(second)
    assert silent(first)


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_answers_leave_from_the_asked_address(relay, peers, address) -> None:
    """U11: on a wildcard listener the answer leaves from the address that was asked, and each has a session of its own."""
    server = peers.server()
    _, port = start(relay, server, address=address)
    for host in ("127.0.0.1", "127.0.0.2", "127.1.2.3") if address == "0.0.0.0" else ("127.0.0.1",):
        client = peers.client((host, port))
        for _ in range(3):
            exchange(client, server)


IPV6_SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.proxy.relay.conftest import Relay
from tests.proxy.relay.udp.test_sessions import Peers, exchange, start
relay, peers = Relay(), Peers()
server = peers.server("::1")
_, port = start(relay, server, address="::")
for host in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "::1"):
    # From an address of its own: an answer to one of the asked addresses would leave from that one anyway.
    client = peers.client((host, port), "2001:db8::9")
    for _ in range(3):
        exchange(client, server)
relay.close()
print("each answered from its own address")
"""


def test_answers_leave_from_the_asked_ipv6_address() -> None:
    """U11: on the IPv6 wildcard, too, with four addresses to choose from; in a network namespace of its own."""
    script = IPV6_SCRIPT.format(root=str(Path(__file__).parents[3]))
    setup = "ip link set lo up && for n in 1 2 3 9; do ip -6 addr add 2001:db8::$n/128 dev lo nodad; done"
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-c", f'{setup} && exec "$0" -c "$1"', sys.executable, script],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "each answered from its own address" in done.stdout, done.stderr


def test_source_port_zero_is_never_answered(relay, peers) -> None:
    """U19: a datagram from port 0 goes nowhere and is counted: no answer could reach its sender."""
    server = peers.server()
    where = start(relay, server)
    header = struct.pack("!HHHH", 0, where[1], 8 + 4, 0)
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    except PermissionError:
        (udp,) = [listener for _, listener in relay.engine._members.polled.values()]
        relay.call(lambda: udp.udp.admit(udp, memoryview(b"zero"), ("127.0.0.1", 0)))
    else:
        with raw:
            raw.sendto(header + b"zero", (where[0], 0))
    eventually(lambda: relay.counter("source_port_zero") == 1)
    assert server.silent()
    assert relay.counter("sessions") == 0
    exchange(peers.client(where), server)


# -- backends that fail


def test_port_unreachable_sends_the_datagram_elsewhere(relay, peers) -> None:
    """U7: a datagram that meets a closed port reaches another backend at once, as do those after it; the listener is unaffected."""
    one, two = peers.server(), peers.server()
    where = start(relay, one, two, scheduler="failover")
    client, other = peers.client(where), peers.client(where)
    exchange(client, one)
    one.close()
    exchange(client, two)
    exchange(client, two)
    assert relay.backend(one.address, "port_unreachable") == 1
    assert (relay.counter("moved"), relay.counter("retries")) == (1, 1)
    assert relay.hints == [(0, 0)]
    # A new client is not offered the first one now, which health has not judged yet.
    exchange(other, two)
    assert relay.backend(one.address, "port_unreachable") == 1
    assert relay.backend(one.address, "active") == 0


def test_one_refusal_speaks_for_all(relay, peers) -> None:
    """U7: a host reports a closed port once a second, so one ICMP error moves all clients' unanswered datagrams."""
    one, two = peers.server(), peers.server()
    where = start(relay, one, two, scheduler="failover")
    clients = [peers.client(where) for _ in range(20)]
    exchange(clients[0], one)
    for number, client in enumerate(clients[1:], 1):
        client.send(b"%d" % number)
        one.get()
    one.close()
    clients[0].send(b"0")
    assert sorted(int(two.get()[0]) for _ in clients) == list(range(20))
    assert two.silent(0.05)
    assert relay.backend(one.address, "port_unreachable") == 1
    eventually(lambda: relay.counter("moved") == 20)


def test_a_port_that_was_closed_gets_sessions_again(relay, peers, monkeypatch) -> None:
    """U7: a backend that has refused is left out for a moment, and when it is up again, or alone, not even for that."""
    monkeypatch.setattr(closed_ports, "CLOSED_PAUSE", 30.0)
    one, two = peers.server(), peers.server()
    where = start(relay, one, two, scheduler="failover")
    one.close()
    exchange(peers.client(where), two)
    one.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.sock.bind(one.address)
    one.sock.settimeout(3)
    peers.socks.append(one.sock)
    exchange(peers.client(where), two)
    relay.verdict(two.address, "down")
    exchange(peers.client(where), one)
    relay.verdict(two.address, "up")
    exchange(peers.client(where), two)
    relay.verdict(one.address, "down")
    relay.verdict(one.address, "up")
    exchange(peers.client(where), one)


def test_clients_that_send_once_are_answered(relay, peers) -> None:
    """U7: of twenty clients that send one datagram each all are served though every second one meets a closed port."""
    dead, server = peers.server(), peers.server()
    dead.close()
    where = start(relay, dead, server)
    for number in range(20):
        exchange(peers.client(where), server, b"%d" % number)
    assert relay.counter("sessions") == 20
    assert relay.counter("refused_no_backend") == 0


def test_what_was_answered_is_not_sent_again(relay, peers) -> None:
    """U7: after an ICMP error a datagram that the backend has answered is not sent to another one."""
    one, two = peers.server(), peers.server()
    client = peers.client(start(relay, one, two, scheduler="failover"))
    exchange(client, one)
    one.close()
    (session,) = relay.call(lambda: relay.engine._relays[0, "udp"].sessions)
    relay.call(lambda: os.write(session.fileno(), b"brings the ICMP error"))
    eventually(lambda: relay.backend(one.address, "port_unreachable") == 1)
    assert two.silent()
    exchange(client, two)
    assert relay.backend(one.address, "port_unreachable") == 1


def test_a_refused_datagram_is_offered_to_few(relay, peers) -> None:
    """U7: with every port closed a datagram goes to ATTEMPTS backends at most, once to each, and the client can go on."""
    servers = [peers.server() for _ in range(ATTEMPTS + 2)]
    client = peers.client(start(relay, *servers))
    for server in servers:
        server.close()
    client.send(b"refused by all")
    eventually(lambda: sum(relay.backend(one.address, "port_unreachable") for one in servers) == ATTEMPTS)
    assert silent(client)
    assert sorted(relay.backend(one.address, "total") for one in servers) == [0, 0, *[1] * ATTEMPTS]
    assert relay.call(lambda: len(relay.engine._relays[0, "udp"].unanswered)) == 0


def test_what_could_not_be_sent_goes_elsewhere_at_once(relay, peers) -> None:
    """U7: a datagram whose own send reports the closed port reaches another backend, behind the one before it."""
    one, two = peers.server(), peers.server()
    client = peers.client(start(relay, one, two, scheduler="failover"))
    exchange(client, one)
    one.close()
    with held(relay):
        client.send(b"brings the ICMP error")
        client.send(b"meets it")
    assert [two.get()[0] for _ in range(2)] == [b"brings the ICMP error", b"meets it"]
    assert relay.counter("sessions") == 1


def test_the_only_backend_is_asked_again(relay, peers) -> None:
    """U7: if no other backend is usable, the one that refused gets the next datagram, over a new socket."""
    server = peers.server()
    client = peers.client(start(relay, server))
    old = exchange(client, server)
    host, port = server.address
    server.close()
    client.send(b"refused")
    eventually(lambda: relay.backend((host, port), "port_unreachable") == 1)
    server.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.sock.bind((host, port))
    server.sock.settimeout(3)
    peers.socks.append(server.sock)
    assert exchange(client, server) != old
    assert relay.counter("moved") == 0


def test_a_backend_without_a_route_costs_no_datagram(relay, peers) -> None:
    """U8: a datagram to a backend that cannot even be connected to goes to the next one at once, and is counted."""
    server = peers.server()
    # A broadcast address: connect is refused, as it is without a route.
    where = relay.service([("255.255.255.255", 9), server.address], transports=("udp",), udp=PLAN, scheduler="failover")
    relay.start()
    for _ in range(4):
        exchange(peers.client(where), server)
    assert relay.backend(("255.255.255.255", 9), "send_failed") == 4
    assert relay.counter("sessions") == 4


@pytest.mark.parametrize("verdict", ["down", "ejected"])
def test_a_downed_backends_session_moves_with_the_next_datagram(relay, peers, verdict) -> None:
    """U15: if a backend goes down or is ejected, its session gets another one with the next datagram, and stays there."""
    one, two = peers.server(), peers.server()
    client = peers.client(start(relay, one, two, scheduler="failover"))
    exchange(client, one)
    relay.verdict(one.address, verdict)
    exchange(client, two)
    relay.verdict(one.address, "up")
    exchange(client, two)
    assert relay.counter("moved") == 1
    assert (relay.backend(one.address, "active"), relay.backend(two.address, "active")) == (0, 1)


def test_a_backend_in_reserve_keeps_its_sessions(relay, peers) -> None:
    """H14: a backend in reserve keeps its sessions, gets new ones only while no other is up, and goes on serving them."""
    one, two = peers.server(), peers.server()
    where = start(relay, one, two, scheduler="failover")
    client = peers.client(where)
    exchange(client, one)
    relay.verdict(one.address, "reserve")
    exchange(client, one)
    exchange(peers.client(where), two)
    relay.verdict(two.address, "down")
    exchange(peers.client(where), one)
    exchange(client, one)


def test_a_draining_backend_keeps_its_sessions(relay, peers) -> None:
    """U15: a draining backend gets no new session and keeps its own, until it goes down or into maintenance."""
    one, two = peers.server(), peers.server()
    where = start(relay, one, two, scheduler="failover")
    client = peers.client(where)
    exchange(client, one)
    relay.verdict(one.address, "up", "drain")
    exchange(client, one)
    exchange(peers.client(where), two)
    relay.verdict(one.address, "down", "drain")
    exchange(client, two)
    relay.verdict(one.address, "up")
    third = peers.client(where)
    exchange(third, one)
    relay.verdict(one.address, "up", "drain")
    relay.verdict(one.address, "up", "maint")
    exchange(third, two)


def test_no_backend_is_counted(relay, peers) -> None:
    """U15: with every backend down a datagram is dropped and counted, and the session is over."""
    server = peers.server()
    client = peers.client(start(relay, server))
    exchange(client, server)
    relay.verdict(server.address, "down")
    client.send(b"nobody")
    eventually(lambda: relay.counter("refused_no_backend") == 1)
    assert relay.counter("sessions") == 0
    assert server.silent(0.05)
    relay.verdict(server.address, "up")
    exchange(client, server)


# -- the table


def test_sessions_expire_in_time(relay, peers) -> None:
    """U14: a session ends within a second after its idle time, and traffic of either direction keeps it."""
    server = peers.server()
    where = start(relay, server, udp=replace(PLAN, idle_timeout=0.8))
    idle, asking, told = peers.client(where), peers.client(where), peers.client(where)
    exchange(asking, server)
    relayed = exchange(told, server)
    exchange(idle, server)
    began = time.monotonic()
    while relay.counter("sessions") == 3:
        asking.send(b"still here")
        server.get()
        server.sock.sendto(b"so am I", relayed)
        told.recv(100)
        time.sleep(0.05)
        assert time.monotonic() - began < 3
    assert 0.75 <= time.monotonic() - began < 1.8
    assert relay.counter("expired") == 1
    eventually(lambda: relay.counter("sessions") == 0, within=2.5)
    assert relay.counter("expired") == 3
    assert relay.backend(server.address, "active") == 0


def test_a_full_table_drops_new_clients(relay, peers) -> None:
    """U14: with drop-new a full table serves its sessions, drops new clients' datagrams, and counts each."""
    server = peers.server()
    where = start(relay, server, udp=replace(PLAN, max_sessions=2))
    first, second, third = (peers.client(where) for _ in range(3))
    exchange(first, server)
    exchange(second, server)
    third.send(b"no room")
    third.send(b"no room")
    eventually(lambda: relay.counter("table_full") == 2)
    exchange(first, server)
    exchange(second, server)
    assert server.silent(0.05)
    assert (relay.counter("sessions"), relay.counter("evicted")) == (2, 0)


def test_a_full_table_evicts_the_longest_idle(relay, peers) -> None:
    """U14, U18: with evict-idle a full table gives up the session that has been idle longest, not the oldest, and counts it."""
    server = peers.server()
    where = start(relay, server, udp=replace(PLAN, max_sessions=2, when_full="evict-idle"))
    first, second, third = (peers.client(where) for _ in range(3))
    kept = exchange(first, server)
    lost = exchange(second, server)
    assert exchange(first, server) == kept
    exchange(third, server)
    assert exchange(first, server) == kept
    assert (relay.counter("evicted"), relay.counter("table_full"), relay.counter("sessions")) == (1, 0, 2)
    assert exchange(second, server) != lost


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open no further file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as probe:
        lowest = probe.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_out_of_descriptors(relay, peers) -> None:
    """U14: without a descriptor left a new client waits, counted, no backend is blamed, and sessions live on."""
    server = peers.server()
    where = start(relay, server)
    client, late = peers.client(where), peers.client(where)
    exchange(client, server)
    with no_descriptors():
        late.send(b"no descriptor")
        eventually(lambda: relay.counter("no_descriptor") == 1)
        exchange(client, server)
    assert relay.backend(server.address, "send_failed") == 0
    assert relay.hints == []
    exchange(late, server)
    assert relay.counter("sessions") == 2


@pytest.mark.parametrize(
    ("number", "counter"),
    [(errno.ENOSPC, "no_descriptor"), (errno.ENOMEM, "no_memory"), (errno.EAGAIN, "no_local_port")],
)
def test_what_we_lack_is_not_the_backends_fault(relay, peers, monkeypatch, number, counter) -> None:
    """U14: whatever this host is out of, it is counted by its name, and no backend is blamed or asked in vain."""
    server = peers.server()
    where = start(relay, server)

    def none_left(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "connect_as", none_left)
        peers.client(where).send(b"nothing to send it with")
        eventually(lambda: relay.counter(counter) == 1)
    assert relay.backend(server.address, "send_failed") == 0
    assert relay.hints == []
    exchange(peers.client(where), server)


def test_out_of_descriptors_the_longest_idle_makes_room(relay, peers) -> None:
    """U14: with evict-idle the longest idle session gives its descriptor to a new client's next datagram."""
    server = peers.server()
    where = start(relay, server, udp=replace(PLAN, when_full="evict-idle"))
    idle, client, late = (peers.client(where) for _ in range(3))
    exchange(idle, server)
    kept = exchange(client, server)
    with no_descriptors():
        late.send(b"no descriptor")
        eventually(lambda: relay.counter("no_descriptor") == 1)
        exchange(late, server)
        assert exchange(client, server) == kept
    assert (relay.counter("evicted"), relay.counter("sessions")) == (1, 2)
    # It was want of descriptors, not of room in the table, which is as large as it was.
    exchange(idle, server)
    assert (relay.counter("evicted"), relay.counter("sessions")) == (1, 3)


LAYOUT = Layout(16, 64)
IDLE = 10
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("datagram"), st.integers(0, 5)),
        st.tuples(st.just("answer"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(1, 12)),
        st.tuples(st.just("down"), st.integers(0, 1)),
        st.tuples(st.just("up"), st.integers(0, 1)),
        st.tuples(st.just("drain"), st.integers(0, 1)),
    ),
    max_size=40,
)


class Table:
    """The session table on its own, with real sockets to two real backends, and a time that the test sets."""

    def __init__(self, when_full: str, backends: list[tuple[str, int]]) -> None:
        self.loop = asyncio.new_event_loop()
        self.poller = Poller(self.loop)
        plan = ServicePlan(
            0, "s", "plain", "round-robin", "source", "keep",
            tuple(BackendPlan(n, f"b{n}", host, port, 1, "up") for n, (host, port) in enumerate(backends)),
            TcpPlan(1, 1, 1, 1, 1), UdpPlan(IDLE, 3, when_full), DnsPlan(0.1, 1),
        )  # fmt: skip
        self.cells = memoryview(bytearray(LAYOUT.size)).cast("q")
        self.service = Service(plan, LAYOUT, self.cells, Random(1), lambda *_: None, lambda: self.poller.now)
        self.udp = UdpService(self.service, self.poller)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind(("127.0.0.1", 0))
        self.listener = self.udp.listen(Member(0, 0, 0, "udp", *self.sock.getsockname()), self.sock)
        self.poller.now = 0.0

    def count(self, name: str) -> int:
        """One of the service's counters."""
        return self.cells[LAYOUT.service(0) + [cell for cell, _ in SERVICE_CELLS].index(name)]

    def close(self) -> None:
        """Close everything."""
        self.udp.close()
        self.poller.close()
        self.loop.close()
        self.sock.close()


@pytest.mark.parametrize("when_full", ["drop-new", "evict-idle"])
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_the_table_is_as_its_model(when_full, steps) -> None:
    """U14, U15: whatever comes, order, counts and gauges of the sessions are those of a plain model of the table."""
    servers = [Server(), Server()]
    table = Table(when_full, [server.address for server in servers])
    model = Model(table, evict=when_full == "evict-idle")
    try:
        for what, value in steps:
            getattr(model, what)(value)
            model.compare()
    finally:
        table.close()
        for server in servers:
            server.close()


class Model:
    """What the table should be: clients in the order of their last datagram, and how often each thing happened."""

    def __init__(self, table: Table, *, evict: bool) -> None:
        self.table = table
        self.evict = evict
        self.now = 0.0
        self.touched: OrderedDict[int, float] = OrderedDict()
        self.counts = dict.fromkeys(
            ("sessions_opened", "expired", "evicted", "table_full", "refused_no_backend", "sessions"), 0
        )
        self.ended = 0  # to pick anew

    def datagram(self, client: int) -> None:
        """A client sends one."""
        if client in self.touched and self.session(client).target.verdict != "up":
            del self.touched[client]
            self.ended += 1
        if client in self.touched:
            self.answer(client)
        elif len(self.touched) >= 3 and not self.evict:
            self.counts["table_full"] += 1
        else:
            if len(self.touched) >= 3:
                self.touched.popitem(last=False)
                self.counts["evicted"] += 1
            if any(target.usable for target in self.table.service.targets):
                self.touched[client] = self.now
                self.counts["sessions_opened"] += 1
            else:
                self.counts["refused_no_backend"] += 1
        self.table.udp.admit(self.table.listener, memoryview(b"x"), ("127.0.0.1", 1000 + client))

    def answer(self, client: int) -> None:
        """The backend sends one."""
        if client in self.touched:
            self.table.udp.touch(self.session(client))
            self.touched[client] = self.now
            self.touched.move_to_end(client)

    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds
        self.table.poller.now = self.now
        self.table.poller.timers.expire(self.now)
        for client, touched in list(self.touched.items()):
            if self.now - touched >= IDLE:
                del self.touched[client]
                self.counts["expired"] += 1

    def down(self, backend: int) -> None:
        """A verdict."""
        self.table.service.apply([(backend, "down", "ready")])

    def up(self, backend: int) -> None:
        """A verdict."""
        self.table.service.apply([(backend, "up", "ready")])

    def drain(self, backend: int) -> None:
        """An act of the operator's."""
        self.table.service.apply([(backend, self.table.service.targets[backend].verdict, "drain")])

    def session(self, client: int) -> Session:
        """The session of a client that has one."""
        session = self.table.udp.find(self.table.listener, ("127.0.0.1", 1000 + client))
        assert session is not None
        return session

    def compare(self) -> None:
        """Fail where the table is not as it should be."""
        table, live = self.table, len(self.touched)
        assert [session.client[1] - 1000 for session in table.udp.sessions] == list(self.touched)
        assert all(self.session(client).present for client in self.touched)
        self.counts["sessions"] = live
        assert {name: table.count(name) for name in self.counts} == self.counts
        over = self.counts["expired"] + self.counts["evicted"] + self.ended
        assert self.counts["sessions_opened"] == live + over
        targets = table.service.targets
        assert sum(target.active for target in targets) == live
        assert sum(table.cells[target.cell + BACKEND_ACTIVE] for target in targets) == live
        assert table.listener.sessions == live


@pytest.mark.parametrize(("hash_on", "backends"), [("source", 1), ("source-port", 3), ("listener", 1)])
def test_what_is_hashed(relay, hash_on, backends):
    """U15: with a hashing scheduler sessions of one client meet one backend by its address or the listener, several by port."""
    servers = [Server() for _ in range(3)]
    address = relay.service(
        [one.address for one in servers], transports=("udp",), scheduler="source-hash", hash_on=hash_on
    )
    relay.start()
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(30)]
    for number, sock in enumerate(clients):
        sock.sendto(b"%d" % number, address)
    eventually(lambda: relay.counter("sessions") == len(clients))
    totals = [relay.backend(one.address, "total") for one in servers]
    assert sum(total > 0 for total in totals) == backends
    for sock in (*clients, *(one.sock for one in servers)):
        sock.close()
