"""Connections through the relay, with real sockets on both sides."""

import contextlib
import hashlib
import os
import random
import socket
import threading
import time

import pytest

from proxy.relay.native.tcp_half import READS
from proxy.relay.tcp import service as tcp_service
from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.streams import (
    END,
    RESET,
    Wire,
    accept,
    connect,
    connections,
    exactly,
    flood,
    held,
    is_reset,
    own_sockets,
    read,
    reset,
    settle,
)

SIDES = pytest.mark.parametrize("side", ["client", "backend"])
INF = float("inf")
PATTERN = random.Random(1).randbytes(1 << 20)


def plan(**keys: float) -> pytest.MarkDecorator:
    """Give the wire of a test these timers, and its peers this `buffer`."""
    return pytest.mark.parametrize("wire", [keys], indirect=True, ids=["-".join(keys)])


@pytest.fixture
def wire(relay, request):
    """One service with one backend; `plan` has its timers and the buffer of its peers."""
    made = Wire(relay, **getattr(request, "param", {}))
    relay.start()
    yield made
    made.close()


@pytest.fixture
def tiny(monkeypatch):
    """Buffers of 512 octets: a few thousand octets go through every budget and every pause."""
    monkeypatch.setattr(tcp_service, "BUFFER", 512)


@pytest.fixture(params=["copied", "spliced"])
def passing(request, monkeypatch):
    """How octets pass through the relay, whatever size reads have: by copying alone, or by splicing from 16 KiB on."""
    if request.param == "copied":
        monkeypatch.setattr(tcp_service, "SPLICE_FROM", tcp_service.BUFFER + 1)


# -- FIN


@SIDES
def test_late_answer(wire, side):
    """T1, T2: a FIN of either side reaches the other at once, and a late answer still returns, with its own FIN."""
    near, far = wire.sides(side)
    near.sendall(b"question")
    near.shutdown(socket.SHUT_WR)
    assert read(far) == (b"question", END)
    time.sleep(0.1)
    far.sendall(b"late answer")
    far.close()
    assert read(near) == (b"late answer", END)
    wire.over()
    assert wire.counter("closed") == 1
    assert wire.counts("bytes_in", "bytes_out") == ([8, 11] if side == "client" else [11, 8])


def test_fin_from_a_client_at_once(wire):
    """T1, T12: a client that closes its half before a backend is connected still gets a server's greeting."""
    with connect(wire.address) as client:
        client.shutdown(socket.SHUT_WR)
        with accept(wire.listener) as backend:
            backend.sendall(b"220 hello")
            assert read(backend) == (b"", END)
        assert read(client) == (b"220 hello", END)
    wire.over()


@SIDES
def test_fin_behind_more_than_one_turn(relay, tiny, wire, side):
    """T6: a FIN behind more octets than one turn's budget is passed on as well."""
    near, far = wire.sides(side)
    sent = PATTERN[: 512 * (READS * 2) + 100]
    with held(relay):
        near.sendall(sent)
        near.shutdown(socket.SHUT_WR)
        assert settle(near) == 0
    assert read(far) == (sent, END)


