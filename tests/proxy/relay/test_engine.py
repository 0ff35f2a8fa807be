"""The engine as the worker drives it: members come and go, siblings are counted, draining loses nothing."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dns.message
import dns.rcode
import pytest

from proxy.relay.plan import Member
from proxy.stats import layout
from proxy.stats.table import Table
from tests.proxy.relay.conftest import LAYOUT, UDP, Relay, eventually


@pytest.fixture
def sockets() -> Iterator[Callable[..., socket.socket]]:
    """Make sockets that are closed at the end: bound, to play a backend, or connected, to play a client."""
    made: list[socket.socket] = []

    def make(where: tuple[str, int] | None = None, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        sock = socket.socket(socket.AF_INET, kind)
        made.append(sock)
        sock.settimeout(3)
        if kind == socket.SOCK_DGRAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if where is not None:
            sock.connect(where)
        else:
            sock.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                sock.listen(500)
        return sock

    yield make
    for sock in made:
        sock.close()


@pytest.fixture
def two_relays() -> Iterator[tuple[Relay, Relay]]:
    """Two workers of one daemon, as far as the data plane knows: the same plan, a column each."""
    pair = Relay(), Relay()
    yield pair
    for one in pair:
        one.close()


def introduce(*relays: Relay) -> None:
    """Show each the others' columns."""
    for relay in relays:
        others = [other.table.readonly_fd() for other in relays if other is not relay]
        tables = [Table.attach(fd, LAYOUT) for fd in others]
        relay.call(lambda relay=relay, tables=tables: relay.engine.siblings(tables))


def open_files() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


@contextmanager
def held(relay: Relay) -> Iterator[None]:
    """Stop a worker: its thread does nothing until the end of the block."""
    entered, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        go_on.wait(10)

    relay._loop.call_soon_threadsafe(wait)
    assert entered.wait(5)
    try:
        yield
    finally:
        go_on.set()


def member_of(relay: Relay, number: int = 0) -> tuple[Member, socket.socket]:
    """A member, and the master's descriptor of it."""
    return relay._listeners[number]


def sharing(pair: tuple[Relay, Relay], backend: socket.socket, *transports: str, **more: Any) -> tuple[str, int]:
    """Let two workers serve one listener, whose members the first of them polls; where it is."""
    first, second = pair
    where = first.service([backend.getsockname()], transports=transports, **more)
    second.service([backend.getsockname()], transports=(), **more)
    for relay in pair:
        relay.start()
    return where


def hand_over(giver: Relay, taker: Relay, member: Member, sock: socket.socket) -> None:
    """Move a member as the master does: give it to the new worker first, then take it from the old one."""
    taker.call(lambda: taker.engine.listen(member, sock.dup()))
    giver.call(lambda: giver.engine.unlisten(member.listener, member.index))


# -- two workers


def two_workers(
    pair: tuple[Relay, Relay], backends: list[socket.socket], scheduler: str = "least-connections"
) -> list[tuple[str, int]]:
    """Let both serve the same backends over UDP, each on a port of its own; the ports."""
    where = [
        relay.service([one.getsockname() for one in backends], transports=("udp",), scheduler=scheduler)
        for relay in pair
    ]
    for relay in pair:
        relay.start()
    introduce(*pair)
    return where


def actives(relay: Relay, backends: list[socket.socket]) -> list[int]:
    """This worker's own sessions by backend."""
    return [relay.backend(one.getsockname(), "active") for one in backends]


def seen_elsewhere(relay: Relay) -> list[int]:
    """What it believes the others have, by backend."""
    return [target.elsewhere for service in relay.engine._services.values() for target in service.targets]


