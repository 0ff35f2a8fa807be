"""Datagrams of one size to one place leave as one message, and arrive as they would one by one."""

import errno
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.relay.native.datagrams import Mailbox
from tests.proxy.relay.native.test_datagrams import Bench, received

SEGMENTS = 64
LARGEST_SEGMENT = 1200
APART = 1000


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench, closed at the end."""
    one = Bench()
    yield one
    one.close()


def mailbox(bench: Bench, sock: socket.socket, *, in_order: bool) -> Mailbox:
    """Return the box of a socket."""
    return Mailbox(bench.poller, sock, lambda tag, error: bench.reports.append((tag, error)), in_order)


def sent_by(bench: Bench, box: Mailbox, bodies: list[bytes]) -> int:
    """Send at the end of a round; return the number of system calls."""
    before = bench.post.calls
    for tag, body in enumerate(bodies):
        assert box.put(body, tag)
    bench.round()
    return bench.post.calls - before


def test_one_size_is_one_message(bench):
    """Of 640 datagrams of one size, with others between them, 512 fit into one system call: a message is up to 64."""
    sink = bench.open()
    box = mailbox(bench, bench.open(to=sink), in_order=False)
    bodies = [b"%04d" % number for number in range(640)]
    assert sent_by(bench, box, bodies) == 2
    assert received(sink) == bodies
    mixed = [b"x" * (1 + number % 7) for number in range(70)]
    assert sent_by(bench, box, mixed) == 1
    got = received(sink)
    assert sorted(got) == sorted(mixed)
    assert got == sorted(got, key=len)


def test_order_is_kept(bench):
    """A box in order sends neighbours of one size together, and nothing before what was put first."""
    sink = bench.open()
    box = mailbox(bench, bench.open(to=sink), in_order=True)
    bodies = [b"%03d" % number + b"x" * (number // 5 % 2) for number in range(300)]
    assert sent_by(bench, box, bodies) == 1
    assert received(sink) == bodies
    assert [tag for tag, _ in bench.reports] == list(range(300))


def test_each_client_gets_its_own(bench):
    """U1: answers of one size to several clients are a message for each client."""
    clients = [bench.open() for _ in range(5)]
    box = mailbox(bench, bench.open(), in_order=False)
    for tag in range(100):
        box.put(b"%03d" % tag, tag, clients[tag % 5].getsockname())
    bench.round()
    assert [received(sock) for sock in clients] == [[b"%03d" % tag for tag in range(at, 100, 5)] for at in range(5)]
    assert bench.post.calls == 1


def test_a_kernel_that_refuses(bench):
    """If the kernel refuses (EINVAL, as for a socket without checksums), all leave one by one, and so do the next ones.

    It is asked again after `APART` flushes.
    """
    sink = bench.open()
    sock = bench.open(to=sink)
    sock.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
    box = mailbox(bench, sock, in_order=False)
    bodies = [b"%02d" % number for number in range(SEGMENTS)]
    assert sent_by(bench, box, bodies) == 2
    assert sent_by(bench, box, bodies) == 1
    assert received(sink) == bodies * 2
    assert bench.reports == [(tag, 0) for tag in range(SEGMENTS)] * 2
    for _ in range(APART - 1):
        assert sent_by(bench, box, [b"x"]) == 1
        assert received(sink) == [b"x"]
    assert sent_by(bench, box, bodies) == 2


def test_a_refusal_costs_one_of_a_message(bench):
    """U7: the ICMP error of an earlier datagram fails the first of a message; the others leave."""
    gone = bench.open()
    box = mailbox(bench, bench.open(to=gone), in_order=False)
    gone.close()
    sent_by(bench, box, [b"first"])
    sent_by(bench, box, [b"later"] * 5)
    assert bench.reports == [(0, 0), (0, errno.ECONNREFUSED), (1, 0), (2, 0), (3, 0), (4, 0)]


SIZES = st.sampled_from([0, 1, 2, 30, 31, LARGEST_SEGMENT, LARGEST_SEGMENT + 1, 9000])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SIZES, st.integers(0, 2)), max_size=150), st.booleans())
def test_nothing_is_lost_or_doubled(sizes, in_order):
    """Each datagram arrives once, whole, at its client, and is reported once; a client of a box in order sees its order."""
    bench = Bench()
    try:
        clients = [bench.open() for _ in range(3)]
        box = mailbox(bench, bench.open(), in_order=in_order)
        wanted = [[], [], []]
        for tag, (size, client) in enumerate(sizes):
            body = (b"%d." % tag + bytes(size))[:size]
            wanted[client].append(body)
            box.put(body, tag, clients[client].getsockname())
            box.relieve()
        bench.round()
        got = [received(sock) for sock in clients]
        assert got == wanted if in_order else [sorted(one) for one in got] == [sorted(one) for one in wanted]
        assert sorted(bench.reports) == [(tag, 0) for tag in range(len(sizes))]
        assert bench.post.waiting == 0
    finally:
        bench.close()
