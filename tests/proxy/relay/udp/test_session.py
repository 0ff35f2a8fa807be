"""A session of plain UDP: its backend's datagrams, and its key."""

import os
from dataclasses import replace

from proxy.relay.native.udp import Session, UdpListener
from proxy.relay.native.udp_table import spread
from proxy.relay.proxy_header.header import Header
from proxy.stats.layout import SERVICE_DISCONNECTED
from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.udp.test_sessions import exchange, held, peers, silent, start

__all__ = ["peers"]


def test_replies_of_many_datagrams_are_all_relayed(relay, peers) -> None:
    """More datagrams than one turn reads, in both directions, all arrive and in order."""
    server = peers.server()
    client = peers.client(start(relay, server))
    relayed = exchange(client, server)
    with held(relay):
        for number in range(200):
            client.send(b"%d" % number)
            server.sock.sendto(b"%d" % number, relayed)
    assert [int(server.get()[0]) for _ in range(200)] == list(range(200))
    assert [int(client.recv(100)) for _ in range(200)] == list(range(200))


def test_only_the_backend_may_answer(relay, peers) -> None:
    """U2: a datagram from any other address than the backend's never reaches the client."""
    server, stranger = peers.server(), peers.server()
    client = peers.client(start(relay, server))
    client.send(b"question")
    _, relayed = server.get()
    stranger.sock.sendto(b"forged", relayed)
    server.sock.sendto(b"true", relayed)
    assert client.recv(100) == b"true"
    assert silent(client)


def test_answers_ahead_of_an_icmp_error_are_not_lost(relay, peers) -> None:
    """U7: datagrams that a backend sent before its port closed reach the client, although the error is read first."""
    server = peers.server()
    client = peers.client(start(relay, server))
    relayed = exchange(client, server)
    with held(relay):
        for number in range(3):
            server.sock.sendto(b"%d" % number, relayed)
        server.close()
        # An ICMP error on the relay's socket, as from a datagram that was under way.
        (session,) = relay.engine._relays[0, "udp"].sessions
        os.write(session.fileno(), b"refused")
    assert [client.recv(100) for _ in range(3)] == [b"0", b"1", b"2"]
    eventually(lambda: relay.backend(server.address, "port_unreachable") == 1)


def test_a_refusal_moves_its_own_datagram(relay, peers) -> None:
    """U7: a session's last datagram moves at once, also where a refusal says nothing about other sessions."""
    one, two = peers.server(), peers.server()
    client = peers.client(start(relay, one, two, scheduler="failover"))
    exchange(client, one)
    relay.engine._relays[0, "udp"].closed = lambda _: None  # as if the sockets were transparent
    one.close()
    exchange(client, two)


def test_what_a_session_is_found_by(relay, peers) -> None:
    """A client has one session with each listener; each client in a source's PROXY headers has its own session."""
    server = peers.server()
    where = start(relay, server, accept_proxy=("127.0.0.0/8",))
    udp = relay.engine._relays[0, "udp"]
    source = ("127.0.0.1", 99)
    told = [Header(("10.0.0.1", port), ("192.0.2.9", 53), 28) for port in (1, 2)]

    def sessions() -> list[Session]:
        (listener,) = (one for _, one in relay.engine._members.polled.values())
        sock = listener.sock.dup()
        other = UdpListener(udp, replace(listener.member, listener=7), sock)
        for one, header in ((listener, None), (other, None), (listener, told[0]), (listener, told[1])):
            for _ in range(2):
                udp.admit(one, b"x", source, header)
        found = [udp.find(one, source, header) for one in (listener, other) for header in (None, *told)]
        for session in udp.sessions:
            udp.end(session, SERVICE_DISCONNECTED)
        other.leave()
        sock.close()
        return found

    found = relay.call(sessions)
    assert [one is not None for one in found] == [True, True, True, True, False, False]
    assert len({id(one) for one in found[:4]}) == 4
    assert [one.who for one in found[:4]] == [source, ("10.0.0.1", 1), ("10.0.0.1", 2), source]
    assert relay.counter("sessions_opened") == 4
    assert where


def test_its_table_is_balanced() -> None:
    """U18: 65,536 clients of neighbouring addresses and ports share buckets as chance does, under any secret."""
    assert max(spread(65536) for _ in range(3)) < 16