def test_least_connections_is_right_across_two_workers(two_relays, sockets) -> None:
    """Two workers that share their counters balance the sum of both, not each its own part."""
    left, right = two_relays
    backends = [sockets(), sockets()]
    places = two_workers(two_relays, backends)

    def sessions(which: int, count: int) -> None:
        for _ in range(count):
            before = sum(actives(two_relays[which], backends))
            sockets(places[which]).send(b"x")
            eventually(lambda before=before: sum(actives(two_relays[which], backends)) == before + 1)

    # The first worker has learned that the second backend is down: everything of its goes to the first.
    left.verdict(backends[1].getsockname(), "down")
    sessions(0, 8)
    assert actives(left, backends) == [8, 0]
    eventually(lambda: seen_elsewhere(right) == [8, 0])
    # Alone, the second worker would give each backend four.
    sessions(1, 8)
    assert actives(right, backends) == [0, 8]
    eventually(lambda: seen_elsewhere(left) == [0, 8])
    left.verdict(backends[1].getsockname(), "up")
    sessions(1, 4)
    assert actives(right, backends) == [2, 10]
    eventually(lambda: seen_elsewhere(left) == [2, 10])
    # And its own four would all go to the idle one, did the first not see what the second has there: it divides them.
    sessions(0, 4)
    assert [sum(both) for both in zip(actives(left, backends), actives(right, backends), strict=True)] == [12, 12]
    assert actives(left, backends) == [10, 2]


def test_what_siblings_have_is_looked_at_every_20_ms(two_relays, sockets) -> None:
    """A change in a sibling's column is taken over within a few refreshes, and again when it is gone."""
    left, right = two_relays
    backends = [sockets(), sockets()]
    two_workers(two_relays, backends)
    cell = LAYOUT.backend(0) + layout.BACKEND_ACTIVE
    for value in (5, 0, 7):
        right.table.cells[cell] = value
        began = time.monotonic()
        eventually(lambda value=value: seen_elsewhere(left) == [value, 0])
        assert time.monotonic() - began < 0.3
    left.call(lambda: left.engine.siblings([]))
    assert seen_elsewhere(left) == [0, 0], "siblings that are gone have nothing open"
    introduce(left, right)
    eventually(lambda: seen_elsewhere(left) == [7, 0])


def test_each_service_sees_its_own_part_of_the_siblings(two_relays, sockets) -> None:
    """What siblings have open reaches the backend that it belongs to, in every service."""
    left, right = two_relays
    for relay in two_relays:
        for count in (2, 1, 3):
            relay.service([(f"127.0.0.{n + 1}", 9) for n in range(count)], transports=("udp",))
        relay.start()
    for slot in range(6):
        right.table.cells[LAYOUT.backend(slot) + layout.BACKEND_ACTIVE] = 10 + slot
    introduce(left, right)
    assert seen_elsewhere(left) == [10, 11, 12, 13, 14, 15]


def test_replaced_siblings_leave_no_descriptor(two_relays, sockets) -> None:
    """Exchanging the workers' columns a hundred times leaves as many descriptors as once."""
    two_workers(two_relays, [sockets()])
    before = open_files()
    for _ in range(100):
        introduce(*two_relays)
    assert open_files() == before
    left, _ = two_relays
    timers = left.call(lambda: len(left.engine._poller.timers))
    assert timers < 10, "each introduction began a refresh of its own"


# -- members come and go


def dns_query(number: int) -> bytes:
    """A query that no other is equal to."""
    query = dns.message.make_query(f"q{number}.example.net", "A", id=number)
    return query.to_wire()


def dns_answer(backend: socket.socket, rcode: int = dns.rcode.NOERROR) -> None:
    """Answer one query."""
    wire, who = backend.recvfrom(4096)
    response = dns.message.make_response(dns.message.from_wire(wire))
    response.set_rcode(rcode)
    backend.sendto(response.to_wire(), who)


def test_a_stopped_workers_member_is_served_by_its_sibling(two_relays, sockets) -> None:
    """R10: while one worker does nothing at all, whatever its member receives is answered by the one that takes it over."""
    stopped, sibling = two_relays
    backend = sockets()
    where = sharing(two_relays, backend, "udp", protocol="dns")
    client = sockets(where)
    member, sock = member_of(stopped)
    with held(stopped):
        for number in range(20):
            client.send(dns_query(number))
        sibling.call(lambda: sibling.engine.listen(member, sock.dup()))
        for _ in range(20):
            dns_answer(backend)
        assert {dns.message.from_wire(client.recv(4096)).id for _ in range(20)} == set(range(20))
    # Awake again, it finds nothing to answer twice.
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(4096)


