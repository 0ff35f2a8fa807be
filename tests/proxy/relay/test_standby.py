"""Who stands by is the next to be tried, with every scheduler and protocol: a real relay, and peers on loopback."""

import contextlib
import socket
from dataclasses import replace

import pytest

from proxy.balance.names import SCHEDULERS
from proxy.relay.clients.store import Store
from proxy.relay.plan import DnsPlan, LimitsPlan, PersistencePlan, UdpPlan
from proxy.relay.tcp import service as tcp
from tests.proxy.relay.conftest import DNS, TCP, eventually, free_port
from tests.proxy.relay.dnsbed import Backend, Server, answer, ask, client, leftovers, query, quiet
from tests.proxy.relay.streams import (
    accept,
    connect,
    connecting_to,
    connections,
    deaf,
    listen,
    reset,
    turned_away,
    where,
)

HURRIED = DnsPlan(retry_after=0.05, give_up=4.5)
PATIENT = DnsPlan(retry_after=5.0, give_up=20.0)
ONE_WAY = UdpPlan(idle_timeout=30.0, max_sessions=1, when_full="drop-new", per_datagram=True)


@pytest.fixture
def peers():
    """Backends that the test ends."""
    with contextlib.ExitStack() as stack:

        def keep(one):
            stack.callback(one.close)
            return one

        yield keep


@pytest.fixture
def balanced(relay):
    """Start a service for each scheduler, or those given, over backends of which the last one stands by; where each listens."""

    def start(*backends, schedulers=SCHEDULERS, **options):
        addresses = {name: relay.service(backends, scheduler=name, **options) for name in schedulers}
        relay.start()
        relay.verdict(backends[-1], "standby")
        return addresses

    return start


# -- all schedulers


def test_connections(relay, balanced, peers):
    """T9: a connection that the only serving backend refuses goes to the one that stands by, with every scheduler."""
    first, second = peers(listen()), peers(listen())
    addresses = balanced(where(first), where(second))
    for name, address in addresses.items():
        with connect(address), accept(first):
            pass
        assert relay.backend(where(second), "total", list(addresses).index(name)) == 0
    first.close()
    for address in addresses.values():
        with connect(address) as near, accept(second) as far:
            near.sendall(b"question")
            assert far.recv(100) == b"question"
            far.sendall(b"answer")
            assert near.recv(100) == b"answer"


def test_sessions(relay, balanced, peers):
    """T9, U7: a UDP session that meets a closed port goes on where one stands by, with every scheduler."""
    gone, backup = ("127.0.0.1", free_port(socket.SOCK_DGRAM)), peers(Backend())
    addresses = balanced(gone, backup.address, transports=("udp",))
    for number, address in enumerate(addresses.values()):
        one = peers(client(address))
        one.send(b"first")
        eventually(lambda number=number: relay.backend(gone, "port_unreachable", number))
        one.send(b"second")
        data, source = backup.take()
        while data != b"second":
            data, source = backup.take()
        backup.reply(b"answer", source)
        assert one.recv(100) == b"answer"


def test_datagrams(relay, balanced, peers):
    """T9, U7: datagrams go one by one to the backend that stands by while the serving one's port is closed."""
    gone, backup = ("127.0.0.1", free_port(socket.SOCK_DGRAM)), peers(Backend())
    addresses = balanced(gone, backup.address, transports=("udp",), udp=ONE_WAY)
    for number, address in enumerate(addresses.values()):
        one = peers(client(address))
        one.send(b"first")
        eventually(lambda number=number: relay.backend(gone, "port_unreachable", number))
        one.send(b"second %d" % number)
        while backup.take()[0] != b"second %d" % number:
            pass


@pytest.mark.parametrize("closed", [False, True], ids=["silent", "closed"])
def test_queries(relay, balanced, peers, closed):
    """U7, U9: a query that the only serving backend leaves or refuses is answered by the one that stands by."""
    first, backup = peers(Backend()), peers(Server())
    addresses = balanced(
        first.address, backup.address, protocol="dns", transports=("udp",), dns=PATIENT if closed else HURRIED
    )
    if closed:
        first.close()
    for address in addresses.values():
        assert ask(address, query())[3] & 15 == 0
    assert len(backup.seen) == len(addresses)
    eventually(lambda: leftovers(relay) == [])


