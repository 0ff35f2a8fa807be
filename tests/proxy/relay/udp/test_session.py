"""A session of plain UDP: its backend's datagrams, and its key."""

from types import SimpleNamespace

from proxy.relay.proxy_header.header import Header
from proxy.relay.udp.session import key_of
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
        (session,) = relay.engine._relays[0, "udp"].sessions.values()
        session.sock.send(b"refused")
    assert [client.recv(100) for _ in range(3)] == [b"0", b"1", b"2"]
    eventually(lambda: relay.backend(server.address, "port_unreachable") == 1)


def test_what_a_session_is_found_by() -> None:
    """A client has one session with each listener; each client in a source's PROXY headers has its own session."""
    one, two = SimpleNamespace(ident=1), SimpleNamespace(ident=2)
    source = ("192.0.2.1", 99)
    told = [Header(("10.0.0.1", port), ("192.0.2.9", 53), 28) for port in (1, 2)]
    keys = [key_of(one, source, None), key_of(two, source, None), *(key_of(one, source, header) for header in told)]
    assert len(set(keys)) == 4
    assert key_of(one, source, told[0]) == keys[2]