def test_answers_under_way_survive_a_hand_over(two_relays, sockets) -> None:
    """R10: queries taken before a member was handed over are answered through it, and then its socket is closed."""
    giver, taker = two_relays
    backend = sockets()
    where = sharing(two_relays, backend, "udp", protocol="dns")
    client = sockets(where)
    for number in range(5):
        client.send(dns_query(number))
    eventually(lambda: giver.counter("inflight") == 5)
    member, sock = member_of(giver)
    hand_over(giver, taker, member, sock)
    assert len(giver.engine._members.retired) == 1
    client.send(dns_query(5))
    for _ in range(6):
        dns_answer(backend)
    assert {dns.message.from_wire(client.recv(4096)).id for _ in range(6)} == set(range(6))
    # Counted after it was sent: the client may be ahead of the count.
    eventually(lambda: (giver.counter("replies"), taker.counter("replies")) == (5, 1))
    eventually(lambda: not giver.engine._members.retired, within=3)


def test_sessions_survive_a_hand_over(two_relays, sockets) -> None:
    """R10: a session whose member was handed over still answers its client, and the other worker begins one of its own."""
    giver, taker = two_relays
    backend = sockets()
    where = sharing(two_relays, backend, "udp")
    client = sockets(where)
    client.send(b"before")
    _, old = backend.recvfrom(100)
    member, sock = member_of(giver)
    hand_over(giver, taker, member, sock)
    client.send(b"after")
    data, new = backend.recvfrom(100)
    assert (data, new != old) == (b"after", True)
    backend.sendto(b"late", old)
    backend.sendto(b"prompt", new)
    assert {client.recv(100), client.recv(100)} == {b"late", b"prompt"}
    assert giver.call(lambda: giver.engine._members.retired[0][1].sessions) == 1
    # Handed back, the session is found again.
    hand_over(taker, giver, member, sock)
    client.send(b"again")
    assert backend.recvfrom(100) == (b"again", old)
    assert giver.call(lambda: (len(giver.engine._members.retired), giver.counter("sessions"))) in ((0, 1), (1, 1))
    eventually(lambda: not giver.engine._members.retired, within=3)


def test_many_hand_overs_leave_no_descriptor(two_relays, sockets) -> None:
    """R10: members handed to and fro two hundred times leave no descriptor behind, and no session unanswered."""
    backend = sockets()
    left, right = two_relays
    where = sharing(two_relays, backend, "udp", "tcp")
    client = sockets(where)
    client.send(b"x")
    _, old = backend.recvfrom(100)
    members = [member_of(left, number) for number in range(2)]

    def round_trip() -> None:
        for giver, taker in ((left, right), (right, left)):
            for member, sock in members:
                hand_over(giver, taker, member, sock)
            client.send(b"x")
            backend.recvfrom(100)

    round_trip()
    before = open_files()
    for _ in range(100):
        round_trip()
    eventually(lambda: open_files() <= before, within=3)
    backend.sendto(b"still there", old)
    assert client.recv(100) == b"still there"
    assert left.counter("sessions") == right.counter("sessions") == 1


def test_the_last_session_takes_a_handed_over_socket_with_it(relay, sockets) -> None:
    """A socket that is kept for its sessions is closed when they have expired, although it is not polled."""
    backend = sockets()
    where = relay.service(
        [backend.getsockname()],
        transports=("udp",),
        udp=type(UDP)(idle_timeout=0.3, max_sessions=9, when_full="drop-new"),
    )
    relay.start()
    sockets(where).send(b"x")
    backend.recvfrom(100)
    before = open_files()
    relay.call(lambda: relay.engine.unlisten(0, 0))
    assert open_files() == before
    eventually(lambda: open_files() == before - 2, within=3)
    assert relay.counter("expired") == 1


