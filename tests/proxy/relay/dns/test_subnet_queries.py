"""Clients' subnets in queries through the relay: real sockets, and a server that the test plays."""

from dataclasses import replace

import dns.edns
import dns.message
import dns.rcode
import pytest

from proxy.relay.dns import client_subnet
from proxy.relay.dns.upstream import IDENTICAL_CAP
from proxy.relay.plan import DnsPlan
from proxy.relay.proxy_header.header import build
from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.dnsbed import answer, ask, client, leftovers, query
from tests.proxy.relay.udp.test_sessions import Peers, peers

__all__ = ["peers"]

PATIENT = DnsPlan(retry_after=5.0, give_up=20.0, client_subnet=True)


@pytest.fixture
def balanced(relay, peers: Peers):
    """Return a function that makes a DNS service with `client-subnet`, and returns its address and backends."""

    def make(count=1, send_proxy="off", dns_=PATIENT, **changes):
        servers = [peers.server() for _ in range(count)]
        where = relay.service(
            [one.address for one in servers], protocol="dns", transports=("udp",), dns=dns_, **changes
        )
        plan = relay.services[-1]
        relay.services[-1] = replace(plan, backends=tuple(replace(one, send_proxy=send_proxy) for one in plan.backends))
        relay.start()
        return where, *servers

    return make


def subnets(wire):
    """Return the subnets that a message names, as text."""
    return [one.to_text() for one in dns.message.from_wire(wire).options if one.otype == dns.edns.ECS]


@pytest.mark.parametrize("edns", [None, 0])
def test_a_query_tells_its_clients_network(balanced, peers, edns):
    """The backend gets 24 bits of the client's address; the client's answer has no subnet, and its own ID."""
    where, server = balanced()
    message = dns.message.make_query("www.example.net", "A")
    message.use_edns(edns if edns is not None else -1, payload=1400)
    with client(where, "127.0.77.7") as sock:
        sock.send(message.to_wire())
        data, source = server.get()
        assert subnets(data) == ["ECS 127.0.77.0/24 scope/0"]
        asked = dns.message.from_wire(data)
        assert asked.payload == (512 if edns is None else 1400)
        server.sock.sendto(answer(data), source)
        reply = sock.recv(4096)
    assert reply == answer(message.to_wire())


def test_a_clients_own_subnet_goes_both_ways(balanced, peers):
    """A query that names a subnet reaches the backend unchanged, and the answer keeps its option (U6)."""
    where, server = balanced()
    message = dns.message.make_query("www.example.net", "A")
    message.use_edns(0, options=[dns.edns.ECSOption("198.51.100.0", 24)])
    with client(where) as sock:
        sock.send(message.to_wire())
        data, source = server.get()
        assert data[2:] == message.to_wire()[2:]
        server.sock.sendto(answer(data), source)
        assert sock.recv(4096) == answer(message.to_wire())


def test_without_the_key_nothing_is_added(balanced, peers):
    """U6: a service that does not ask for it sends queries on unchanged."""
    where, server = balanced(dns_=replace(PATIENT, client_subnet=False))
    with client(where) as sock:
        sock.send(query())
        assert server.get()[0][2:] == query()[2:]


def test_a_retry_tells_it_too_and_servfail_is_the_clients(balanced, peers, relay):
    """U9, U17: the next backend gets the subnet as well; a final SERVFAIL answers the client's own message."""
    where, one, two = balanced(2, dns_=replace(PATIENT, retry_after=0.05, give_up=0.4))
    reply = ask(where, query())
    assert [subnets(server.get()[0]) for server in (one, two)] == [["ECS 127.0.0.0/24 scope/0"]] * 2
    assert dns.message.from_wire(reply).rcode() == dns.rcode.SERVFAIL
    assert len(reply) <= len(query())
    eventually(lambda: not leftovers(relay))


def test_subnets_do_not_share_an_answer(balanced, peers, relay):
    """U10, U20: identical queries of one network share answers above the cap; those of another have their own."""
    where, server = balanced()
    socks = [client(where, f"127.0.1.{number + 1}") for number in range(IDENTICAL_CAP + 2)]
    other = client(where, "127.0.2.1")
    for number, sock in enumerate((*socks, other)):
        sock.send(query("www.example.net", number))
    eventually(lambda: relay.counter("queries") == IDENTICAL_CAP + 3)
    assert relay.counter("coalesced") == 2
    got = [server.get() for _ in range(IDENTICAL_CAP + 1)]
    assert sorted({subnet for data, _ in got for subnet in subnets(data)}) == [
        "ECS 127.0.1.0/24 scope/0",
        "ECS 127.0.2.0/24 scope/0",
    ]
    assert server.silent()
    for data, source in got:
        server.sock.sendto(answer(data), source)
    for number, sock in enumerate((*socks, other)):
        assert sock.recv(1000) == answer(query("www.example.net", number))
        sock.close()
    assert leftovers(relay) == []


def test_who_has_one_answer_in_common_loses_only_its_own(balanced, peers, relay):
    """U20: if two clients' queries look alike to the backend, each answer has the subnet only if its own query had it."""
    where, server = balanced()
    plain = query()
    own = client_subnet.add(plain, len(plain), "127.0.0.1")[0]  # as a client of its own accord may ask
    socks = [client(where) for _ in range(IDENTICAL_CAP + 1)]
    for sock in socks[:-1]:
        sock.send(plain)
    eventually(lambda: relay.counter("queries") == IDENTICAL_CAP)
    socks[-1].send(own)
    eventually(lambda: relay.counter("coalesced") == 1)
    for _ in range(IDENTICAL_CAP):
        data, source = server.get()
        server.sock.sendto(answer(data), source)
    assert {sock.recv(1000) for sock in socks[:-1]} == {answer(plain)}
    assert socks[-1].recv(1000) == answer(own)
    for sock in socks:
        sock.close()


def test_the_network_of_an_introduced_client(balanced, peers):
    """T22: behind a source that is listed, the network is that of the client in its header."""
    where, server = balanced(send_proxy="v2", accept_proxy=("127.0.0.1/32",))
    header = build("v2", ("2001:db8:1:2ff::7", 4711), ("2001:db8::53", 53), datagram=True)
    with client(where) as front:
        front.send(header + query())
        data, source = server.get()
        assert data.startswith(header)
        assert subnets(data[len(header) :]) == ["ECS 2001:db8:1:200::/56 scope/0"]
        server.sock.sendto(answer(data[len(header) :]), source)
        assert front.recv(1000) == answer(query())


def test_an_update_is_not_touched(balanced, peers):
    """U10: a message that is not a plain query is passed on unchanged."""
    where, server = balanced()
    update = query(opcode=5)
    with client(where) as sock:
        sock.send(update)
        data, source = server.get()
        assert data[2:] == update[2:]
        server.sock.sendto(answer(data), source)
        assert sock.recv(1000) == answer(update)