def test_nobody_who_serves_is_passed_over(relay, balanced, peers):
    """T9: while one of three serving backends can be reached, no scheduler tries a standby."""
    closed = [("127.0.0.1", free_port()) for _ in range(2)]
    third, backup = peers(listen()), peers(listen())
    addresses = balanced(*closed, where(third), where(backup))
    for number, address in enumerate(addresses.values()):
        for _ in range(3):
            with connect(address), accept(third):
                pass
        assert relay.backend(where(backup), "total", number) == 0


# -- more than one try


def test_fifteen_that_refuse(relay, balanced, peers):
    """T9, U9: a standby behind a whole tier of closed ports is reached, over TCP and by queries."""
    closed = [("127.0.0.1", free_port()) for _ in range(15)]
    backup, server = peers(listen()), peers(Server())
    streams = relay.service([*closed, where(backup)])
    queries = relay.service([*closed, server.address], protocol="dns", transports=("udp",), dns=PATIENT)
    relay.start()
    relay.verdict(where(backup), "standby")
    relay.verdict(server.address, "standby")
    with connect(streams) as near, accept(backup) as far:
        far.sendall(b"x")
        assert near.recv(1) == b"x"
    assert ask(queries, query())[3] & 15 == 0


def test_a_tier_of_silent_servers(relay, balanced, peers):
    """U9: a query is asked again in time of one that stands by, when four that serve have left it unanswered."""
    silent, backup = [peers(Backend()) for _ in range(4)], peers(Server())
    (address,) = balanced(
        *[one.address for one in silent], backup.address,
        schedulers=["round-robin"], protocol="dns", transports=("udp",), dns=HURRIED,
    ).values()  # fmt: skip
    assert ask(address, query())[3] & 15 == 0
    for one in silent:
        one.take()
        assert quiet(one.sock, 0.01)  # each of them once


def test_a_query_nobody_answers_is_asked_three_times(relay, balanced, peers):
    """U9: a lone backend that says nothing gets a query three times: those that come after are for others."""
    silent = peers(Backend())
    address = relay.service([silent.address], protocol="dns", transports=("udp",), dns=DnsPlan(0.05, 0.8))
    relay.start()
    assert ask(address, query())[3] & 15 == 2
    for _ in range(3):
        silent.take()
    assert quiet(silent.sock)
    assert relay.backend(silent.address, "no_answer") == 3


# -- the verdict


@pytest.mark.parametrize("verdict", ["down", "ejected"])
def test_queries_in_flight_when_the_verdict_falls(relay, balanced, peers, verdict):
    """U9: queries at a backend that goes down are sent to another one at once, whether it serves or is a standby."""
    first, backup = peers(Backend()), peers(Server())
    (address,) = balanced(
        first.address, backup.address, schedulers=["maglev"], protocol="dns", transports=("udp",), dns=PATIENT
    ).values()
    waiting = [peers(client(address)) for _ in range(300)]
    for number, one in enumerate(waiting):
        one.send(query(f"n{number}.example.net", number))
        first.take()
    relay.verdict(first.address, verdict)
    for one in waiting:
        one.settimeout(3)
        assert one.recv(512)[3] & 15 == 0
    assert len(backup.seen) == 300
    eventually(lambda: leftovers(relay) == [])


def test_a_drained_server_keeps_its_queries(relay, balanced, peers):
    """T16: a query that waits at a backend which is drained is not asked elsewhere: that backend is well."""
    first, backup = peers(Backend()), peers(Backend())
    (address,) = balanced(
        first.address, backup.address, schedulers=["maglev"], protocol="dns", transports=("udp",), dns=PATIENT
    ).values()
    one = peers(client(address))
    one.send(query())
    message, source = first.take()
    relay.verdict(first.address, "ejected", "drain")  # as the master tells of one whose sessions are to leave
    assert quiet(backup.sock)
    first.reply(answer(message), source)
    assert one.recv(512)[3] & 15 == 0


def test_an_update_in_flight_is_not_sent_twice(relay, balanced, peers):
    """U10: an UPDATE that waits at a backend which goes down waits on: it would act twice."""
    first, backup = peers(Backend()), peers(Backend())
    (address,) = balanced(
        first.address, backup.address, schedulers=["maglev"], protocol="dns", transports=("udp",), dns=DNS
    ).values()
    one = peers(client(address))
    one.send(query(opcode=5))
    first.take()
    relay.verdict(first.address, "down")
    assert one.recv(512)[3] & 15 == 2
    assert quiet(backup.sock)


