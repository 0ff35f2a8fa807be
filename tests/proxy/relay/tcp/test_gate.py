"""max-connections of a service: clients above it wait in the kernel's queue."""

import select

from proxy.relay.plan import LimitsPlan
from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.crowd import join, pair
from tests.proxy.relay.streams import accept, connect, exactly, listen, where


def quiet(sock, seconds=0.2):
    """Whether nothing happens on a socket for a while."""
    return not select.select([sock], [], [], seconds)[0]


def test_the_excess_waits_in_the_kernel(relay):
    """T18, S8: above max-connections clients are connected and not accepted; each that ends lets the next one in."""
    with listen() as server:
        address = relay.service([where(server)], limits=LimitsPlan(connections=2))
        relay.start()
        clients = [connect(address) for _ in range(4)]
        ends = [accept(server), accept(server)]
        try:
            assert quiet(server)
            assert [relay.counter(name) for name in ("connections", "accepted", "refused_limit")] == [2, 2, 0]
            for client in clients[2:]:
                client.sendall(b"hello")
            for number in (0, 1):
                clients[number].close()
                ends[number].close()
                ends.append(accept(server))
                assert exactly(ends[-1], 5) == b"hello"
                assert relay.counter("connections") <= 2
        finally:
            for sock in (*clients, *ends):
                sock.close()


def test_the_bound_is_the_hosts_and_nobody_starves():
    """S8: a service's connections count over all workers, and a place goes to the worker whose clients wait longest."""
    with listen() as server, pair() as relays:
        addresses = [each.service([where(server)], limits=LimitsPlan(connections=1)) for each in relays]
        for each in relays:
            each.start()
        join(*relays)
        socks = []
        try:
            first = [connect(addresses[0]), accept(server)]
            socks += first
            older = connect(addresses[1])
            socks.append(older)
            older.sendall(b"o")
            assert quiet(server)
            younger = [connect(addresses[0]) for _ in range(2)]
            socks += younger
            for sock in younger:
                sock.sendall(b"y")
            assert quiet(server)
            for wanted in (b"o", b"y", b"y"):
                for sock in first:
                    sock.close()
                end = accept(server)
                socks.append(end)
                assert exactly(end, 1) == wanted
                first = [end, older if wanted == b"o" else younger.pop(0)]
                assert sum(each.counter("connections") for each in relays) == 1
        finally:
            for sock in socks:
                sock.close()


def test_a_claim_that_nobody_came_for_is_taken_back(relay):
    """S8: the gauge of open connections is right while no client connects."""
    with listen() as server:
        address = relay.service([where(server)], limits=LimitsPlan(connections=5))
        relay.start()
        with connect(address), accept(server):
            eventually(lambda: relay.counter("connections") == 1)
        eventually(lambda: relay.counter("connections") == 0)
