"""PROXY headers before datagrams, in and out, with real sockets."""

import socket
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.relay.dns import journal
from proxy.relay.dns.upstream import IDENTICAL_CAP
from proxy.relay.plan import DnsPlan, UdpPlan
from proxy.relay.proxy_header.header import SIGNATURE, build
from proxy.stats.layout import SERVICE_DRAINED_HARD
from tests.proxy.relay.conftest import DNS, UDP, eventually
from tests.proxy.relay.dnsbed import answer, dns_of, leftovers, query, quiet
from tests.proxy.relay.udp.test_sessions import Peers, peers

__all__ = ["peers"]

LOCAL = SIGNATURE + bytes.fromhex("20000000")
CLIENT, OTHER, ASKED = ("192.0.2.7", 4711), ("2001:db8::7", 4712), ("198.51.100.10", 53)
EACH = UdpPlan(idle_timeout=30.0, max_sessions=1, when_full="drop-new", per_datagram=True)
PATIENT = DnsPlan(retry_after=5.0, give_up=20.0)


def header(client=CLIENT, asked=ASKED):
    """Return the header of a datagram."""
    return build("v2", client, asked, datagram=True)


@pytest.fixture
def service(relay, peers: Peers):
    """Return a function that makes a service with backends, and returns its address and the backends."""

    def make(send_proxy="off", address="127.0.0.1", count=1, **changes):
        backends = [peers.server() for _ in range(count)]
        where = relay.service([one.address for one in backends], address=address, transports=("udp",), **changes)
        plan = relay.services[-1]
        relay.services[-1] = replace(plan, backends=tuple(replace(one, send_proxy=send_proxy) for one in plan.backends))
        relay.start()
        return where, *backends

    return make


# -- plain UDP


@pytest.mark.parametrize("udp", [UDP, EACH])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_backend_is_told_with_each_datagram(service, peers, relay, udp, address):
    """T22: each datagram to a backend with `send-proxy` begins with the addresses of the client and the listener."""
    where, server = service("v2", address, udp=udp)
    client = peers.client(where)
    for data in (b"one", b"", b"three"):
        client.send(data)
        assert server.get()[0] == header(client.getsockname()[:2], where) + data
    eventually(lambda: relay.backend(server.address, "bytes_in") == 8)  # the headers are not the client's


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_the_asked_address_of_a_wildcard_listener(service, peers, address):
    """T22, U11: behind a wildcard listener the header has the address that the client sent to, not the wildcard."""
    where, server = service("v2", address)
    asked = ("127.0.0.3" if address == "0.0.0.0" else "::1", where[1])
    client = peers.client(asked)
    client.send(b"x")
    data, relayed = server.get()
    assert data == header(client.getsockname()[:2], asked) + b"x"
    server.sock.sendto(b"answer", relayed)
    assert client.recv(100) == b"answer"


def test_each_introduced_client_has_a_session(service, peers, relay):
    """T22: two clients behind one source have a session each; answers go to the source, without a header."""
    where, server = service("v2", accept_proxy=("127.0.0.1/32",))
    front = peers.client(where)
    relayed = {}
    for client in (CLIENT, OTHER, CLIENT):
        front.send(header(client) + b"hello")
        data, source = server.get()
        assert data == header(client) + b"hello"
        assert relayed.setdefault(client, source) == source
        server.sock.sendto(b"answer", source)
        assert front.recv(100) == b"answer"
    assert relay.counter("sessions") == len(set(relayed.values())) == 2


@pytest.mark.parametrize("udp", [UDP, EACH])
def test_who_is_kept_out_behind_a_source(service, peers, relay, udp):
    """T22: `deny` applies to the client in the header, not to the datagram's source."""
    where, server = service(udp=udp, accept_proxy=("127.0.0.0/8",), deny=("192.0.2.66/32",))
    front = peers.client(where)
    front.send(header(("192.0.2.66", 1)) + b"no")
    front.send(header() + b"yes")
    assert server.get()[0] == b"yes"
    assert relay.counter("denied") == 1


