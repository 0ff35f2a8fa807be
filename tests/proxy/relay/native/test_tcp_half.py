"""Octets through pipes: splicing begins and ends, is refused, and keeps FINs and RSTs behind the octets."""

import contextlib
import hashlib
import os
import random
import resource
import socket
import threading
import time

import pytest

from proxy.relay.native import pipes
from proxy.relay.tcp import service as tcp_service
from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.streams import END, RESET, Wire, descriptors, exactly, flood, read, reset, settle

SIDES = pytest.mark.parametrize("side", ["client", "backend"])
PATTERN = random.Random(2).randbytes(1 << 20)


@pytest.fixture
def wire(relay, request):
    """One service with one backend; the parameters are timers and the buffer of its peers."""
    made = Wire(relay, **getattr(request, "param", {}))
    relay.start()
    yield made
    made.close()


def made(wire: Wire) -> tuple[int, int]:
    """The pipes that exist, and how many of them are idle."""
    room = wire.relay.engine._admission
    return wire.relay.call(lambda: (room.pipes.made, room.pipes.idle))


def octets(sent: int) -> bytes:
    """The first octets that `flood` sends."""
    return (PATTERN * (sent // len(PATTERN) + 1))[:sent]


@SIDES
def test_octets_that_wait_in_a_pipe(wire, side):
    """T6, T7: octets that wait in a pipe are counted when they leave it, arrive in order, and free the pipe."""
    near, far = wire.sides(side)
    sent = flood(near, PATTERN)
    (conn,) = wire.connections
    waiting = conn.waiting[side == "client"]
    assert 0 < waiting <= 256 << 10
    assert made(wire) == (1, 0)
    assert sum(wire.counts("bytes_in", "bytes_out")) <= sent - waiting
    near.shutdown(socket.SHUT_WR)
    assert read(far) == (octets(sent), END)
    eventually(lambda: made(wire) == (1, 1))
    assert sum(wire.counts("bytes_in", "bytes_out")) == sent


@SIDES
@pytest.mark.parametrize("wire", [{"buffer": 16384}], indirect=True)
def test_reset_behind_octets_in_a_pipe(wire, side):
    """T3, T4: an RST follows the octets that wait in a pipe, to a slow reader too."""
    near, far = wire.sides(side)
    sent = flood(near, PATTERN)
    sent -= settle(near)
    assert made(wire) == (1, 0)
    reset(near)
    assert read(far, pause=0.001) == (octets(sent), RESET)
    wire.over()
    assert made(wire) == (1, 1)


@SIDES
def test_a_pipe_that_is_not_empty_is_destroyed(wire, side):
    """T19: a connection that ends with octets in a pipe takes the pipe along: no other one can get its octets."""
    near, far = wire.sides(side)
    flood(near, PATTERN)
    assert made(wire) == (1, 0)
    reset(far)
    wire.over()
    assert made(wire) == (0, 0)


@pytest.mark.parametrize("pause", [0.0, 0.0005], ids=["fast", "slow"])
def test_bulk_and_small_writes_in_turn(wire, pause):
    """T6: streams that change between bulk and small writes arrive whole both ways, to slow readers too: equal SHA-256."""
    client, backend = wire.open()
    sums = {}

    def send(sock, name):
        rng, digest = random.Random(name), hashlib.sha256()
        for _ in range(60):
            piece = PATTERN[: rng.choice((1, 100, 16384, 16383, 300_000, 1 << 20))]
            digest.update(piece)
            sock.sendall(piece)
            if rng.random() < 0.3:
                time.sleep(0.002)
        sock.shutdown(socket.SHUT_WR)
        sums[name, "sent"] = digest.hexdigest()

    def receive(sock, name):
        digest = hashlib.sha256()
        while piece := sock.recv(1 << 16):
            digest.update(piece)
            if pause:
                time.sleep(pause)
        sums[name, "got"] = digest.hexdigest()

    ends = (client, "client"), (backend, "backend")
    threads = [threading.Thread(target=act, args=end, daemon=True) for end in ends for act in (send, receive)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sums["client", "sent"] == sums["backend", "got"]
    assert sums["backend", "sent"] == sums["client", "got"]
    wire.over()
    total, idle = made(wire)
    assert total == idle > 0


def test_small_messages_need_no_pipe(wire):
    """T19: octets below the limit are copied, and no pipe is made."""
    client, backend = wire.open()
    for _ in range(20):
        client.sendall(PATTERN[:8000])
        assert exactly(backend, 8000) == PATTERN[:8000]
    assert made(wire) == (0, 0)


@pytest.mark.parametrize("most", [0, 1], ids=["none", "one"])
def test_pipes_are_bounded(monkeypatch, relay, most):
    """T7: connections for which there is no pipe are relayed by copying, with one buffer a direction."""
    monkeypatch.setattr(tcp_service, "PIPES", most)
    wire = Wire(relay)
    relay.start()
    pairs = [wire.open() for _ in range(3)]
    sent = [flood(client, PATTERN) for client, _ in pairs]
    assert made(wire) == (most, 0)
    waiting = [conn.waiting[1] for conn in wire.connections]
    assert all(0 < size <= 256 << 10 for size in waiting)
    for (client, backend), size in zip(pairs, sent, strict=True):
        client.shutdown(socket.SHUT_WR)
        assert read(backend) == (octets(size), END)
    wire.close()


def test_no_descriptor_for_a_pipe(wire):
    """T6, T20: if a pipe cannot be made because descriptors are out, octets are copied."""
    client, backend = wire.open()
    with contextlib.ExitStack() as stack:
        lowest = os.dup(0)
        os.close(lowest)
        stack.callback(_limit_files, _limit_files(lowest))
        sent = flood(client, PATTERN)
        assert made(wire) == (0, 0)
        client.shutdown(socket.SHUT_WR)
        assert read(backend) == (octets(sent), END)


def _limit_files(most: int) -> int:
    """Change how many files this process may have open; return how many it could."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return soft


@SIDES
def test_urgent_octet_in_a_spliced_stream(wire, side):
    """T14: an urgent octet within much is left out, and nothing behind it stalls."""
    near, far = wire.sides(side)

    def send() -> None:
        near.sendall(PATTERN)
        near.send(b"!", socket.MSG_OOB)
        near.sendall(PATTERN[:1000])

    for _ in range(5):
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        assert exactly(far, len(PATTERN) + 1000) == PATTERN + PATTERN[:1000]
        sender.join(10)


def test_few_pipes_are_kept(wire):
    """T19: of the pipes that are free again only a few stay open."""
    pairs = [wire.open() for _ in range(pipes.IDLE + 6)]
    sent = [flood(client, PATTERN) for client, _ in pairs]
    assert made(wire)[0] > pipes.IDLE  # a sender that was slow for a moment has its last octets copied
    for (client, backend), size in zip(pairs, sent, strict=True):
        assert exactly(backend, size) == octets(size)
        reset(client)
    wire.over()
    assert made(wire) == (pipes.IDLE, pipes.IDLE)


def test_short_connections_leave_nothing(wire):
    """T19: after thousands of short connections no descriptor, timer or connection is left, and each octet is counted."""
    timers = wire.relay.engine._poller.timers
    before, armed = len(descriptors()), wire.relay.call(lambda: len(timers))
    count = 3000
    listener = wire.listener

    def serve():
        for _ in range(count):
            sock, _ = listener.accept()
            with sock, contextlib.suppress(ConnectionResetError):
                sock.sendall(sock.recv(100))
                sock.recv(1)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    for number in range(count):
        with socket.create_connection(wire.address) as sock:
            sock.sendall(b"ping")
            assert exactly(sock, 4) == b"ping"
            if number % 10 == 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.join(10)
    wire.over()
    assert wire.counts("total", "bytes_in", "bytes_out") == [count, 4 * count, 4 * count]
    eventually(lambda: len(descriptors()) == before)
    assert wire.relay.call(lambda: len(timers)) == armed