@SIDES
def test_fin_while_the_other_reads_slowly(wire, side):
    """T6: octets and a FIN that come while the other side takes nothing all arrive when it reads again."""
    near, far = wire.sides(side)
    sent = flood(near, PATTERN)
    near.shutdown(socket.SHUT_WR)
    far.shutdown(socket.SHUT_WR)
    assert read(near) == (b"", END)
    got, how = read(far)
    assert (len(got), how) == (sent, END)
    assert got == (PATTERN * (sent // len(PATTERN) + 1))[:sent]


def test_50_mib_both_ways(wire):
    """T6: 50 MiB flushed in each direction at a time arrive whole before the FIN, with equal SHA-256."""
    client, backend = wire.open()
    blocks = 50
    sums = {}

    def send(sock, name):
        digest = hashlib.sha256()
        for number in range(blocks):
            block = number.to_bytes(8, "big") + PATTERN[8:]
            digest.update(block)
            sock.sendall(block)
        sock.shutdown(socket.SHUT_WR)
        sums[f"{name} sent"] = digest.hexdigest()

    def receive(sock, name):
        digest, size = hashlib.sha256(), 0
        while piece := sock.recv(1 << 18):
            digest.update(piece)
            size += len(piece)
        sums[f"{name} got"] = digest.hexdigest()
        sums[f"{name} size"] = size

    threads = [
        threading.Thread(target=act, args=(sock, name), daemon=True)
        for sock, name in ((client, "client"), (backend, "backend"))
        for act in (send, receive)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sums["client sent"] == sums["backend got"]
    assert sums["backend sent"] == sums["client got"]
    assert sums["client size"] == sums["backend size"] == blocks << 20
    wire.over()
    assert wire.counts("bytes_in", "bytes_out") == [blocks << 20, blocks << 20]


# -- RST


@SIDES
@plan(buffer=16384)
def test_reset_after_the_bytes_before_it(wire, side):
    """T3, T4: an RST of either side becomes an RST at the other, after all octets before it, to a slow reader too."""
    near, far = wire.sides(side)
    sent = flood(near, PATTERN)
    (conn,) = wire.connections
    assert conn.waiting[side == "client"]
    # What the relay's kernel has acknowledged is the relay's to deliver.
    sent -= settle(near)
    reset(near)
    eventually(lambda: wire.counter(f"{side}_reset") == 1, 1)
    got, how = read(far, pause=0.001)
    assert (len(got), how) == (sent, RESET)
    assert got == (PATTERN * (sent // len(PATTERN) + 1))[:sent]
    wire.over()
    assert wire.counts("reset") == [int(side == "backend")]
    assert wire.counts("bytes_in" if side == "client" else "bytes_out") == [sent]


@SIDES
def test_reset_of_a_quiet_connection(wire, side):
    """T3, T4: an RST on a connection where nothing waits is an RST at the other side within a second."""
    near, far = wire.sides(side)
    near.sendall(b"x")
    assert exactly(far, 1) == b"x"
    far.sendall(b"y")
    assert exactly(near, 1) == b"y"
    reset(near)
    assert read(far) == (b"", RESET)
    wire.over(1)
    assert wire.counter(f"{side}_reset") == 1


@SIDES
@plan(fin_timeout=0.4)
def test_reset_to_a_reader_that_never_reads(wire, side):
    """T3, T4: an RST behind octets that the reader does not take is sent after fin-timeout, and not earlier."""
    near, far = wire.sides(side)
    flood(near, PATTERN)
    began = time.monotonic()
    reset(near)
    eventually(lambda: is_reset(far), 2)
    assert 0.35 < time.monotonic() - began < 1
    wire.over()


@SIDES
@plan(fin_timeout=3.0, connect_timeout=0.8, idle_timeout=0.8, buffer=16384)
def test_reset_is_not_cut_short_by_other_timers(wire, side):
    """T3, T15: octets before an RST have fin-timeout to be delivered, even if the idle timer is shorter."""
    near, far = wire.sides(side)
    sent = flood(near, PATTERN)
    sent -= settle(near)
    reset(near)
    time.sleep(1)
    assert not is_reset(far)
    got, how = read(far)
    assert (len(got), how) == (sent, RESET)


def test_reset_waits_for_what_was_not_sent_yet(relay, wire):
    """T3: the send queue towards a reader being empty for once is no end while octets from before the RST are left."""
    client, backend = wire.open()
    sent = flood(client, PATTERN)
    sent -= settle(client)
    reset(client)
    eventually(lambda: wire.counter("client_reset") == 1, 1)
    (conn,) = wire.connections
    got = []

    def drain() -> str:
        """Let the reader take all octets in the kernel, and run a timer before the event that reports it."""
        backend.settimeout(0.1)
        try:
            while piece := backend.recv(1 << 20):
                got.append(piece)
        except TimeoutError:
            backend.settimeout(10)
        conn.due(time.monotonic())
        return conn.state.name

    assert relay.call(drain) == "RESETTING"
    rest, how = read(backend)
    assert (sum(map(len, got)) + len(rest), how) == (sent, RESET)
    wire.over()


@SIDES
def test_reset_while_reading_is_paused(wire, side):
    """T5: an RST is noticed within 1 s while the other side takes nothing and this one is not read."""
    near, far = wire.sides(side)
    flood(near, PATTERN)
    reset(near)
    eventually(lambda: wire.counter(f"{side}_reset") == 1, 1)
    assert read(far)[1] == RESET


@SIDES
@pytest.mark.parametrize("closed", ["its own", "the other"])
def test_reset_after_half_was_closed(wire, side, closed):
    """T5: an RST is noticed, and passed on, within 1 s when this side's half or the other's is closed already."""
    near, far = wire.sides(side)
    near.sendall(b"x")
    exactly(far, 1)
    one, two = (near, far) if closed == "its own" else (far, near)
    one.shutdown(socket.SHUT_WR)
    assert read(two) == (b"", END)
    time.sleep(0.05)
    reset(near)
    eventually(lambda: is_reset(far), 1)
    wire.over(1)


@SIDES
def test_reset_of_a_peer_with_a_closed_window(wire, side):
    """T5: an RST of a side that reads nothing, its window zero, is noticed and passed on within 1 s."""
    near, far = wire.sides(side)
    flood(far, PATTERN)
    reset(near)
    eventually(lambda: is_reset(far), 1)
    wire.over(1)
    assert wire.counter(f"{side}_reset") == 1


def test_both_reset_at_once(relay, wire):
    """T3, T4: when both sides reset at the same time the connection is gone, and each gauge is back."""
    client, backend = wire.open()
    client.sendall(b"x")
    exactly(backend, 1)
    with held(relay):
        reset(client)
        reset(backend)
    wire.over(1)


def test_octets_to_a_closed_backend(wire):
    """T1, T4: octets to a backend that has closed bring its RST back to the client, after all it had sent."""
    client, backend = wire.open()
    backend.sendall(b"bye")
    backend.close()
    assert exactly(client, 3) == b"bye"
    assert client.recv(1) == b""
    client.sendall(b"more")
    eventually(lambda: is_reset(client), 1)
    wire.over(1)


# -- buffers


def test_stalled_readers_cost_one_buffer_a_direction(passing, relay, wire):
    """T7: readers that stall cost at most 256 KiB in each direction, in a buffer or a pipe, whatever is sent to them."""
    pairs = [wire.open(1 << 16) for _ in range(2)]
    for client, backend in pairs:
        with held(relay):  # so that a read finds more than a buffer takes
            flood(client, PATTERN)
            flood(backend, PATTERN)
        flood(client, PATTERN)
        flood(backend, PATTERN)
    waiting = [size for conn in wire.connections for size in conn.waiting]
    assert len(waiting) == 4
    assert all(0 < size <= 256 << 10 for size in waiting)


def test_what_waits_is_not_mixed_up(passing, wire):
    """T7: the octets that wait in each direction of several connections leave in their own direction, in order."""
    pairs = [wire.open(1 << 16) for _ in range(3)]
    sent = {}
    for number, (client, backend) in enumerate(pairs):
        for sock, far in ((client, backend), (backend, client)):
            octets = random.Random(number * 2 + (sock is client)).randbytes(1 << 20)
            sent[far] = (octets, flood(sock, octets))
    for sock, (octets, size) in sent.items():
        assert exactly(sock, size) == (octets * (size // len(octets) + 1))[:size]


@SIDES
def test_a_stalled_reader_resumes(passing, wire, side):
    """T7, T19: a reader that stalled gets all waiting and later octets without a further pause; all are counted."""
    near, far = wire.sides(side)
    sent = flood(near, PATTERN)
    began = time.monotonic()
    got = exactly(far, sent)
    assert time.monotonic() - began < 1
    assert got == (PATTERN * (sent // len(PATTERN) + 1))[:sent]
    near.sendall(b"and on")
    assert exactly(far, 6) == b"and on"
    far.sendall(b"back")
    assert exactly(near, 4) == b"back"
    eventually(lambda: wire.counts("bytes_in", "bytes_out") == ([sent + 6, 4] if side == "client" else [4, sent + 6]))
    assert [conn.waiting for conn in wire.connections] == [(0, 0)]


@plan(keepalive=7, user_timeout=9)
def test_options_of_both_sides(wire):
    """T8: both sockets have TCP_NODELAY, keepalive and TCP_USER_TIMEOUT as configured, the backend's after a second."""
    wire.open()
    (conn,) = wire.connections
    client, backend = own_sockets(conn)

    def options(sock):
        tcp = [sock.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_NODELAY, socket.TCP_KEEPIDLE, 18)]
        return [*tcp, sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]

    with client, backend:
        assert options(client) == [1, 7, 9000, 1]
        eventually(lambda: options(backend) == [1, 7, 9000, 1], 1.5)


def test_no_delay_before_the_second_write(wire):
    """T8: a backend's socket has TCP_NODELAY when the relay writes for the second time, before it has lasted a second."""
    client, backend = wire.open()
    (conn,) = wire.connections
    near, sock = own_sockets(conn)
    with near, sock:
        for expected in (0, 1):
            client.sendall(b"x")
            assert exactly(backend, 1) == b"x"
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == expected


@SIDES
def test_small_requests_are_not_delayed(wire, side):
    """T8: a request in two small writes does not wait 40 ms for an acknowledgement on its way."""
    near, far = wire.sides(side)
    took = []
    for _ in range(20):
        began = time.monotonic()
        near.sendall(b"head")
        assert exactly(far, 4) == b"head"
        near.sendall(b"body")
        assert exactly(far, 4) == b"body"
        far.sendall(b"answer")
        assert exactly(near, 6) == b"answer"
        took.append(time.monotonic() - began)
    assert sorted(took)[10] < 0.03


# -- the first octets


def test_server_speaks_first(wire):
    """T12: a silent client gets the server's greeting."""
    client, backend = wire.open()
    backend.sendall(b"220 ready")
    assert exactly(client, 9) == b"220 ready"


# -- urgent octets


@SIDES
@pytest.mark.parametrize("late", [False, True], ids=["together", "apart"])
def test_urgent_octet(wire, side, late):
    """T14: an out-of-band octet is left out of the stream; the octets before and after it and the FIN arrive."""
    near, far = wire.sides(side)
    for number in range(3):
        with contextlib.nullcontext() if late else held(wire.relay):
            near.sendall(b"before")
            if late:
                assert exactly(far, 6) == b"before"
            near.send(b"!", socket.MSG_OOB)
            if late:
                time.sleep(0.02)
            near.sendall(b"after")
            settle(near)
        assert exactly(far, 5 if late else 11) == (b"after" if late else b"beforeafter")
        far.sendall(bytes([number]))
        assert exactly(near, 1) == bytes([number])
    near.send(b"!", socket.MSG_OOB)
    near.shutdown(socket.SHUT_WR)
    assert read(far) == (b"", END)


@SIDES
def test_urgent_octet_in_the_middle_of_much(relay, tiny, wire, side):
    """T14: an urgent octet among many that are read in one turn stops the stream nowhere."""
    near, far = wire.sides(side)
    with held(relay):
        near.sendall(PATTERN[:700])
        near.send(b"!", socket.MSG_OOB)
        near.sendall(PATTERN[700:1300])
        settle(near)
    assert exactly(far, 1300) == PATTERN[:1300]


# -- timers


@SIDES
@plan(idle_timeout=0.3)
def test_idle_timer(wire, side):
    """T15: traffic of either direction alone keeps a connection; without any it is reset after idle-timeout."""
    near, far = wire.sides(side)
    for _ in range(8):
        time.sleep(0.1)
        near.sendall(b"x")
        assert exactly(far, 1) == b"x"
    began = time.monotonic()
    eventually(lambda: is_reset(near) and is_reset(far), 2)
    assert 0.25 < time.monotonic() - began < 0.6
    assert wire.counter("idle_timeout") == 1
    wire.over()


@SIDES
@plan(fin_timeout=0.3)
def test_fin_timer(wire, side):
    """T15: after a FIN the silence of the other side is bounded by fin-timeout, counted from the FIN."""
    near, far = wire.sides(side)
    far.sendall(b"x")
    exactly(near, 1)
    time.sleep(0.4)
    began = time.monotonic()
    near.shutdown(socket.SHUT_WR)
    for _ in range(5):
        time.sleep(0.1)
        far.sendall(b"x")
        assert exactly(near, 1) == b"x"
    assert time.monotonic() - began > 0.5
    began = time.monotonic()
    eventually(lambda: is_reset(far), 2)
    assert 0.25 < time.monotonic() - began < 0.6
    assert (wire.counter("fin_timeout"), wire.counter("idle_timeout")) == (1, 0)
    wire.over()


@plan(idle_timeout=0.6, fin_timeout=0.4)
def test_fin_timer_begins_with_the_fin(wire):
    """T15: the silence before a FIN does not count, whichever timer looks first."""
    client, backend = wire.open()
    time.sleep(0.5)
    client.shutdown(socket.SHUT_WR)
    assert read(backend) == (b"", END)
    time.sleep(0.25)
    backend.sendall(b"late")
    backend.close()
    assert read(client) == (b"late", END)


@plan(idle_timeout=0.3, fin_timeout=5.0)
def test_fin_timer_replaces_the_idle_timer(wire):
    """T15: a connection with one FIN is held for fin-timeout, though idle-timeout is shorter."""
    client, backend = wire.open()
    client.shutdown(socket.SHUT_WR)
    assert read(backend) == (b"", END)
    time.sleep(0.5)
    backend.sendall(b"late")
    backend.close()
    assert read(client) == (b"late", END)
    assert wire.counter("fin_timeout") == wire.counter("idle_timeout") == 0


@plan(connect_timeout=INF, idle_timeout=INF, fin_timeout=INF, keepalive=INF, user_timeout=INF)
def test_no_timers_at_all(wire):
    """T15: a connection with every timer off works from its connect to both FINs, and to an RST."""
    client, backend = wire.open()
    client.sendall(b"x")
    client.shutdown(socket.SHUT_WR)
    assert read(backend) == (b"x", END)
    backend.close()
    assert read(client) == (b"", END)
    wire.over()
    client, backend = wire.open()
    client.sendall(b"x")
    reset(client)
    assert read(backend) == (b"x", RESET)
    wire.over()


@plan(connect_timeout=INF, idle_timeout=0.2)
def test_idle_timer_without_connect_timer(wire):
    """T15: the idle timer runs although no connect timer ever did."""
    wire.open()
    wire.over(1)
    assert wire.counter("idle_timeout") == 1


@plan(connect_timeout=3600.0, idle_timeout=3600.0)
def test_cancelled_timers_do_not_pile_up(relay, wire):
    """T15, T19: a connection that has ended leaves no timer behind, whatever idle-timeout is."""
    timers = relay.engine._poller.timers
    before = relay.call(lambda: len(timers))
    client, _ = wire.open()
    assert relay.call(lambda: len(timers)) > before
    reset(client)
    wire.over()
    assert relay.call(lambda: len(timers)) == before


# -- max-lifetime


@plan(max_lifetime=0.5, quiet=0.2, fin_timeout=5.0)
def test_a_quiet_connection_is_retired(wire):
    """T25: after max-lifetime, and quiet, both sides get a FIN; when both have answered it the connection ends."""
    began = time.monotonic()
    client, backend = wire.open()
    client.sendall(b"one")
    assert exactly(backend, 3) == b"one"
    assert read(client) == (b"", END)
    assert 0.4 < time.monotonic() - began < 1.2
    assert read(backend) == (b"", END)
    assert wire.counter("max_lifetime") == 0
    client.close()
    backend.close()
    wire.over()
    assert (wire.counter("max_lifetime"), wire.counter("closed"), wire.counter("fin_timeout")) == (1, 0, 0)
    assert wire.counter("client_reset") == wire.counter("backend_reset") == 0


@SIDES
@plan(max_lifetime=0.2, quiet=0.3, fin_timeout=5.0)
def test_traffic_keeps_an_old_connection(wire, side):
    """T25: a connection that is never quiet lives on, whichever side speaks."""
    near, far = wire.sides(side)
    for _ in range(10):
        time.sleep(0.1)
        near.sendall(b"x")
        assert exactly(far, 1) == b"x"
    began = time.monotonic()
    assert read(far) == (b"", END)
    assert 0.2 < time.monotonic() - began < 1


@plan(max_lifetime=0.2, quiet=0.1, fin_timeout=0.4)
def test_a_side_that_does_not_answer_the_fin(wire):
    """T25: who leaves the FIN unanswered is reset after fin-timeout."""
    client, backend = wire.open()
    assert read(client) == (b"", END)
    began = time.monotonic()
    assert read(backend) == (b"", END)
    client.close()
    eventually(lambda: is_reset(backend), 2)
    assert 0.25 < time.monotonic() - began < 1
    wire.over()
    assert (wire.counter("max_lifetime"), wire.counter("fin_timeout")) == (1, 0)


@SIDES
@plan(max_lifetime=0.2, quiet=0.1, fin_timeout=9.0)
def test_octets_after_the_fin(wire, side):
    """T25: octets that cross the FIN cannot be delivered: both sides are reset at once, and know that they were not."""
    near, far = wire.sides(side)
    assert read(near) == (b"", END)
    near.sendall(b"late")
    eventually(lambda: is_reset(near) and is_reset(far), 2)
    wire.over()
    assert wire.counter("max_lifetime") == 1
    assert wire.counter("client_reset") == wire.counter("backend_reset") == 0


@plan(max_lifetime=0.2, quiet=0.1, fin_timeout=9.0, buffer=16384)
def test_waiting_octets_are_no_quiet(wire):
    """T25: a connection whose reader has stalled is not quiet: it is retired when everything is delivered."""
    client, backend = wire.open()
    sent = flood(client, PATTERN)
    time.sleep(0.6)
    assert wire.counter("max_lifetime") == 0
    got = exactly(backend, sent)
    assert got == (PATTERN * (sent // len(PATTERN) + 1))[:sent]
    assert read(backend) == (b"", END)
    assert read(client) == (b"", END)


@plan(max_lifetime=3600.0, quiet=0.1, fin_timeout=9.0)
def test_jitter_of_the_lifetime(relay, wire):
    """T25: the ends of connections that began together lie 10 % to either side of max-lifetime."""
    now = time.monotonic()
    pairs = [wire.open() for _ in range(40)]
    found = wire.connections
    ends = sorted(relay.call(lambda: [conn.retires for conn in found]))
    assert all(0.9 * 3600 - 5 < end - now < 1.1 * 3600 + 5 for end in ends)
    assert ends[-1] - ends[0] > 0.1 * 3600
    assert len({round(end) for end in ends}) > 20
    assert len(ends) == len(pairs)


# -- everything at once


@pytest.fixture(params=["small buffers", "small send queues", "small splices"])
def cramped(request, monkeypatch):
    """Set small limits: for the relay's buffers, for the kernel's send queues, or for what is spliced."""
    if request.param == "small buffers":
        request.getfixturevalue("tiny")
    if request.param == "small splices":
        monkeypatch.setattr(tcp_service, "BUFFER", 2048)
        monkeypatch.setattr(tcp_service, "SPLICE_FROM", 300)
    return 0 if request.param == "small buffers" else 4608


@pytest.mark.parametrize("seed", range(6))
def test_random_transcripts(cramped, wire, seed):
    """T6, T7: whatever the order of writes, pauses, reads and FINs, both streams are exact and end with a FIN."""
    rng = random.Random(seed)
    client, backend = wire.open(cramped)
    want = {client: rng.randbytes(rng.randrange(60_000)), backend: rng.randbytes(rng.randrange(60_000))}
    got = {}

    def act(sock, seed):
        rng = random.Random(seed)
        out, into = want[sock], bytearray()
        sock.settimeout(0.002)
        ended = finished = False
        while not (ended and finished):
            if not finished and rng.random() < 0.5:
                piece = out[: rng.choice((1, 100, 511, 512, 513, 5000))]
                if piece and rng.random() < 0.05:
                    time.sleep(0.003)
                if piece:
                    try:
                        out = out[sock.send(piece) :]
                    except TimeoutError:
                        continue
                else:
                    sock.shutdown(socket.SHUT_WR)
                    finished = True
            elif not ended:
                try:
                    piece = sock.recv(rng.choice((1, 600, 5000)))
                except TimeoutError:
                    continue
                into += piece
                ended = not piece
        got[sock] = bytes(into)

    threads = [threading.Thread(target=act, args=(sock, seed * 2 + n), daemon=True) for n, sock in enumerate(want)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == {client: want[backend], backend: want[client]}
    wire.over()
    assert wire.counts("bytes_in", "bytes_out") == [len(want[client]), len(want[backend])]


def test_descriptors_are_reused_within_a_round(relay, wire):
    """T19: connections that end and begin in one round, with the same descriptors, do not see each other's events."""
    for number in range(20):
        ends = [wire.open() for _ in range(5)]
        with held(relay):
            # In this order: an event ends the old ones, the next begins new ones, and the last is about the old ones.
            for client, _ in ends:
                reset(client)
            fresh = [connect(wire.address) for _ in range(5)]
            for _, backend in ends:
                reset(backend)
            for client in fresh:
                client.sendall(bytes([number]))
        for client in fresh:
            with accept(wire.listener) as backend:
                assert exactly(backend, 1) == bytes([number])
                backend.sendall(b"ok")
            assert read(client) == (b"ok", END)
            client.close()
    wire.over()


def test_no_bug_is_left(wire):
    """T5: an event for a connection that has ended, or asked to go on, is ignored."""
    client, backend = wire.open()
    (conn,) = wire.connections
    client.sendall(b"x")
    exactly(backend, 1)
    wire.relay.call(lambda: conn.close(reset=True))
    for backend in (False, True):
        for mask in (0, 1, 4, 8, 0x2019):
            wire.relay.call(lambda backend=backend, mask=mask: conn.happens(backend, mask))
    wire.relay.call(conn.close)
    wire.over()
    assert connections(wire.relay) == []
    assert os.fstat(wire.listener.fileno())