@pytest.mark.parametrize("udp", [UDP, EACH])
def test_hashing_goes_by_the_header(service, peers, relay, udp):
    """T22: the client in the header picks the backend, not the source that all have in common."""
    where, *servers = service(udp=udp, count=2, scheduler="maglev", accept_proxy=("127.0.0.1/32",))
    front = peers.client(where)
    for number in range(40):
        for _ in range(2):
            front.send(header((f"192.0.2.{number}", 1)) + str(number).encode())
    eventually(lambda: relay.counter("datagrams") == 80)
    eventually(lambda: sum(relay.backend(one.address, "bytes_in") for one in servers) == 140)
    homes: list[list[bytes]] = []
    for server in servers:
        server.sock.settimeout(0.2)
        homes.append([])
        try:
            while True:
                homes[-1].append(server.get()[0])
        except TimeoutError:
            pass
    assert all(homes)
    assert not set(homes[0]) & set(homes[1])


@pytest.mark.parametrize("protocol", ["plain", "dns"])
@pytest.mark.parametrize("source", [LOCAL, SIGNATURE + bytes.fromhex("21000000")])
def test_a_listed_source_may_speak_for_itself(service, peers, protocol, source):
    """T22: if the header names no client, the peer itself is the client."""
    where, server = service("v2", protocol=protocol, accept_proxy=("127.0.0.1/32",))
    front = peers.client(where)
    front.send(source + query())
    told = header(front.getsockname()[:2], where)
    assert server.get()[0].startswith(told)


@pytest.mark.parametrize("protocol", ["plain", "dns"])
def test_an_unlisted_source_is_not_listened_to(service, peers, relay, protocol):
    """T22: a header from elsewhere is data like any other: passed on, or no DNS query."""
    where, server = service(protocol=protocol, accept_proxy=("192.0.2.0/24",))
    client = peers.client(where)
    client.send(header() + query())
    if protocol == "plain":
        assert server.get()[0] == header() + query()
    else:
        eventually(lambda: relay.counter("malformed") == 1)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=40).map(lambda data: SIGNATURE + data),
        st.tuples(st.integers(0, 27), st.integers(0, 255)).map(
            lambda at: header()[: at[0]] + bytes([at[1]]) + header()[at[0] + 1 :]
        ),
        st.integers(0, 27).map(lambda size: header()[:size]),
        st.just(build("v2", CLIENT, ASKED)),  # of TCP
        st.just(build("v1", CLIENT, ASKED)),
    )
)
@pytest.mark.parametrize("protocol", ["plain", "dns"])
def test_any_datagram_of_a_listed_source_is_harmless(service, peers, relay, protocol, data):
    """T22, U13: whatever a listed source sends is a header and is obeyed, or is counted and dropped; service goes on."""
    if not relay.services:
        peers.where = service(protocol=protocol, accept_proxy=("127.0.0.1/32",))
    where, server = peers.where
    front = peers.client(where)
    before = relay.counter("datagrams")
    front.send(data)
    front.send(header() + query("end.example.net"))
    eventually(lambda: relay.counter("datagrams") == before + 2)
    while True:
        got, source = server.get()
        if got[2:] == query("end.example.net")[2:]:
            break
        assert len(got) < len(data), "a header came through"
    server.sock.sendto(answer(got), source)
    assert front.recv(1000) == answer(query("end.example.net"))
    front.close()


@pytest.mark.parametrize("protocol", ["plain", "dns"])
@pytest.mark.parametrize(
    "data", [b"", b"hello", query(), build("v1", CLIENT, ASKED), header()[:-1], SIGNATURE + b"\x21\x41\0\0" + query()]
)
def test_a_listed_source_without_a_header(service, peers, relay, protocol, data):
    """T22: a listed source's datagram without a whole header of version 2 is dropped and counted."""
    where, server = service(protocol=protocol, accept_proxy=("127.0.0.1/32",))
    peers.client(where).send(data)
    eventually(lambda: relay.counter("proxy_malformed") == 1)
    assert relay.counter("datagrams") == 1
    assert server.silent()


UNIX = SIGNATURE + b"\x21\x32" + (216).to_bytes(2, "big") + b"/run/app.sock".ljust(216, b"\0")


