"""Sockets towards a backend: random ports, replaced in time and when broken, the old ones read a while longer."""

import errno
import os
import socket
import time

import pytest

from proxy.relay.dns import upstream
from proxy.relay.dns.upstream import LATE_KEPT, SILENT, SOCKETS
from proxy.relay.plan import DnsPlan
from proxy.relay.sockets import outgoing
from proxy.relay.sockets.outgoing import LIFETIME
from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.dnsbed import (
    Backend,
    Server,
    answer,
    ask,
    client,
    dns_of,
    leftovers,
    numbers,
    polled_of,
    query,
    quiet,
    upstreams,
)

PATIENT = DnsPlan(retry_after=5.0, give_up=20.0)


@pytest.fixture
def server():
    """A backend that answers by itself."""
    one = Server()
    yield one
    one.close()


@pytest.fixture
def backend():
    """A backend whose answers the test sends."""
    one = Backend()
    yield one
    one.close()


@pytest.fixture
def start(relay):
    """Start a DNS service; where it listens.  At the end nothing of any query is left."""

    def begin(*addresses, dns=PATIENT, **options):
        where = relay.service(addresses, protocol="dns", transports=("udp",), dns=dns, **options)
        relay.start()
        return where

    yield begin
    eventually(lambda: not leftovers(relay))


def ask_many(where, count=40):
    """Ask until every one of the sockets has been used; all must be answered."""
    for number in range(count):
        asked = query(f"h{number}.example.net", number)
        assert ask(where, asked) == answer(asked)


def ports(relay):
    """Return the local ports in use."""
    return {one.sock.getsockname()[1] for one in upstreams(relay)}


def older(relay, seconds):
    """Make every socket older."""
    for one in upstreams(relay):
        relay.call(lambda one=one: setattr(one, "born", one.born - seconds))


def test_four_sockets_on_first_use(relay, start, server):
    """U20: a backend is asked over four sockets at ports of their own, none of them opened before it is needed."""
    where = start(server.address)
    assert upstreams(relay) == []
    ask_many(where)
    assert len(ports(relay)) == SOCKETS
    ask_many(where)
    assert len({source for _, _, source in server.seen}) == SOCKETS


def test_replaced_every_minute(relay, start, server):
    """U20: a socket that is a minute old is replaced by one at another port, a younger one is not."""
    where = start(server.address)
    ask_many(where)
    before = ports(relay)
    older(relay, LIFETIME - 30)
    ask_many(where)
    assert ports(relay) == before
    older(relay, 31)
    ask_many(where)
    assert len(ports(relay)) == SOCKETS
    assert len(ports(relay) & before) <= 1  # the kernel may hand out one of 28,000 twice


def test_the_old_one_is_read_a_while(relay, start, backend, monkeypatch):
    """U3: an answer to a replaced socket still counts; the socket is closed when its time is over."""
    monkeypatch.setattr(upstream, "LINGER", 0.3)
    where = start(backend.address)
    with client(where) as sock:
        sock.send(query(ident=1))
        message, source = backend.take()
        (old,) = upstreams(relay)
        relay.call(lambda: old.peer.replace(old, time.monotonic()))
        assert upstreams(relay) == []
        backend.reply(answer(message), source)
        assert sock.recv(512) == answer(query(ident=1))
    assert old.sock.fileno() >= 0
    eventually(lambda: old.sock.fileno() < 0)
    assert not old.peer.retired


def test_a_refusal_makes_no_socket_deaf(relay, start, monkeypatch):
    """U8: sockets that met a closed port hear its answers when it is open again, though nothing has replaced them."""
    monkeypatch.setattr(upstream, "SILENT", 1000)
    server = Server()
    where = start(server.address, dns=DnsPlan(0.1, 0.3))
    ask_many(where)
    before = ports(relay)
    server.close()
    asked = relay.counter("queries")
    with client(where) as sock:
        for number in range(60):
            sock.send(query(f"h{number}.example.net", number))
            eventually(
                lambda number=number: relay.counter("queries") > asked + number
            )  # those of a round share a socket
        assert {sock.recv(512)[3] & 15 for _ in range(60)} == {2}
    assert relay.backend(server.address, "port_unreachable") >= SOCKETS
    again = Server(port=server.address[1])
    ask_many(where)
    assert ports(relay) == before
    again.close()


def test_healed_after_a_failed_send(relay, start, server):
    """U8: a socket that cannot send is replaced at once, and the query goes out over its successor."""
    where = start(server.address)
    ask_many(where)
    before = ports(relay)
    for one in upstreams(relay):
        one.sock.shutdown(socket.SHUT_WR)
    ask_many(where)
    assert not ports(relay) & before
    assert relay.counter("retries") == relay.counter("servfail") == 0
    assert relay.backend(server.address, "send_failed") >= SOCKETS


def test_healed_after_silence(relay, start, backend):
    """U8: SILENT queries without an answer in a row make a socket suspect; an answer in between clears it."""
    where = start(backend.address, dns=DnsPlan(0.05, 0.1))
    relay.call(lambda: setattr(dns_of(relay).random, "source", numbers()))  # all over one socket
    with client(where) as sock:

        def silence(count):
            for number in range(count):
                sock.send(query(f"s{number}.example.net", number))
                assert sock.recv(512)[3] & 15 == 2
            while not quiet(backend.sock):
                backend.take()

        sock.send(query(ident=1))
        backend.serve()
        sock.recv(512)
        (first,) = upstreams(relay)
        silence(SILENT - 1)
        sock.send(query(ident=2))
        backend.serve()
        sock.recv(512)
        silence(SILENT - 1)
        assert upstreams(relay) == [first]
        silence(1)
        assert upstreams(relay) != [first]
    assert relay.hints


