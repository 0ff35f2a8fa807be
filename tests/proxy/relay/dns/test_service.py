"""DNS over UDP through the relay: real sockets, and backends that the test controls."""

import itertools
import os
import random
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.relay.dns import journal, upstream
from proxy.relay.dns import service as relay_dns
from proxy.relay.dns.upstream import IDENTICAL_CAP
from proxy.relay.native.datagrams import of
from proxy.relay.plan import DnsPlan, LimitsPlan
from proxy.relay.sockets import outgoing
from proxy.relay.target import ATTEMPTS
from proxy.stats.table import Table
from tests.proxy.relay.conftest import DNS, LAYOUT, eventually, free_port
from tests.proxy.relay.dnsbed import (
    EDNS,
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
BRIEF = DnsPlan(retry_after=0.1, give_up=0.6)


@pytest.fixture
def backends():
    """Make backends that the test ends."""
    made = []

    def make(kind=Backend, *arguments, **options):
        made.append(kind(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def balanced(relay):
    """Start a DNS service over the given backends; where it listens.  At the end nothing of any query is left."""
    started = []

    def start(*addresses, dns=DNS, **options):
        started.append(relay.service(addresses, protocol="dns", transports=("udp",), dns=dns, **options))
        relay.start()
        return started[-1]

    yield start
    if started:
        eventually(lambda: not leftovers(relay))


# -- answers find their way


def test_a_thousand_clients_with_one_id(relay, balanced, backends):
    """U1: a thousand clients that share one query ID each get the answer to their own question."""
    one, two = backends(Server), backends(Server)
    where = balanced(one.address, two.address)
    socks = [client(where) for _ in range(1000)]
    for number, sock in enumerate(socks):
        sock.send(query(f"h{number}.example.net", 4242))
    for number, sock in enumerate(socks):
        asked = query(f"h{number}.example.net", 4242)
        assert sock.recv(4096) == answer(asked)
        sock.close()
    eventually(lambda: relay.counter("queries") == relay.counter("replies") == 1000)
    assert len(one.seen) + len(two.seen) == 1000
    assert min(len(one.seen), len(two.seen)) > 300


@pytest.mark.parametrize("size", [512, 1232, 4096, 65507])
def test_large_answers(relay, balanced, backends, size):
    """U5: an answer of any size up to the largest datagram arrives whole."""
    body = os.urandom(size)
    server = backends(Server, lambda message: (answer(message) + body)[:size])
    where = balanced(server.address)
    asked = query(ident=77)
    assert ask(where, asked) == (answer(asked) + body)[:size]


@pytest.mark.parametrize(
    "message",
    [
        query(),
        query(tail=EDNS),
        query(tail=b"trailing\0octets\xff"),
        query("\x00\x00.a\x00b.net"),
        query("WwW.ExAmPlE.nEt", kind=65),
        query(".", kind=2),
        bytes.fromhex("0007 0100 0000 0000 0000 0000"),
        bytes.fromhex("0007 0120 0000 0000 0000 0001") + EDNS,
        query("example.net", opcode=4),
        query("example.net", opcode=5, tail=os.urandom(3000)),
    ],
    ids=["plain", "edns", "trailing", "zeros", "0x20", "root", "empty", "cookie", "notify", "update"],
)
def test_bytes_are_kept(relay, balanced, backends, message):
    """U6: query and answer travel byte by byte but for the ID, with EDNS, trailing octets and zeros in labels."""
    backend = backends()
    where = balanced(backend.address)
    with client(where) as sock:
        sock.send(message)
        seen, source = backend.take()
        assert seen[2:] == message[2:]
        data = answer(seen, os.urandom(50))
        backend.reply(data, source)
        assert sock.recv(65535) == message[:2] + data[2:]


def test_truncated_answers_pass(relay, balanced, backends):
    """U4: TC=1 passes unchanged, and the relay does nothing about it."""
    backend = backends(Server, lambda message: answer(message)[:2] + b"\x83\0" + message[4:])
    where = balanced(backend.address)
    assert ask(where, query(ident=5))[:4] == b"\0\x05\x83\0"


def test_case_of_names(relay, balanced, backends):
    """U2, U6: an answer with the name in another case counts, and reaches the client as the backend wrote it."""
    backend = backends(Server, lambda message: answer(message).replace(b"WwW", b"www"))
    where = balanced(backend.address)
    assert ask(where, query("WwW.example.net", 9)) == answer(query("www.example.net", 9))


@pytest.mark.parametrize(
    ("listen", "other"), [("0.0.0.0", "127.0.0.3"), ("::", "::1"), ("127.0.0.1", "127.0.0.1")], ids=["v4", "v6", "one"]
)
def test_answers_come_from_the_address_asked(relay, balanced, backends, listen, other):
    """U11: a connected client, which receives from one address only, gets its answer from the address it sent to."""
    where = balanced(backends(Server).address, address=listen, port=free_port(host=listen))
    addresses = (
        ["::1"] if ":" in listen else ["127.0.0.1"] if listen != "0.0.0.0" else ["127.0.0.1", "127.0.0.2", other]
    )
    for address in addresses:
        asked = query(ident=random.randrange(65536))
        assert ask((address, where[1]), asked) == answer(asked)


def test_ipv6_clients_and_backends(relay, balanced, backends):
    """Clients and backends of both families meet: IPv6 asks IPv4, and the other way round."""
    four, six = backends(Server), backends(Server, host="::1")
    where = balanced(four.address, six.address, address="::1")
    for number in range(10):
        asked = query(f"h{number}.example.net", number)
        assert ask(where, asked) == answer(asked)
    assert len(four.seen) == len(six.seen) == 5


# -- answers that do not count


def wrong_replies(message):
    """Return (counter, datagram) for datagrams that look like answers to `message` but are not."""
    question = message[12:]
    other = (int.from_bytes(message[:2], "big") ^ 1).to_bytes(2, "big")
    return {
        "wrong ID": ("wrong_id", other + answer(message)[2:]),
        "wrong name": ("wrong_question", answer(message).replace(b"www", b"wwx")),
        "wrong type": ("wrong_question", answer(message)[:-3] + b"\x61\0\x01"),
        "wrong class": ("wrong_question", answer(message)[:-1] + b"\x03"),
        "no question": ("wrong_question", message[:2] + b"\x81\x80" + bytes(8)),
        "two questions": ("wrong_question", message[:2] + b"\x81\x80\0\x02" + bytes(6) + question * 2),
        "cut": ("wrong_question", answer(message)[:12]),
        "cut in the name": ("wrong_question", answer(message)[:20]),
        "a query": ("malformed_reply", message),
        "short": ("malformed_reply", answer(message)[:11]),
        "empty": ("malformed_reply", b""),
    }


@pytest.mark.parametrize("kind", list(wrong_replies(query())))
def test_wrong_answers_are_dropped(relay, balanced, backends, kind):
    """U2, S9: a datagram that does not answer the question is dropped and counted; the answer after it reaches the client."""
    backend = backends()
    where = balanced(backend.address, dns=PATIENT)
    with client(where) as sock:
        sock.send(query(ident=3, kind=65))
        message, source = backend.take()
        counter, data = wrong_replies(message)[kind]
        backend.reply(data, source)
        eventually(lambda: relay.counter(counter) == 1)
        assert quiet(sock)
        backend.reply(answer(message), source)
        assert sock.recv(4096) == answer(query(ident=3, kind=65))


def test_answers_from_elsewhere_are_not_heard(relay, balanced, backends):
    """U2: the right answer from another port or another address never reaches the relay."""
    backend, forger, elsewhere = backends(), backends(), backends(host="127.0.0.9")
    where = balanced(backend.address, dns=PATIENT)
    with client(where) as sock:
        sock.send(query(ident=3))
        message, source = backend.take()
        forger.reply(answer(message, b"forged"), source)
        elsewhere.reply(answer(message, b"forged"), source)
        assert quiet(sock, 0.1)
        backend.reply(answer(message), source)
        assert sock.recv(4096) == answer(query(ident=3))


def test_an_error_may_leave_the_question_out(relay, balanced, backends):
    """U2: FORMERR without the question, as servers send it that could not read it, is an answer."""
    where = balanced(backends(Server, lambda message: message[:2] + b"\x81\x01" + bytes(8)).address)
    assert ask(where, query(ident=3)) == b"\0\x03\x81\x01" + bytes(8)


def test_a_question_for_a_query_without_one(relay, balanced, backends):
    """U2: an answer with a question is none to a query that asked without."""
    backend = backends()
    where = balanced(backend.address, dns=PATIENT)
    with client(where) as sock:
        sock.send(bytes.fromhex("0007 0100 0000 0000 0000 0000"))
        message, source = backend.take()
        backend.reply(answer(query(), b"")[:2].replace(answer(query())[:2], message[:2]) + answer(query())[2:], source)
        eventually(lambda: relay.counter("wrong_question") == 1)
        backend.reply(answer(message), source)
        assert sock.recv(4096)[:2] == b"\0\x07"


def test_a_late_reply_reaches_nobody_else(relay, balanced, backends):
    """U3: the ID of a query given up is not used again while its answer may come, and that answer is dropped."""
    backend = backends()
    where = balanced(backend.address, dns=DnsPlan(0.2, 0.3))
    old, new = 0x1111_0000, 0x2222_0000
    relay.call(lambda: setattr(dns_of(relay).random, "source", numbers(old, 0x3333_0000, old, new, new)))
    with client(where) as first, client(where) as second:
        first.send(query("first.example.net", 1))
        message, source = backend.take()
        assert message[:2] == b"\x11\x11"
        assert first.recv(512)[3] & 15 == 2
        assert backend.take()[0][:2] == b"\x33\x33"
        second.send(query("second.example.net", 2))
        taken, _ = backend.take()
        assert taken[:2] == b"\x22\x22"
        # An error without question is the one late reply that only its ID tells from an answer to the second query.
        backend.reply(message[:2] + b"\x81\x02" + bytes(8), source)
        eventually(lambda: relay.counter("late_reply") == 1)
        backend.reply(answer(taken), source)
        assert second.recv(512) == answer(query("second.example.net", 2))
        assert quiet(first)


# -- silence and refusal


@pytest.mark.parametrize("scheduler", ["round-robin", "failover"])
def test_silence_is_retried_elsewhere(relay, balanced, backends, scheduler):
    """U9: a silent backend costs retry-after, the client gets exactly one answer, the second one is late."""
    one, two = backends(), backends()
    where = balanced(one.address, two.address, scheduler=scheduler)
    with client(where) as sock:
        began = time.monotonic()
        sock.send(query(ident=8))
        eventually(lambda: not quiet(one.sock, 0) or not quiet(two.sock, 0))
        silent, good = (two, one) if quiet(one.sock, 0) else (one, two)
        first, first_source = silent.take()
        second, second_source = good.take()
        assert DNS.retry_after <= time.monotonic() - began < 2 * DNS.retry_after
        assert first[2:] == second[2:]
        good.reply(answer(second, b"good"), second_source)
        assert sock.recv(512) == answer(query(ident=8), b"good")
        silent.reply(answer(first, b"late"), first_source)
        eventually(lambda: relay.counter("late_reply") == 1)
        assert quiet(sock)
    assert relay.counter("retries") == 1
    assert relay.backend(silent.address, "no_answer") == 1


def test_the_first_answer_wins_whoever_sends_it(relay, balanced, backends):
    """U9: the answer of a slow backend counts if it comes before that of the second backend."""
    one, two = backends(), backends()
    where = balanced(one.address, two.address)
    with client(where) as sock:
        sock.send(query(ident=8))
        eventually(lambda: not quiet(one.sock, 0) and not quiet(two.sock, 0))
        for backend in (one, two):
            message, source = backend.take()
            backend.reply(answer(message), source)
        assert sock.recv(512) == answer(query(ident=8))
        assert quiet(sock)
    assert relay.counter("replies") == 1


def test_times_of_retries(relay, balanced, backends):
    """U9: a lone silent backend is asked at once, after retry-after and after twice that; SERVFAIL comes at give-up."""
    server = backends(Server, lambda _: None)
    where = balanced(server.address, dns=DnsPlan(0.1, 0.6))
    began = time.monotonic()
    reply = ask(where, query(ident=21))
    assert reply == query(ident=21)[:2] + b"\x81\x02" + query()[4:]
    assert 0.59 <= time.monotonic() - began < 0.9
    times = [at - began for at, _, _ in server.seen]
    assert len(times) == 3
    assert times == [pytest.approx(0, abs=0.08), pytest.approx(0.1, abs=0.08), pytest.approx(0.3, abs=0.08)]
    assert relay.counter("gave_up") == relay.counter("servfail") == 1


def test_a_retransmit_joins(relay, balanced, backends):
    """U10: a client that asks again while its query is in flight causes no second one, in whatever phase that is."""
    backend = backends()
    where = balanced(backend.address, dns=DnsPlan(0.3, 3.0))
    with client(where) as sock:
        sock.send(query(ident=8))
        message, source = backend.take()
        sock.send(query(ident=8))
        sock.send(query(ident=8))
        eventually(lambda: relay.counter("joined") == 2)
        assert quiet(backend.sock)
        backend.take()  # the relay's own retry: the query has changed its phase
        sock.send(query(ident=8))
        eventually(lambda: relay.counter("joined") == 3)
        assert quiet(backend.sock)
        backend.reply(answer(message), source)
        assert sock.recv(512) == answer(query(ident=8))
        assert quiet(sock)
        sock.send(query(ident=8))
        message, source = backend.take()
        backend.reply(answer(message), source)
        assert sock.recv(512) == answer(query(ident=8))
    assert relay.counter("queries") == 2


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 6, 15])
def test_only_queries_are_sent_twice(relay, balanced, backends, opcode):
    """U10: no opcode but QUERY goes to a second backend or twice to one; its SERVFAIL has its opcode."""
    one, two = backends(Server, lambda _: None), backends(Server, lambda _: None)
    where = balanced(one.address, two.address, dns=DnsPlan(0.05, 0.3))
    message = query(ident=31, opcode=opcode)
    assert ask(where, message) == message[:2] + bytes([0x81 | opcode << 3, 2]) + message[4:]
    assert len(one.seen) + len(two.seen) == 1
    assert relay.counter("retries") == 0


@pytest.mark.parametrize(("opcode", "rcode"), [(5, 0), (5, 5), (4, 0), (2, 0), (2, 4)])
def test_answers_that_are_headers(relay, balanced, backends, opcode, rcode):
    """U2: an UPDATE's, NOTIFY's or STATUS' answer without question (RFC 2136, section 3.8) reaches the client, success or not."""
    server = backends(Server, lambda message: answer(message, rcode=rcode)[:4] + bytes(8))
    where = balanced(server.address, limits=LimitsPlan(errors=1))
    asked = query(ident=9, opcode=opcode)
    assert ask(where, asked, 2.0) == asked[:2] + bytes([0x81 | opcode << 3, rcode]) + bytes(8)
    assert relay.counter("wrong_question") == relay.backend(server.address, "no_answer") == 0
    assert relay.failing == []


@pytest.mark.parametrize("scheduler", ["round-robin", "least-latency"])
@pytest.mark.parametrize(
    "message", [query(opcode=2), query(opcode=5), query(opcode=6), query()[:4] + bytes(8)], ids=[2, 5, 6, "no question"]
)
def test_silence_that_a_client_causes_is_no_fault(relay, balanced, backends, message, scheduler):
    """H12: silence on a message that no server must answer is no failure, no hint, and no slow time."""
    silent = [backends(Server, lambda _: None), backends(Server, lambda _: None)]
    where = balanced(
        *(one.address for one in silent), dns=DnsPlan(0.05, 0.2), limits=LimitsPlan(errors=1), scheduler=scheduler
    )
    with client(where) as sock:
        for number in range(10):
            sock.send(bytes([0, number]) + message[2:])
        for _ in range(10):
            assert sock.recv(512)[3] & 15 == 2
    assert relay.failing == relay.hints == []
    assert [relay.backend(one.address, "no_answer") for one in silent] == [0, 0]
    assert relay.call(lambda: {one.estimate for one in dns_of(relay).service.targets}) == {0}


def test_silence_of_all_is_nobodys_fault(relay, balanced, backends):
    """H12: a query that no backend answers, as one for a name whose own servers are silent, has failed none of them."""
    unknown = query("gone.example.net")[12:]
    servers = [backends(Server, lambda message: None if message[12:] == unknown else answer(message)) for _ in range(2)]
    where = balanced(*(one.address for one in servers), dns=DnsPlan(0.05, 0.3), limits=LimitsPlan(errors=1))
    for number in range(5):
        assert ask(where, query("gone.example.net", number))[3] & 15 == 2
    assert relay.failing == []
    assert ask(where, query(ident=7)) == answer(query(ident=7))


def test_an_update_on_a_closed_port_is_not_sent_again(relay, balanced, backends):
    """U7, U10: an ICMP error does not say which datagram it is about, so not even then is an UPDATE sent twice."""
    one, two = backends(), backends(Server)
    where = balanced(one.address, two.address, dns=BRIEF)
    one.sock.close()
    replies = [ask(where, query(ident=1, opcode=5)) for _ in range(2)]
    assert sorted(reply[3] & 15 for reply in replies) == [0, 2]
    assert len(two.seen) == 1


def test_closed_port_is_retried_at_once(relay, balanced, backends):
    """U7: port unreachable sends the query elsewhere at once, is counted and hinted to health; the listener goes on."""
    one, two = backends(), backends(Server)
    where = balanced(one.address, two.address, dns=PATIENT)
    one.sock.close()
    for number in range(20):
        assert ask(where, query(f"h{number}.example.net", number), 1.0) == answer(
            query(f"h{number}.example.net", number)
        )
    assert relay.backend(one.address, "port_unreachable") >= 1
    assert relay.hints
    assert relay.counter("servfail") == 0


def test_all_that_waited_at_a_closed_port_moves(relay, balanced, backends, monkeypatch):
    """U7: all queries that a backend swallowed move, in portions, when its port turns out to be closed."""
    monkeypatch.setattr(upstream, "MOVED", 10)
    one, two = backends(), backends(Server)
    where = balanced(one.address, two.address, dns=PATIENT)
    relay.verdict(two.address, "down")
    with client(where) as sock:
        for number in range(120):
            sock.send(query(f"h{number}.example.net", number))
            if number % 50 == 49:
                eventually(lambda number=number: relay.counter("queries") == number + 1)
        relay.verdict(two.address, "up")
        one.close()
        began = time.monotonic()
        for number in range(120, 160):
            sock.send(query(f"h{number}.example.net", number))
        got = set()
        while len(got) < 160:
            got.add(sock.recv(512)[:2])
        assert time.monotonic() - began < PATIENT.retry_after / 2
    assert relay.counter("servfail") == 0


def test_closed_ports_cost_bounded_work(relay, balanced):
    """U7: with every port closed a query is offered to few backends at once, and answered SERVFAIL at give-up."""
    ports = {free_port(socket.SOCK_DGRAM) for _ in range(60)}  # two of them may be one
    closed = [("127.0.0.1", port) for port in sorted(ports)[:40]]
    where = balanced(*closed, dns=BRIEF)
    assert ask(where, query(ident=2))[3] == 2
    total = sum(relay.backend(one, "total") for one in closed)
    assert ATTEMPTS <= total <= 3 * ATTEMPTS


def test_a_port_that_opens_again(relay, balanced, backends):
    """U7: where every backend refused, the query is asked again after retry-after, and answered if one is back."""
    ports = [free_port(socket.SOCK_DGRAM) for _ in range(3)]
    where = balanced(*(("127.0.0.1", port) for port in ports), dns=DnsPlan(0.3, 5.0))
    with client(where) as sock:
        sock.send(query(ident=2))
        eventually(lambda: sum(relay.backend(("127.0.0.1", port), "port_unreachable") for port in ports) >= 3)
        for port in ports:
            backends(Server, port=port)
        assert sock.recv(512) == answer(query(ident=2))
    assert relay.counter("servfail") == 0


# -- bad input


def test_bad_datagrams_are_counted(relay, balanced, backends):
    """U12, U13, U17: empty, short and answer-like datagrams are dropped, each under its name, and service goes on."""
    where = balanced(backends(Server).address)
    with client(where) as sock:
        for size in range(12):
            sock.send(bytes(size))
        sock.send(answer(query()))
        eventually(lambda: relay.counter("datagrams") == 13)
        assert quiet(sock)
        sock.send(query(ident=1))
        assert sock.recv(512) == answer(query(ident=1))
    assert relay.counter("empty_datagram") == 1
    assert relay.counter("malformed") == 11
    assert relay.counter("response_as_query") == 1
    assert relay.counter("queries") == 1


TWICE = query()[:4] + b"\0\x02" + query()[6:] + query()[12:]


@pytest.mark.parametrize("opcode", [0, 4, 5])
@pytest.mark.parametrize(
    "message", [TWICE, query()[:20], query()[:12] + b"\xc0\x0c\0\x01\0\x01"], ids=["two", "cut", "pointer"]
)
def test_what_cannot_be_read_is_told_so(relay, balanced, backends, message, opcode):
    """U17: a message with two questions (RFC 9619), or an unreadable one, gets FORMERR at once and reaches no backend."""
    backend = backends()
    message = message[:2] + bytes([message[2] | opcode << 3]) + message[3:]
    assert ask(balanced(backend.address), message) == message[:2] + bytes([0x81 | opcode << 3, 1]) + bytes(8)
    assert quiet(backend.sock)
    assert (relay.counter("malformed"), relay.counter("queries")) == (1, 0)


def test_who_is_kept_out_is_not_told(relay, balanced, backends):
    """U17: a client that `deny` names gets no FORMERR either."""
    where = balanced(backends().address, deny=("127.0.0.0/8",))
    with client(where) as sock:
        sock.send(TWICE)
        eventually(lambda: relay.counter("denied") == 1)
        assert quiet(sock)


def test_source_port_zero(relay, balanced, backends):
    """U19: a datagram from port 0 is neither forwarded nor answered, whatever it says."""
    backend = backends()
    balanced(backend.address)

    post = relay.call(lambda: of(relay.engine._poller)[1])
    relay.call(lambda: dns_of(relay).take(polled_of(relay), query(), ("127.0.0.1", 0), time.monotonic()))
    relay.call(lambda: dns_of(relay).take(polled_of(relay), TWICE, ("127.0.0.1", 0), time.monotonic()))
    assert quiet(backend.sock)
    assert (post.waiting, post.calls) == (0, 0)
    assert relay.counter("source_port_zero") == 2
    assert relay.counter("queries") == relay.counter("servfail") == 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_are_harmless(hostile, noise, headed):
    """U13, S9: no bytes of a client's or a backend's stop the service; the invariant is that the next query is answered."""
    where, backend = hostile
    with client(where) as sock:
        sock.send(query()[:12] + noise if headed else noise)
        for source in backend.sources:
            backend.sock.sendto(noise, source)
        asked = query("next.example.net", 1)
        sock.send(asked)
        while sock.recv(65535) != answer(asked):
            pass


@pytest.fixture
def hostile(relay):
    """A service whose one backend answers, and remembers where it was asked from."""

    class Hostile(Server):
        @property
        def sources(self):
            return {source for _, _, source in self.seen[-20:]}

    backend = Hostile()
    where = relay.service([backend.address], protocol="dns", transports=("udp",), dns=BRIEF)
    relay.start()
    yield where, backend
    backend.close()


def test_thirty_thousand_random_datagrams(relay, balanced, backends):
    """U13: 30,000 random datagrams, some of them nearly queries, are each counted, and leave nothing behind."""
    backend = backends()
    where = balanced(backend.address, dns=BRIEF)
    rng = random.Random(2)
    with client(where) as sock:
        sock.setblocking(False)
        for number in range(30_000):
            noise = rng.randbytes(rng.randrange(60))
            if number % 8 == 0:
                noise = noise[:2] + b"\x01\0\0\x01" + noise[6:]
            while True:
                try:
                    sock.send(noise)
                    break
                except (BlockingIOError, ConnectionRefusedError):
                    continue
            if number % 200 == 199:
                eventually(lambda sent=number + 1: relay.counter("datagrams") == sent)
    bad = ["empty_datagram", "malformed", "response_as_query", "joined"]
    assert sum(relay.counter(name) for name in bad) + relay.counter("queries") == 30_000
    assert relay.counter("malformed") > 3_000
    assert relay.counter("response_as_query") > 3_000


# -- no backend, no room


def test_nobody_to_ask(relay, balanced, backends):
    """U17: without a usable backend SERVFAIL comes at once, with question, opcode and flags, never larger."""
    backend = backends()
    where = balanced(backend.address)
    relay.verdict(backend.address, "down")
    for message in (
        query(ident=6),
        query(ident=7, tail=EDNS),
        query(ident=8, opcode=4),
        bytes.fromhex("0009 0100") + bytes(8),
    ):
        reply = ask(where, message, 0.5)
        assert len(reply) <= len(message)
        assert reply[:2] == message[:2]
        assert (reply[2], reply[3]) == (message[2] | 0x80, 2)
        end = len(message) - len(EDNS) if message.endswith(EDNS) else len(message)
        assert reply[12:] == message[12:end]
    assert relay.counter("refused_no_backend") == relay.counter("servfail") == 4


def test_a_full_table(relay, balanced, backends, monkeypatch):
    """U18: above its cap a query is answered SERVFAIL and counted, and the table grows no further."""
    monkeypatch.setattr(relay_dns, "INFLIGHT_CAP", 10)
    backend = backends()
    where = balanced(backend.address, dns=PATIENT)
    with client(where) as sock:
        for number in range(15):
            sock.send(query(f"h{number}.example.net", number))
        refused = [sock.recv(512) for _ in range(5)]
        assert {reply[3] & 15 for reply in refused} == {2}
        assert relay.counter("inflight") == 10
        assert relay.counter("table_full") == 5
        for _ in range(10):
            backend.serve()
        assert {sock.recv(512)[3] & 15 for _ in range(10)} == {0}
        sock.send(query(ident=99))
        backend.serve()
        assert sock.recv(512) == answer(query(ident=99))


def test_large_queries_are_bounded(relay, balanced, backends, monkeypatch):
    """U18: the number of large queries in flight is limited, so that clients cannot fill the memory."""
    monkeypatch.setattr(relay_dns, "LARGE_CAP", 3)
    backend = backends()
    where = balanced(backend.address, dns=PATIENT)
    large = bytes(60_000)
    with client(where) as sock:
        for _ in range(2):
            for number in range(5):
                sock.send(query(f"h{number}.example.net", number, tail=large))
            assert {sock.recv(512)[:4] for _ in range(2)} == {b"\0\x03\x81\x02", b"\0\x04\x81\x02"}
            sock.send(query(ident=99))
            for _ in range(4):
                backend.serve()
            assert {sock.recv(65535)[1] for _ in range(4)} == {0, 1, 2, 99}
    assert relay.counter("table_full") == 4


# -- guessing


def test_ids_and_ports_are_hard_to_guess(relay, balanced, backends):
    """U20: IDs fill their whole range without pattern, over four random ports."""
    backend = backends(Server)
    where = balanced(backend.address)
    with client(where) as sock:
        for number in range(2000):
            sock.send(query(f"h{number}.example.net", 7))
            sock.recv(512)
    ids = [int.from_bytes(message[:2], "big") for _, message, _ in backend.seen]
    assert len(set(ids)) > 1900
    assert all(400 < sum(low <= one < low + 16384 for one in ids) < 600 for low in range(0, 65536, 16384))
    steps = {(second - first) % 65536 for first, second in itertools.pairwise(ids)}
    assert len(steps) > 1900
    ports = [source[1] for _, _, source in backend.seen]
    assert len(set(ports)) == upstream.SOCKETS
    assert all(400 < ports.count(port) < 600 for port in set(ports))


def test_ids_come_from_the_kernel(relay, balanced, backends, monkeypatch):
    """U20: the IDs on the wire are the octets of os.urandom, and ports are SystemRandom's."""
    drawn = []

    def urandom(size):
        drawn.append(random.Random(len(drawn)).randbytes(size))
        return drawn[-1]

    monkeypatch.setattr(os, "urandom", urandom)
    backend = backends(Server)
    where = balanced(backend.address)
    for number in range(20):
        ask(where, query(f"h{number}.example.net"))
    pool = b"".join(drawn)
    words = {int.from_bytes(pool[at : at + 4], "little") >> 16 for at in range(0, len(pool), 4)}
    assert {int.from_bytes(message[:2], "big") for _, message, _ in backend.seen} <= words
    assert isinstance(outgoing._random, random.SystemRandom)


def test_identical_queries_are_capped(relay, balanced, backends):
    """U20: of 300 clients' identical queries a backend gets IDENTICAL_CAP, yet every client is answered."""
    backend = backends()
    where = balanced(backend.address, dns=PATIENT)
    socks = [client(where) for _ in range(300)]
    for number, sock in enumerate(socks):
        sock.send(query(ident=number))
    eventually(lambda: relay.counter("queries") == 300)
    asked = [backend.take() for _ in range(IDENTICAL_CAP)]
    assert quiet(backend.sock)
    assert relay.counter("coalesced") == 300 - IDENTICAL_CAP
    for message, source in asked:
        backend.reply(answer(message, b"data"), source)
    for number, sock in enumerate(socks):
        assert sock.recv(512) == answer(query(ident=number), b"data")
        sock.close()
    eventually(lambda: relay.counter("replies") == 300)


def test_workers_share_the_cap_of_identical_queries(relay, balanced, backends):
    """U20: with three siblings a worker sends a quarter of the identical queries that it would send alone."""
    backend = backends()
    where = balanced(backend.address, dns=PATIENT)
    relay.call(lambda: relay.engine.siblings([Table.create(LAYOUT) for _ in range(3)]))
    socks = [client(where) for _ in range(40)]
    for number, sock in enumerate(socks):
        sock.send(query(ident=number))
    eventually(lambda: relay.counter("queries") == 40)
    asked = [backend.take() for _ in range(IDENTICAL_CAP // 4)]
    assert quiet(backend.sock)
    for message, source in asked:
        backend.reply(answer(message), source)
    for sock in socks:
        assert sock.recv(512)
        sock.close()
    relay.call(lambda: relay.engine.siblings([]))
    assert dns_of(relay).identical_cap == IDENTICAL_CAP


def test_a_joined_query_has_its_own_patience(relay, balanced, backends):
    """U20, U9: a query that waits for another one's answer is retried and given up by its own time."""
    one, two = backends(), backends(Server)
    where = balanced(one.address, two.address, dns=DnsPlan(0.2, 3.0))
    relay.verdict(two.address, "down")
    socks = [client(where) for _ in range(100)]
    for number, sock in enumerate(socks):
        sock.send(query(ident=number))
    eventually(lambda: relay.counter("coalesced") == 100 - IDENTICAL_CAP)
    relay.verdict(two.address, "up")
    for number, sock in enumerate(socks):
        assert sock.recv(512) == answer(query(ident=number))
        sock.close()
    assert relay.counter("servfail") == 0


def test_updates_are_not_joined(relay, balanced, backends):
    """U20: the cap is for questions; an UPDATE of a client is its own, however many send the same."""
    backend = backends()
    where = balanced(backend.address, dns=PATIENT)
    with client(where) as sock:
        for number in range(IDENTICAL_CAP + 5):
            sock.send(query(ident=number, opcode=5))
        for _ in range(IDENTICAL_CAP + 5):
            backend.serve()
        assert len({sock.recv(512)[:2] for _ in range(IDENTICAL_CAP + 5)}) == IDENTICAL_CAP + 5


# -- choosing


@pytest.mark.parametrize("hash_on", ["query-name", "source", "source-port", "listener"])
def test_what_is_hashed(relay, balanced, backends, hash_on):
    """U6: with source-hash the key decides: a name in whatever case, a client, a port or the listener always meets one backend."""
    servers = [backends(Server) for _ in range(4)]
    where = balanced(*(one.address for one in servers), scheduler="source-hash", hash_on=hash_on)
    for host in range(30):
        with client(where, f"127.0.0.{host + 1}") as sock:
            for name in (f"h{host}.example.net", f"H{host}.EXAMPLE.net"):
                sock.send(query(name, host))
                sock.recv(512)
    used = [{message[12:-4].lower() for _, message, _ in one.seen} for one in servers]
    assert sum(map(len, used)) == 30
    assert sum(bool(names) for names in used) == (1 if hash_on == "listener" else 4)


@pytest.mark.parametrize("scheduler", ["destination-hash", "destination-affinity", "destination-affinity-replicated"])
def test_names_keep_their_backend(relay, balanced, backends, scheduler):
    """U6: with hash-on = query-name all queries for a name go to one backend, from any client and in any case."""
    servers = [backends(Server) for _ in range(3)]
    where = balanced(*(one.address for one in servers), scheduler=scheduler, hash_on="query-name")
    for round_ in range(3):
        with client(where, f"127.0.0.{round_ + 1}") as sock:
            for host in range(20):
                name = f"h{host}.example.net"
                sock.send(query(name.upper() if round_ == 1 else name, host))
                sock.recv(512)
    used = [{message[12:-4].lower() for _, message, _ in one.seen} for one in servers]
    assert all(used)
    assert sum(map(len, used)) == 20


# -- ends


def test_closing_answers_what_is_in_flight(relay, balanced, backends):
    """U17: a relay that closes leaves no client without an answer."""
    backend = backends()
    where = balanced(backend.address, dns=PATIENT)
    with client(where) as sock:
        for number in range(5):
            sock.send(query(f"h{number}.example.net", number))
        for _ in range(5):
            backend.take()
        relay.call(dns_of(relay).close)
        assert {sock.recv(512)[3] & 15 for _ in range(5)} == {2}
    assert upstreams(relay) == []


def test_a_dead_workers_queries(relay, balanced, backends):
    """U10: a dead worker's queries are sent again; those that could act twice get SERVFAIL instead."""
    backend = backends(Server)
    where = balanced(backend.address)
    with client(where) as asker, client(where) as updater:

        def replay():
            polled, now = polled_of(relay), time.monotonic()
            dns_of(relay).replay(polled, query(ident=1), asker.getsockname(), now)
            dns_of(relay).replay(polled, query(ident=2, opcode=5), updater.getsockname(), now)

        relay.call(replay)
        assert asker.recv(512) == answer(query(ident=1))
        assert updater.recv(512)[2:4] == b"\xa9\x02"
    assert [message[2] for _, message, _ in backend.seen] == [1]


def test_the_journal_knows_what_is_in_flight(relay, balanced, backends):
    """R10: a query is in the journal, as it came, for as long as it is in flight and no longer."""
    backend = backends()
    where = balanced(backend.address, dns=PATIENT)
    with client(where) as sock:
        sock.send(query(ident=5))
        message, source = backend.take()
        (entry,) = journal.entries(relay.journal_fd)
        assert (entry.client, entry.message) == (sock.getsockname(), query(ident=5))
        backend.reply(answer(message), source)
        sock.recv(512)
    eventually(lambda: not journal.used(relay.journal_fd))


@pytest.mark.parametrize("usable", ["up", "down"])
def test_a_query_is_forgotten_after_its_answer(relay, balanced, backends, usable):
    """R10: a query is in the journal until its answer has been sent: a worker killed in between must lose none."""
    backend = backends()
    where = balanced(backend.address, dns=PATIENT)
    relay.verdict(backend.address, usable)
    poller = relay.engine._poller
    post = relay.call(lambda: of(poller)[1])
    noted = []

    def note(_):
        """Look between the events of a round and its end, when answers leave."""
        entries = [entry.message for entry in journal.entries(relay.journal_fd)]
        noted.append((entries, dns_of(relay).inflight, post.waiting))

    with client(where) as sock:
        if usable == "up":
            sock.send(query(ident=5))
            message, source = backend.take()

        def arrive():
            if usable == "up":
                backend.reply(answer(message), source)
            else:
                sock.send(query(ident=5))
            poller.at(time.monotonic(), note)

        relay.call(arrive)
        assert sock.recv(512)[3] & 15 == (0 if usable == "up" else 2)
    assert noted == [([query(ident=5)], 0, 1)]
    eventually(lambda: not journal.used(relay.journal_fd))


def test_counters_of_a_backend(relay, balanced, backends):
    """Bytes, answers and totals of a backend are those that it was sent and that it sent."""
    backend = backends(Server, lambda message: answer(message, bytes(100)))
    where = balanced(backend.address)
    size = len(query())
    for number in range(10):
        ask(where, query(ident=number))
    assert relay.backend(backend.address, "total") == relay.backend(backend.address, "replies") == 10
    assert relay.backend(backend.address, "bytes_in") == 10 * size
    assert relay.backend(backend.address, "bytes_out") == 10 * (size + 100)