@pytest.mark.parametrize("protocol", ["plain", "dns"])
@pytest.mark.parametrize(
    "told", [UNIX, SIGNATURE + b"\x21\x20\0\0", build("v2", CLIENT, ASKED)], ids=["unix", "no protocol", "tcp"]
)
def test_a_family_that_is_not_relayed(service, peers, relay, protocol, told):
    """T22: a datagram whose header names AF_UNIX, no protocol or TCP counts as the source's own (section 2.2)."""
    where, server = service("v2", protocol=protocol, accept_proxy=("127.0.0.1/32",))
    front = peers.client(where)
    front.send(told + query())
    got, _ = server.get()
    own = header(front.getsockname(), where)
    assert got.startswith(own)
    assert got[len(own) + 2 :] == query()[2:]
    assert relay.counter("proxy_malformed") == 0


# -- DNS


def test_queries_of_introduced_clients(service, peers):
    """T22, U6: a query goes on behind its client's header, the answer back to the source, unchanged but for the ID."""
    where, server = service("v2", protocol="dns", accept_proxy=("127.0.0.1/32",), dns=PATIENT)
    front = peers.client(where)
    for number, client in enumerate((CLIENT, OTHER)):
        message = query("www.example.net", 100 + number, tail=b"tail")
        front.send(header(client) + message)
        data, source = server.get()
        told, asked = data[: len(header(client))], data[len(header(client)) :]
        assert told == header(client)
        assert asked[2:] == message[2:]
        server.sock.sendto(answer(asked, b"more"), source)
        assert front.recv(1000) == answer(message, b"more")


def test_a_retransmit_joins_and_another_clients_does_not(service, peers, relay):
    """U10, T22: the same datagram again joins; the same message behind another header is another client's query."""
    where, server = service("v2", protocol="dns", accept_proxy=("127.0.0.1/32",), dns=PATIENT)
    front = peers.client(where)
    for client in (CLIENT, CLIENT, OTHER):
        front.send(header(client) + query())
    eventually(lambda: relay.counter("datagrams") == 3)
    assert (relay.counter("joined"), relay.counter("queries")) == (1, 2)
    for _ in range(2):
        data, source = server.get()
        server.sock.sendto(answer(data[len(header(OTHER if data[13] == 0x22 else CLIENT)) :]), source)
        assert front.recv(1000) == answer(query())
    assert leftovers(relay) == []


def test_a_retry_tells_the_next_backend_too(service, peers, relay):
    """U9, T22: a query that is asked elsewhere goes there behind its header, too; without an answer there is SERVFAIL."""
    where, one, two = service(
        "v2", protocol="dns", count=2, accept_proxy=("127.0.0.1/32",), dns=replace(DNS, retry_after=0.05, give_up=0.4)
    )
    front = peers.client(where)
    front.send(header() + query("www.example.net", 7))
    for server in (one, two):
        data, _ = server.get()
        assert data.startswith(header())
        assert data[len(header()) + 2 :] == query("www.example.net")[2:]
    refusal = front.recv(1000)
    assert (refusal[:2], refusal[3] & 15) == (b"\0\7", 2)
    eventually(lambda: not leftovers(relay))


def test_only_one_clients_queries_share_an_answer(service, peers, relay):
    """U20, T22: identical queries are capped for each client; another client's has an answer of its own."""
    where, server = service("v2", protocol="dns", accept_proxy=("127.0.0.1/32",), dns=PATIENT)
    front = peers.client(where)
    for number in range(IDENTICAL_CAP + 3):
        front.send(header() + query("www.example.net", number))
    front.send(header(OTHER) + query("www.example.net", 999))
    eventually(lambda: relay.counter("queries") == IDENTICAL_CAP + 4)
    assert relay.counter("coalesced") == 3
    got = [server.get() for _ in range(IDENTICAL_CAP + 1)]
    assert server.silent()
    assert sum(data.startswith(header(OTHER)) for data, _ in got) == 1
    for data, source in got:
        size = len(header(OTHER)) if data.startswith(header(OTHER)) else len(header())
        server.sock.sendto(answer(data[size:]), source)
    assert len({front.recv(1000)[:2] for _ in range(IDENTICAL_CAP + 4)}) == IDENTICAL_CAP + 4
    assert leftovers(relay) == []