def test_sessions_answer_through_another_member(relay, sockets) -> None:
    """A worker that polls two members of a listener gives one back at once: its sessions answer through the other."""
    backend = sockets()
    where = relay.service([backend.getsockname()], transports=("udp",))
    relay.start()
    member, sock = member_of(relay)
    second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    second.bind(where)
    clients = [sockets(where) for _ in range(12)]
    for client in clients:
        client.send(b"x")
    # All came in by the first member or wait in the second, which is polled now.
    relay.call(lambda: relay.engine.listen(Member(0, 1, 0, "udp", *where), second))
    relayed = [backend.recvfrom(100)[1] for _ in clients]
    relay.call(lambda: relay.engine.unlisten(member.listener, member.index))
    assert relay.call(lambda: len(relay.engine._members.retired)) == 0
    for address in relayed:
        backend.sendto(b"answer", address)
    assert [client.recv(100) for client in clients] == [b"answer"] * len(clients)


def test_a_member_that_is_polled_already_is_not_polled_twice(relay, sockets) -> None:
    """A member granted twice, or to a worker that drains, is closed instead of kept; one unknown is not missed."""
    relay.service([sockets().getsockname()], transports=("udp",))
    relay.start()
    member, sock = member_of(relay)
    before = open_files()
    relay.call(lambda: relay.engine.listen(member, sock.dup()))
    relay.call(lambda: relay.engine.unlisten(99, 0))
    assert open_files() == before
    relay.call(relay.engine.drain)
    eventually(lambda: relay.call(lambda: relay.engine.idle))
    relay.call(lambda: relay.engine.listen(member, sock.dup()))
    assert open_files() == before - 1
    assert relay.table.cells[layout.MEMBERS] == 0


def test_a_dead_workers_queries_are_asked_again(two_relays, sockets) -> None:
    """R10: the worker that gets a dead worker's journal answers its queries in flight."""
    dead, heir = two_relays
    backend = sockets()
    where = sharing(two_relays, backend, "udp", protocol="dns")
    client = sockets(where)
    for number in range(5):
        client.send(dns_query(number))
        backend.recvfrom(4096)
    member, sock = member_of(dead)
    eventually(lambda: dead.counter("inflight") == 5)
    with held(dead):
        heir.call(lambda: heir.engine.listen(member, sock.dup()))
        assert heir.call(lambda: heir.engine.replay(dead.journal_fd)) == 5
        for _ in range(5):
            dns_answer(backend)
        assert {dns.message.from_wire(client.recv(4096)).id for _ in range(5)} == set(range(5))
        assert heir.counter("replayed") == 5
        assert heir.call(lambda: heir.engine.replay(heir.journal_fd)) == 0


# -- verdicts


def test_a_verdict_reaches_every_transport(relay, sockets) -> None:
    """R3: one message changes both transports of its own service and no other; unknown slots are ignored."""
    backends = [sockets(), sockets()]
    for _ in range(2):
        relay.service([one.getsockname() for one in backends], transports=("udp",))
    relay.start()
    before = [service.selector for service in relay.engine._services.values()]
    relay.call(lambda: relay.engine.apply([(0, 0, "down", "ready"), (9, 0, "down", "ready"), (1, 60, "down", "ready")]))
    after = [service.selector for service in relay.engine._services.values()]
    assert after[0] is not before[0]
    assert after[1] is before[1]
    assert [one.name for one in after[0].backends] == [f"127.0.0.1:{backends[1].getsockname()[1]}"]


# -- the end