def test_many_connects_under_way(relay, balanced, peers, monkeypatch):
    """T9: connects that are not through move a few at a time, and all of them do."""
    monkeypatch.setattr(tcp, "MOVED", 2)
    with deaf() as (swallows, _):
        backup = peers(listen())
        (address,) = balanced(
            swallows, where(backup), schedulers=["maglev"], tcp=replace(TCP, connect_timeout=30.0)
        ).values()
        for _ in range(5):
            peers(connect(address))
        eventually(lambda: [one.state.name for one in connections(relay)] == ["CONNECTING"] * 5)
        relay.verdict(swallows, "down")
        for _ in range(5):
            peers(accept(backup))
        eventually(lambda: [one.state.name for one in connections(relay)] == ["OPEN"] * 5)


@pytest.mark.parametrize("verdict", ["down", "ejected"])
def test_connects_under_way_when_the_verdict_falls(relay, balanced, peers, verdict):
    """T9: a connect that is not through moves at once when its backend goes down, whatever `on-down` says of open ones."""
    with deaf() as (swallows, _):
        backup = peers(listen())
        (address,) = balanced(
            swallows, where(backup), schedulers=["maglev"], tcp=replace(TCP, connect_timeout=30.0)
        ).values()
        with connect(address) as near:
            eventually(lambda: any(one.state.name == "CONNECTING" for one in connections(relay)))
            relay.verdict(swallows, verdict)
            with accept(backup) as far:
                far.sendall(b"x")
                assert near.recv(1) == b"x"
        eventually(lambda: not connecting_to(address[1]))


# -- limits and persistence


def test_a_full_backend_is_waited_for(relay, balanced, peers):
    """T21: clients of a full backend wait or are refused; they do not go to a standby."""
    first, backup = peers(listen()), peers(listen())
    waits = LimitsPlan(queue_size=1, queue_timeout=5.0)
    (address,) = balanced(where(first), where(backup), schedulers=["maglev"], limit=1, limits=waits).values()
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(connect(address))
        held = accept(first)
        held.sendall(b"x")
        assert one.recv(1) == b"x"  # from now on its end is no failed connect
        second = stack.enter_context(connect(address))
        eventually(lambda: relay.counter("queued") == 1)
        assert turned_away(address)
        reset(held)
        stack.enter_context(accept(first)).sendall(b"x")
        assert second.recv(1) == b"x"
        assert relay.backend(where(backup), "total") == 0


def test_who_waits_goes_on_when_the_full_backend_dies(relay, balanced, peers):
    """T9, T21: a client that waits for a full backend goes to the one that stands by when that backend refuses it."""
    first, backup = peers(listen()), peers(listen())
    waits = LimitsPlan(queue_size=1, queue_timeout=5.0)
    (address,) = balanced(where(first), where(backup), schedulers=["round-robin"], limit=1, limits=waits).values()
    with connect(address) as one, connect(address) as second:
        held = accept(first)
        held.sendall(b"x")
        assert one.recv(1) == b"x"
        eventually(lambda: relay.counter("queued") == 1)
        first.close()
        reset(held)
        with accept(backup) as far:
            far.sendall(b"x")
            assert second.recv(1) == b"x"


def test_full_for_datagrams(relay, balanced, peers):
    """T21: a session or query that finds its backend full is dropped or refused, and does not go to a standby."""
    first, backup = peers(Backend()), peers(Backend())
    pair = (first.address, backup.address)
    sessions = relay.service(pair, transports=("udp",), limit=1)
    queries = relay.service(pair, protocol="dns", transports=("udp",), dns=PATIENT, limit=1)
    relay.start()
    relay.verdict(backup.address, "reserve")
    for address, data in ((sessions, b"datagram"), (queries, query())):
        peers(client(address)).send(data)
        first.take()
    peers(client(sessions)).send(b"datagram")
    assert ask(queries, query("other.example.net"))[3] & 15 == 2
    eventually(lambda: relay.counter("refused_limit", 0) == relay.counter("refused_limit", 1) == 1)
    assert quiet(backup.sock)


def test_a_client_that_is_kept(relay, balanced, peers):
    """T9: a client whose own backend fails goes to one that stands by for that connection, and back with its next one."""
    relay.store, relay.salt = Store.create(), "00" * 16
    try:
        first, backup = peers(socket.create_server(("127.0.0.1", 0))), peers(listen())
        (address,) = balanced(
            where(first), where(backup), schedulers=["least-connections"], persistence=PersistencePlan(60.0, 32, 128)
        ).values()
        with connect(address), accept(first):
            pass
        place = where(first)
        first.close()
        for _ in range(2):
            with connect(address), accept(backup):
                pass
        with connect(address), accept(peers(socket.create_server(place))):
            pass
    finally:
        relay.call(relay.store.close)
