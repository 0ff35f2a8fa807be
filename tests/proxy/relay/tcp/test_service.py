"""Accepting, admission, and changes that affect a service's connections."""

import contextlib
import os
import resource
import select
import socket
import threading
import time
from dataclasses import replace

import pytest

from tests.proxy.relay.conftest import TCP, eventually, free_port
from tests.proxy.relay.streams import (
    END,
    RESET,
    Wire,
    accept,
    connect,
    connections,
    cpu_of,
    deaf,
    descriptors,
    exactly,
    held,
    is_reset,
    listen,
    read,
    reset,
    where,
)


@pytest.fixture
def wire(relay):
    """One service with one backend, not started."""
    made = Wire(relay)
    yield made
    made.close()


# -- drained, down


def tcp_of(relay):
    """Return the relay of the first service."""
    return relay.engine._relays[0, "tcp"]


def test_draining(relay):
    """T16: a draining backend gets nothing new, its connections go on, and the hard stop resets those and no others."""
    with listen() as one, listen() as two:
        address = relay.service([where(one), where(two)], scheduler="failover")
        relay.start()
        with connect(address) as old, accept(one) as old_end:
            old.sendall(b"x")
            exactly(old_end, 1)
            relay.verdict(where(one), "up", "drain")
            with connect(address) as new, accept(two) as new_end:
                old.sendall(b"still")
                assert exactly(old_end, 5) == b"still"
                old_end.sendall(b"here")
                assert exactly(old, 4) == b"here"
                relay.call(lambda: tcp_of(relay).cut([tcp_of(relay).service.targets[0]]))
                assert is_reset(old)
                assert is_reset(old_end)
                assert relay.counter("drained_hard") == 1
                new.sendall(b"fine")
                assert exactly(new_end, 4) == b"fine"
        eventually(lambda: relay.counter("sessions") == 0)
        assert [relay.backend(where(end), "active") for end in (one, two)] == [0, 0]


@pytest.mark.parametrize("on_down", ["keep", "reset"])
def test_backend_goes_down(relay, on_down):
    """T17: connections of a backend that goes down are kept, or reset on both sides, as configured; others never."""
    with listen() as one, listen() as two:
        address = relay.service([where(one), where(two)], on_down=on_down)
        relay.start()
        ends = {}
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                client = stack.enter_context(connect(address))
                client.sendall(b"x")
                ready, _, _ = select.select([one, two], [], [], 5)
                end = stack.enter_context(accept(ready[0]))
                exactly(end, 1)
                ends[client] = (end, ready[0] is one)
            assert [first for _, first in ends.values()].count(True) == 2
            relay.verdict(where(one), "down")
            for client, (end, first) in ends.items():
                gone = first and on_down == "reset"
                assert (is_reset(client), is_reset(end)) == (gone, gone)
                if not gone:
                    client.sendall(b"y")
                    assert exactly(end, 1) == b"y"
            assert relay.counter("reset_on_down") == (2 if on_down == "reset" else 0)
            assert relay.backend(where(one), "active") == (0 if on_down == "reset" else 2)


@pytest.mark.parametrize("on_failback", ["keep", "reset"])
def test_better_backends_serve_again(relay, on_failback):
    """H14: connections of a backend that stands by again are kept, or reset on both sides, as configured."""
    with listen() as main, listen() as backup:
        address = relay.service([where(main), where(backup)], on_failback=on_failback)
        relay.start()
        relay.verdict(where(main), "down")
        with connect(address) as client, accept(backup) as end:
            relay.verdict(where(main), "up")
            relay.verdict(where(backup), "standby")
            gone = on_failback == "reset"
            assert (is_reset(client), is_reset(end)) == (gone, gone)
            with connect(address), accept(main):
                pass
            assert relay.counter("reset_on_failback") == int(gone)
            assert relay.backend(where(backup), "active") == int(not gone)