def test_draining_takes_what_is_queued(relay, sockets) -> None:
    """A drain takes everything that was queued before it, however much, and the worker is busy until it is answered."""
    backend, stream = sockets(), sockets(kind=socket.SOCK_STREAM)
    udp = relay.service([backend.getsockname()], protocol="dns", transports=("udp",))
    tcp = relay.service([stream.getsockname()], transports=("tcp",))
    relay.start()
    client = sockets(udp)
    clients = []
    with held(relay):
        for number in range(200):
            client.send(dns_query(number))
        clients = [sockets(tcp, socket.SOCK_STREAM) for _ in range(150)]
        relay._loop.call_soon_threadsafe(relay.engine.drain)
    for number in range(150):
        clients[number].send(b"%d" % number)
    taken = [stream.accept()[0] for _ in range(150)]
    try:
        assert {int(one.recv(100)) for one in taken} == set(range(150))
        for _ in range(200):
            dns_answer(backend)
        assert {dns.message.from_wire(client.recv(4096)).id for _ in range(200)} == set(range(200))
        assert not relay.call(lambda: relay.engine.idle)
    finally:
        for one in taken:
            one.close()
    for one in clients:
        one.close()
    eventually(lambda: relay.call(lambda: relay.engine.idle))
    assert relay.table.cells[layout.DRAINING] == 1
    assert relay.call(lambda: len(relay.engine._members.retired)) <= 1


def test_a_drain_ends_although_clients_do_not(relay, sockets) -> None:
    """A listener that never runs dry, as its clients never stop, does not hold a draining worker beyond a second."""
    where = relay.service([sockets().getsockname()], transports=("udp",), accept_proxy=("127.0.0.0/8",))
    relay.start()
    client = sockets(where)
    read: list[bytes] = []

    class Introducers:
        """Reads datagrams slowly, each of which is followed by two others."""

        def read(self, datagram: bytes, _: object) -> None:
            read.append(datagram)
            time.sleep(0.0005)
            client.send(b"x")
            client.send(b"x")

    relay.engine._relays[0, "udp"]._introducers = Introducers()
    client.send(b"x")
    eventually(lambda: len(read) > 200)
    began = time.monotonic()
    relay.call(relay.engine.drain)
    assert not relay.call(lambda: relay.engine.idle)
    eventually(lambda: relay.call(lambda: relay.engine.idle), within=3)
    assert time.monotonic() - began > 0.5


def test_a_session_that_waits_for_its_answer_is_waited_for(relay, sockets) -> None:
    """A drained worker is busy for the moment in which the answer to a session's last datagram is due, not for ever."""
    backend = sockets()
    where = relay.service([backend.getsockname()], transports=("udp",))
    relay.start()
    client = sockets(where)
    client.send(b"question")
    _, relayed = backend.recvfrom(100)
    relay.call(relay.engine.drain)
    eventually(lambda: relay.call(lambda: not relay.engine._members.polled), within=0.4)
    assert not relay.call(lambda: relay.engine.idle)
    backend.sendto(b"answer", relayed)
    assert client.recv(100) == b"answer"
    eventually(lambda: relay.call(lambda: relay.engine.idle), within=2)
    assert relay.counter("sessions") == 1


def test_closing_leaves_nothing_open(sockets) -> None:
    """T19: an engine closed with sessions, queries, connections and handed-over members leaves no descriptor."""
    backend, stream = sockets(), sockets(kind=socket.SOCK_STREAM)
    relay = Relay()
    before = open_files()
    where = relay.service([backend.getsockname()], transports=("udp",))
    asked = relay.service([backend.getsockname()], protocol="dns", transports=("udp",))
    tcp = relay.service([stream.getsockname()], transports=("tcp",))
    relay.start()
    clients = [sockets(where), sockets(asked), sockets(tcp, socket.SOCK_STREAM)]
    clients[0].send(b"x")
    clients[1].send(dns_query(1))
    eventually(lambda: relay.counter("sessions") == 1 and relay.counter("inflight", 1) == 1)
    eventually(lambda: relay.counter("sessions", 2) == 1)
    relay.call(lambda: relay.engine.unlisten(0, 0))
    relay.call(relay.engine.close)
    ready: Any = select.select([clients[1]], [], [], 3)[0]
    assert dns.message.from_wire(ready[0].recv(4096)).rcode() == dns.rcode.SERVFAIL
    # What is left is what the test opened: clients, and the master's copies of the members.
    assert open_files() - before - len(clients) - len(relay._listeners) <= 0
    relay.close()