def test_no_client_can_pose_as_another_by_its_address(service, peers, relay):
    """U20, T22: no client can forge a query that makes another client's query wait for its answer."""
    where, server = service("v2", protocol="dns", dns=PATIENT)
    one, eleven = peers.client(where, "127.0.0.1"), peers.client(where, "127.0.0.11")
    for number in range(IDENTICAL_CAP):
        one.send(number.to_bytes(2, "big") + b"1" + query("www.example.net")[2:])
    for _ in range(IDENTICAL_CAP):
        server.get()
    eleven.send(query("www.example.net", 999))
    data, source = server.get()
    size = len(header())
    server.sock.sendto(answer(data[size:]), source)
    assert eleven.recv(1000)[:2] == b"\x03\xe7"
    assert relay.counter("coalesced") == 0


def test_a_dead_workers_queries_are_asked_behind_their_headers(service, peers, relay):
    """R10, T22: the journal keeps the header, so that a replayed query still names its client."""
    where, server = service("v2", protocol="dns", accept_proxy=("127.0.0.1/32",), dns=PATIENT)
    front = peers.client(where)
    front.send(header() + query("www.example.net", 5))
    server.get()
    (entry,) = relay.call(lambda: list(journal.entries(relay.journal_fd)))
    assert entry.message == header() + query("www.example.net", 5)
    relay.call(lambda: dns_of(relay).fail_all(SERVICE_DRAINED_HARD))
    assert front.recv(1000)[3] & 15 == 2
    (polled,) = relay.call(lambda: [listener for _, listener in relay.engine._members.polled.values()])
    relay.call(lambda: dns_of(relay).replay(polled, entry.message, entry.client, 0.0))
    data, source = server.get()
    assert data.startswith(header())
    server.sock.sendto(answer(data[len(header()) :]), source)
    assert front.recv(1000) == answer(query("www.example.net", 5))
    update = query("www.example.net", 6, opcode=5)
    relay.call(lambda: dns_of(relay).replay(polled, header() + update, entry.client, 0.0))
    assert front.recv(1000)[:2] == b"\0\6"  # SERVFAIL: an UPDATE would act twice
    assert quiet(server.sock)


def test_a_source_is_still_bound_to_its_port(service, peers, relay):
    """U19, T22: a datagram from port 0 is not answered, whatever its header says."""
    _, _ = service(protocol="dns", accept_proxy=("127.0.0.1/32",))
    (polled,) = relay.call(lambda: [listener for _, listener in relay.engine._members.polled.values()])
    relay.call(lambda: dns_of(relay).take(polled, header() + query(), ("127.0.0.1", 0), 0.0))
    assert relay.counter("source_port_zero") == 1


def test_the_headers_family_is_the_clients(service, peers):
    """T22: an IPv6 client behind a source of an IPv4 listener is sent as IPv6, with the listener's address mapped."""
    where, server = service("v2", accept_proxy=("127.0.0.1/32",))
    front = peers.client(where)
    front.send(header(OTHER, ("2001:db8::53", 53)) + b"x")
    data, _ = server.get()
    assert data[:14] == SIGNATURE + b"\x21\x22"
    assert socket.inet_ntop(socket.AF_INET6, data[16:32]) == OTHER[0]


def test_queries_are_hashed_by_the_header(service, peers, relay):
    """T22: the client in a query's header picks its backend, not the source that all have in common."""
    where, *servers = service(protocol="dns", count=2, scheduler="maglev", accept_proxy=("127.0.0.1/32",), dns=PATIENT)
    front = peers.client(where)
    for number in range(40):
        for again in range(2):
            front.send(header((f"192.0.2.{number}", 1)) + query(f"h{number}.example.net", 100 * again + number))
    eventually(lambda: relay.counter("queries") == 80)
    homes = [{server.get()[0][2:] for _ in range(relay.backend(server.address, "total"))} for server in servers]
    assert all(homes)
    assert not homes[0] & homes[1]
