"""Tests of spreading, with reuseport groups on loopback."""

import select
import socket

import pytest

from proxy.relay.plan import Member, TcpPlan
from proxy.workers import binding
from proxy.workers.spreading import gather, spread
from tests.e2e.loopback import lift_loopback

TCP = TcpPlan(connect_timeout=1.0, idle_timeout=60.0, fin_timeout=5.0, keepalive=120.0, user_timeout=30.0)


def free(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        return sock.getsockname()[1]


@pytest.fixture
def bed(request):
    """A group of some members, and a client that always sends from the same port."""
    lift_loopback()
    made = []

    def make(members=4, address="127.0.0.1", to=""):
        where = Member(0, 0, 0, "udp", address, free(address))
        group = binding.bind(where, members, TCP, 64, None)
        client = socket.socket(group[0].family, socket.SOCK_DGRAM)
        made.extend([*group, client])
        client.connect((to or address, where.port))
        return group, client

    yield make
    for sock in made:
        sock.close()


def arrived(group, count):
    """Return the datagrams that each member got, `count` altogether."""
    found = [[] for _ in group]
    while count:
        ready, _, _ = select.select(group, [], [], 2)
        assert ready
        for sock in ready:
            found[group.index(sock)].append(sock.recv(512))
            count -= 1
    return found


def queries(idents, rest=b" a query"):
    return [ident.to_bytes(2, "big") + rest for ident in idents]


@pytest.mark.parametrize(("address", "to"), [("127.0.0.1", ""), ("0.0.0.0", "127.0.0.1"), ("::1", "")])
@pytest.mark.parametrize("members", [2, 3, 4])
def test_every_member_gets_its_share_of_one_flow(bed, members, address, to):
    """One client's queries with different IDs go to all members, the first one as well, and to each equally many."""
    group, client = bed(members, address, to)
    spread(group)
    for query in queries(range(1000, 1000 + 12 * members)):
        client.send(query)
    assert [len(got) for got in arrived(group, 12 * members)] == [12] * members


def test_a_retransmission_reaches_the_same_member(bed):
    """U10: a query that is sent again reaches the member that got it first, whatever comes in between."""
    group, client = bed()
    spread(group)
    sent = queries([0, 1, 2, 3, 255, 256, 4097, 65534, 65535])
    for query in (*sent, *sent, *reversed(sent)):
        client.send(query)
    for got in arrived(group, 3 * len(sent)):
        assert {got.count(query) for query in got} == {3}


def test_without_an_id(bed):
    """U13: a datagram that is too short for an ID arrives all the same."""
    group, client = bed()
    spread(group)
    client.send(b"")
    client.send(b"x")
    assert sorted(datagram for got in arrived(group, 2) for datagram in got) == [b"", b"x"]


def test_gathered_again(bed):
    """A group without a program gives all datagrams of one client to one member, and gathering it again does nothing."""
    group, client = bed()
    for _ in range(2):
        for query in queries(range(32)):
            client.send(query)
        assert sorted(len(got) for got in arrived(group, 32)) == [0, 0, 0, 32]
        spread(group)
        gather(group)
        gather(group)


def test_a_refusal(bed):
    """A group of one has nothing to spread over: the kernel refuses."""
    group, _ = bed(1)
    with pytest.raises(OSError, match="Invalid argument"):
        spread(group)