def test_healed_when_the_backend_returns(relay, start, server):
    """U8: a backend that was down and is up again is asked over fresh sockets."""
    where = start(server.address)
    ask_many(where)
    before = ports(relay)
    relay.verdict(server.address, "down")
    relay.verdict(server.address, "up")
    assert upstreams(relay) == []
    ask_many(where)
    assert len(ports(relay) & before) <= 1


def test_a_broken_route_does_not_cost_a_socket_a_query(relay, start, server):
    """U8: an address that cannot be connected to is left alone for a while, the others serve, and it is counted."""
    nowhere = ("255.255.255.255", 53)  # needs SO_BROADCAST: connect fails at once
    where = start(nowhere, server.address)
    began = time.monotonic()
    ask_many(where, 100)
    rounds = (time.monotonic() - began) / outgoing.REOPEN_PAUSE + 1
    assert SOCKETS <= relay.backend(nowhere, "send_failed") <= SOCKETS * rounds
    assert relay.backend(nowhere, "total") == relay.counter("servfail") == 0


@pytest.mark.parametrize(
    ("number", "counter"),
    [
        (errno.EMFILE, "no_descriptor"),
        (errno.ENOSPC, "no_descriptor"),
        (errno.ENOBUFS, "no_memory"),
        (errno.EAGAIN, "no_local_port"),
        (errno.EADDRINUSE, "no_local_port"),
    ],
)
def test_what_we_lack_is_not_the_backends_fault(relay, start, server, monkeypatch, number, counter):
    """T20: when no socket can be opened the old ones are kept past their time, and it is counted as our own fault."""
    where = start(server.address)
    ask_many(where)
    before = ports(relay)
    older(relay, LIFETIME)

    def none_left(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(outgoing, "connected", none_left)
    ask_many(where)
    assert ports(relay) == before
    assert relay.counter(counter) >= 1
    assert relay.backend(server.address, "send_failed") == 0


def test_a_refusal_while_others_move(relay, start, server, backend, monkeypatch):
    """U7: a query that meets the closed port while earlier ones are being moved in portions is moved after them."""
    monkeypatch.setattr(upstream, "MOVED", 4)
    where = start(backend.address, server.address, scheduler="failover")
    relay.call(lambda: setattr(dns_of(relay).random, "source", numbers()))  # all over one socket
    with client(where) as sock:
        for number in range(10):
            sock.send(query(f"h{number}.example.net", number))
        eventually(lambda: relay.counter("inflight") == 10)
        (one,) = upstreams(relay)
        poller = relay.engine._poller
        waiting = []

        def refuse():
            one.peer.broke(one, errno.ECONNREFUSED, time.monotonic())

        def after_two_portions(_):
            waiting.append(relay.backend(server.address, "active"))
            dns_of(relay).take(polled_of(relay), query("last.example.net", 10), sock.getsockname(), time.monotonic())
            refuse()

        def meet():
            refuse()
            poller.again(lambda _: poller.again(after_two_portions))  # each after a portion

        relay.call(meet)
        sock.settimeout(PATIENT.retry_after / 2)
        assert len({sock.recv(512)[:2] for _ in range(11)}) == 11
        assert waiting == [8]


def test_two_replacements_are_a_second_apart(relay, start, server):
    """A socket that breaks again at once is not replaced again at once."""
    where = start(server.address)
    ask_many(where)
    one = upstreams(relay)[0]
    peer = one.peer
    now = time.monotonic()
    assert relay.call(lambda: peer.replace(one, now))
    again = relay.call(lambda: peer.open(0, now))
    assert not relay.call(lambda: peer.replace(again, now + upstream.SPARE - 0.01))
    assert relay.call(lambda: peer.replace(again, now + upstream.SPARE))
    assert relay.call(lambda: peer.replace(again, now + 5))  # it is none of ours any more


def test_late_ids_are_bounded(relay, start, server):
    """U3: of the IDs given up the newest LATE_KEPT are remembered."""
    where = start(server.address)
    ask_many(where, 1)
    (one,) = upstreams(relay)

    def forget():
        for ident in range(LATE_KEPT + 10):
            one.forget(ident)
        return one.late

    assert relay.call(forget) == list(range(10, LATE_KEPT + 10))


def test_a_full_socket_goes_elsewhere(relay, start, server, backend, monkeypatch):
    """U18: the IDs in use on a socket are limited; a query that finds none free is sent to another backend."""
    monkeypatch.setattr(upstream, "PENDING_CAP", 5)
    where = start(backend.address, server.address, scheduler="failover")
    with client(where) as sock:
        for number in range(100):
            sock.send(query(f"h{number}.example.net", number))
            eventually(lambda number=number: relay.counter("inflight") + relay.counter("replies") > number)
            eventually(lambda: relay.backend(server.address, "active") == 0)
        assert relay.backend(backend.address, "total") == relay.counter("inflight") == 5 * SOCKETS
        for _ in range(5 * SOCKETS):
            backend.serve()
        assert len({sock.recv(512)[:2] for _ in range(100)}) == 100


def test_everything_is_closed(relay, start, server, backend):
    """Closing leaves no descriptor, neither of the sockets in use nor of those replaced a moment ago."""
    where = start(server.address)
    ask_many(where)
    first = upstreams(relay)
    relay.call(lambda: first[0].peer.renew(time.monotonic()))
    ask_many(where)
    both = first + upstreams(relay)
    assert len(both) == 2 * SOCKETS
    relay.call(dns_of(relay).close)
    assert {one.sock.fileno() for one in both} == {-1}