def test_a_reserve_keeps_what_it_has(relay):
    """H8, H14: a backend that goes to reserve by its own verdict keeps its connections, whatever on-failback says."""
    with listen() as one, listen() as two:
        address = relay.service([where(one), where(two)], on_failback="reset", scheduler="failover")
        relay.start()
        with connect(address) as client, accept(one) as end:
            relay.verdict(where(one), "reserve")
            client.sendall(b"still")
            assert exactly(end, 5) == b"still"
            with connect(address), accept(two):
                pass


def test_those_that_stand_by_are_tried_when_the_first_is_gone(relay):
    """T9, H14: a failover service goes on to a backend that stands by when the one that serves refuses."""
    with listen() as backup:
        gone = ("127.0.0.1", free_port())
        address = relay.service([where(backup), gone], scheduler="failover")
        relay.start()
        relay.verdict(where(backup), "standby")
        with connect(address) as client, accept(backup) as end:
            end.sendall(b"hello")
            assert exactly(client, 5) == b"hello"
        assert relay.backend(gone, "connect_refused") == 1


def test_connecting_when_the_backend_goes_down(relay):
    """T9, T17: a client whose connect is under way when its backend is found down is given another, and not reset."""
    with deaf() as (silent, _), listen() as good:
        timers = replace(TCP, connect_timeout=20.0)
        address = relay.service([silent, where(good)], scheduler="failover", on_down="reset", tcp=timers)
        relay.start()
        with connect(address) as client:
            eventually(lambda: relay.backend(silent, "active") == 1)
            relay.verdict(silent, "down")
            with accept(good) as backend:
                backend.sendall(b"hello")
                assert exactly(client, 5) == b"hello"
        assert relay.counter("reset_on_down") == 0


# -- accepting


