"""Limited backends of UDP and DNS services: datagrams do not wait."""

from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.crowd import join, pair
from tests.proxy.relay.dnsbed import Backend, answer, ask, client, query, quiet


def test_sessions_take_slots(relay):
    """T21: a backend has at most max-connections UDP sessions; when all are full a new one is dropped and counted."""
    one, two = Backend(), Backend()
    socks = []
    try:
        address = relay.service([one.address, two.address], transports=("udp",), limit=1)
        relay.start()
        for number in range(3):
            socks.append(client(address))
            socks[-1].send(b"%d" % number)
        assert {one.take()[0], two.take()[0]} == {b"0", b"1"}
        eventually(lambda: relay.counter("refused_limit") == 1)
        assert [relay.backend(end.address, "active") for end in (one, two)] == [1, 1]
        socks[0].send(b"again")
        eventually(lambda: relay.counter("datagrams") == 4)
        assert not (quiet(one.sock) and quiet(two.sock))
        assert relay.counter("refused_no_backend") == 0
    finally:
        for sock in (*socks, one, two):
            sock.close()


def test_queries_take_slots(relay):
    """T21: a backend has at most max-connections queries in flight; one more gets SERVFAIL, and the place is free again."""
    one = Backend()
    try:
        address = relay.service([one.address], protocol="dns", transports=("udp",), limit=1)
        relay.start()
        with client(address) as first:
            first.send(query(ident=7))
            message, source = one.take()
            assert ask(address, query("other.example.net", 8))[3] & 15 == 2
            assert relay.counter("refused_limit") == 1
            one.reply(answer(message), source)
            assert first.recv(512)[3] & 15 == 0
        with client(address) as second:
            second.send(query("third.example.net", 9))
            one.serve()
            assert second.recv(512)[3] & 15 == 0
        eventually(lambda: relay.backend(one.address, "active") == 0)
    finally:
        one.close()


def test_the_next_backend_is_asked(relay):
    """T21: while a backend has as many queries in flight as it may, the next one gets the queries; then comes SERVFAIL."""
    one, two = Backend(), Backend()
    try:
        address = relay.service(
            [one.address, two.address], protocol="dns", transports=("udp",), limit=2, scheduler="failover"
        )
        relay.start()
        with client(address) as sock:
            for number in range(5):
                sock.send(query(f"n{number}.example.net", number))
            eventually(lambda: relay.counter("refused_limit") == 1)
            assert sock.recv(512)[3] & 15 == 2
            assert [relay.backend(end.address, "active") for end in (one, two)] == [2, 2]
            for end in (one, two):
                for _ in range(2):
                    end.serve()
            assert {sock.recv(512)[1] for _ in range(4)} == {0, 1, 2, 3}
        assert relay.counter("servfail") == 1
        eventually(lambda: [relay.backend(end.address, "active") for end in (one, two)] == [0, 0])
    finally:
        for end in (one, two):
            end.close()


def test_slots_of_queries_are_the_hosts():
    """T21: queries in flight in another worker take slots as well."""
    one = Backend()
    try:
        with pair() as relays:
            addresses = [each.service([one.address], protocol="dns", transports=("udp",), limit=1) for each in relays]
            for each in relays:
                each.start()
            join(*relays)
            with client(addresses[0]) as first:
                first.send(query(ident=7))
                one.take()
                assert ask(addresses[1], query(ident=8))[3] & 15 == 2
                assert relays[1].counter("refused_limit") == 1
    finally:
        one.close()