def raise_limit():
    """Raise this process's limit of descriptors to its maximum."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def test_burst_below_the_backlog(relay, wire):
    """T18: 2,000 connections that arrive while the relay is busy, below the backlog, are all served."""
    count = 2000
    if raise_limit() < 5 * count:
        pytest.skip(f"needs {5 * count} descriptors")
    relay.max_connections = count
    relay.start()
    clients = {}
    with contextlib.ExitStack() as stack:
        with held(relay):
            for number in range(count):
                clients[number] = stack.enter_context(connect(wire.address))
                clients[number].sendall(number.to_bytes(4, "big"))
            assert wire.counter("accepted") == 0
        for _ in range(count):
            with accept(wire.listener) as backend:
                backend.sendall(exactly(backend, 4))
        for number, client in clients.items():
            assert read(client) == (number.to_bytes(4, "big"), END)
    wire.over()
    assert wire.counter("accepted") == count
    assert wire.counter("closed") == count


def serve(listener: socket.socket, count: int, answer: bytes) -> None:
    """Answer `count` connections, one after the other."""
    for _ in range(count):
        with accept(listener) as backend:
            while backend.recv(4096):
                pass
            backend.sendall(answer)


def test_many_connections(relay, wire):
    """T19: 5,000 connections leave no descriptor and no gauge behind, and the byte counters are exact."""
    count, threads = 5000, 2
    relay.start()
    client, _ = wire.open()
    client.close()
    wire.listener.settimeout(10)
    for sock in wire.opened[1:]:
        sock.close()
    wire.over()
    before = descriptors()
    answer = b"a" * 700
    server = threading.Thread(target=serve, args=(wire.listener, count, answer))
    server.start()
    sizes = []

    def ask(first: int) -> None:
        for number in range(first, count, threads):
            with connect(wire.address) as sock:
                sock.sendall(b"q" * (1 + number % 300))
                if number % 10 == 9:
                    # Every tenth leaves with an RST once it has its answer.
                    sock.shutdown(socket.SHUT_WR)
                    exactly(sock, len(answer))
                    reset(sock)
                else:
                    sock.shutdown(socket.SHUT_WR)
                    assert read(sock) == (answer, END)
            sizes.append(1 + number % 300)

    workers = [threading.Thread(target=ask, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in [*workers, server]:
        worker.join(30)
    wire.over()
    assert len(sizes) == count
    assert wire.counts("bytes_in", "bytes_out", "total") == [sum(sizes), count * len(answer), count + 1]
    assert wire.counter("accepted") == count + 1
    assert descriptors() == before


def test_max_connections(relay, wire):
    """T20: above max-connections clients wait in the queue, and each that ends lets one in, in any service."""
    other = Wire(relay)
    relay.max_connections = 2
    relay.start()
    first, second = wire.open(), other.open()
    waiting = [connect(wire.address), connect(other.address)]
    for client in waiting:
        client.sendall(b"x")
    time.sleep(0.05)
    assert len(connections(relay)) == len(connections(relay, 1)) == 1
    for sock in (*first, *second):
        sock.close()
    for service, client in zip((wire, other), waiting, strict=True):
        with accept(service.listener) as backend:
            assert exactly(backend, 1) == b"x"
        client.close()
    other.close()
    eventually(lambda: relay.counter("sessions") == relay.counter("sessions", 1) == 0)
    assert relay.engine._admission.open == 0


@contextlib.contextmanager
def scarce(spare: int):
    """Leave this process `spare` descriptors to open; the limit is back afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 1 + spare, hard))
        # Not counted but tried: a thread that waits in accept(2) holds one that is not there yet.
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        for _ in range(spare):
            os.close(fillers.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


@pytest.mark.parametrize("spare", [0, 1, 3])
def test_out_of_descriptors(relay, wire, spare):
    """T20: without descriptors accepting pauses, nothing spins, open connections go on, and all clients are served later."""
    relay.start()
    old, old_end = wire.open()
    waiting = [socket.socket() for _ in range(10)]
    with scarce(spare):
        for number, client in enumerate(waiting):
            client.settimeout(10)
            client.connect(wire.address)
            client.sendall(bytes([number]))
        eventually(lambda: wire.counter("no_descriptor"))
        assert wire.counter("accept_paused") >= 1
        used, began = cpu_of(relay._thread), time.monotonic()
        while time.monotonic() < began + 1.5:
            old.sendall(b"ping")
            assert exactly(old_end, 4) == b"ping"
            time.sleep(0.1)
        assert cpu_of(relay._thread) - used < 0.05 * 1.5
        # Nobody was refused: who was accepted and who was not waits.
        assert not any(is_reset(client) for client in waiting)
        assert wire.counter("sessions") <= 1 + spare
    ends = {}
    for _ in waiting:
        backend = accept(wire.listener)
        ends[exactly(backend, 1)[0]] = backend
    for number, client in enumerate(waiting):
        ends[number].close()
        assert client.recv(1) == b""
        client.close()
    old.close()
    old_end.close()
    wire.over()
    assert wire.counts("connect_unreachable", "connect_timeout") == [0, 0]
    assert relay.hints == []


@pytest.mark.parametrize("spare", [0, 1], ids=["queued", "accepted"])
def test_freed_descriptors_are_used_at_once(relay, wire, spare):
    """T20: a connection that ends while descriptors are out makes room for one that waits, without waiting for time."""
    relay.start()
    old, old_end = wire.open()
    client = socket.socket()
    wire.opened.append(client)
    client.settimeout(10)
    with scarce(spare):
        client.connect(wire.address)
        eventually(lambda: wire.counter("no_descriptor"))
        assert wire.counter("sessions") == 1 + spare
        admission = relay.engine._admission
        relay.call(admission._timer.cancel)  # time alone would never resume it now
        short = wire.counter("no_descriptor")
        # The relay's two descriptors come free, and none of ours.
        old.shutdown(socket.SHUT_WR)
        old_end.shutdown(socket.SHUT_WR)
        eventually(lambda: wire.counts("total") == [2])
        # Once more at most: accept(2) wants a descriptor before it finds its queue empty.
        assert wire.counter("no_descriptor") <= short + 1 - spare
    with accept(wire.listener) as backend:
        backend.sendall(b"hi")
        assert exactly(client, 2) == b"hi"
    client.close()
    wire.over()


def test_accepted_client_leaves_while_descriptors_are_out(relay, wire):
    """T11, T20: a client that was accepted but not connected for want of a descriptor, and leaves, is not connected later."""
    relay.start()
    clients = [socket.socket() for _ in range(2)]
    with scarce(1):
        clients[0].connect(wire.address)
        eventually(lambda: wire.counter("no_descriptor"))
        assert wire.counter("sessions") == 1
        reset(clients.pop(0))
        eventually(lambda: wire.counter("client_gone") == 1)
    clients[0].connect(wire.address)
    with accept(wire.listener) as backend:
        backend.sendall(b"hi")
        clients[0].settimeout(5)
        assert exactly(clients[0], 2) == b"hi"
    clients[0].close()
    wire.over()
    assert wire.counts("total") == [1]


def test_clients_that_died_in_the_queue(relay, wire):
    """T18: clients that reset while they are queued do not delay other clients."""
    relay.start()
    with contextlib.ExitStack() as stack:
        with held(relay):
            for _ in range(100):
                reset(connect(wire.address))
            client = stack.enter_context(connect(wire.address))
            client.sendall(b"me")
        got = b""
        while got != b"me":
            backend = stack.enter_context(accept(wire.listener))
            with contextlib.suppress(ConnectionResetError):
                got = backend.recv(2)
    wire.over()


def test_a_listener_that_listens_no_more(relay, wire):
    """T20: a listening socket that another process destroyed is counted once, and is not polled again and again."""
    relay.start()
    _, sock = relay._listeners[0]
    sock.shutdown(socket.SHUT_RDWR)
    eventually(lambda: wire.counter("accept_failed"))
    used = cpu_of(relay._thread)
    time.sleep(0.3)
    assert cpu_of(relay._thread) - used < 0.1
    assert wire.counter("accept_failed") < 5


def test_unlisten_closes_the_socket(relay, wire):
    """T18: a listener that is no longer polled holds no descriptor, so that no client queues where none is accepted."""
    relay.start()
    client, backend = wire.open()
    member, sock = relay._listeners[0]
    relay.call(lambda: relay.engine.unlisten(member.listener, member.index))
    sock.close()
    with pytest.raises(ConnectionRefusedError):
        connect(wire.address)
    client.sendall(b"x")
    assert exactly(backend, 1) == b"x"


def test_hash_on_source(relay):
    """T18: with a hashing scheduler all connections of one client address go to one backend, and of many to both."""
    with listen() as one, listen() as two:
        address = relay.service([where(one), where(two)], scheduler="source-hash")
        relay.start()
        chosen = {}
        for client in range(1, 17):
            for _ in range(2):
                with socket.socket() as sock:
                    sock.bind((f"127.0.0.{client}", 0))
                    sock.connect(address)
                    ready, _, _ = select.select([one, two], [], [], 5)
                    accept(ready[0]).close()
                    chosen.setdefault(client, set()).add(ready[0])
        assert all(len(backends) == 1 for backends in chosen.values())
        assert len(set().union(*chosen.values())) == 2


@pytest.mark.parametrize(("hash_on", "backends"), [("source-port", 2), ("listener", 1), ("query-name", 1)])
def test_hash_on_others(relay, hash_on, backends):
    """T18: hashing by source port spreads one client's connections, by listener or (query-name) by client keeps them together."""
    with listen() as one, listen() as two:
        address = relay.service([where(one), where(two)], scheduler="source-hash", hash_on=hash_on)
        relay.start()
        chosen = set()
        for _ in range(20):
            with connect(address):
                ready, _, _ = select.select([one, two], [], [], 5)
                accept(ready[0]).close()
                chosen.add(ready[0])
        assert len(chosen) == backends


def test_close_resets_what_is_left(relay, wire):
    """T16: a worker that must stop resets and counts its remaining connections."""
    relay.start()
    client, backend = wire.open()
    assert not relay.call(lambda: relay.engine.idle)
    relay.call(tcp_of(relay).close)
    assert relay.call(lambda: relay.engine.idle)
    assert read(client) == read(backend) == (b"", RESET)
    assert wire.counter("drained_hard") == 1
