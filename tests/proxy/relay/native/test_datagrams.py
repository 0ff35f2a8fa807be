"""Batches of datagrams: what arrives with its source, what leaves at the end of a round, and what fails."""

import errno
import socket
from collections.abc import Iterator

import pytest
import uvloop

from proxy.relay.native.datagrams import Inbox, Mailbox, Post, of
from proxy.relay.native.poller import Poller
from proxy.relay.sockets.datagram import WILDCARDS, prepare

CONNECTED, NAMED, WILDCARD = range(3)
BATCH = 64


class Bench:
    """A poller that the test pumps, sockets, and what was reported."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.poller = Poller(self.loop)
        self.inbox: Inbox
        self.post: Post
        self.inbox, self.post = of(self.poller)
        self.reports: list[tuple[int, int]] = []
        self._open: list[socket.socket] = []

    def open(self, host: str = "127.0.0.1", to: socket.socket | None = None) -> socket.socket:
        """Return a bound socket, connected to another one if that is given."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        prepare(sock, host)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setblocking(False)
        sock.bind((host, 0))
        if to is not None:
            sock.connect(to.getsockname())
        self._open.append(sock)
        return sock

    def box(self, sock: socket.socket) -> Mailbox:
        """Return the box of a socket."""
        return Mailbox(self.poller, sock, lambda tag, error: self.reports.append((tag, error)))

    def round(self) -> None:
        """End a round."""
        self.poller.again(lambda _: None)
        self.poller.pump()

    def close(self) -> None:
        """Close everything."""
        self.poller.close()
        self.loop.close()
        for sock in self._open:
            sock.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench, closed at the end."""
    one = Bench()
    yield one
    one.close()


def received(sock: socket.socket) -> list[bytes]:
    """Return all that has arrived."""
    got = []
    while True:
        try:
            got.append(sock.recv(65535))
        except BlockingIOError:
            return got


# -- reading


@pytest.mark.parametrize("names", [CONNECTED, NAMED])
def test_a_batch_has_all_datagrams_and_their_sources(bench, names):
    """Datagrams come in their order, whole, empty ones too, each with its source if the socket has more than one."""
    sink = bench.open()
    source = bench.open(to=sink)
    sink.connect(source.getsockname())
    sent = [bytes([number]) * (number * 37) for number in range(BATCH)]
    for data in sent:
        source.send(data)
    name = source.getsockname() if names == NAMED else None
    assert bench.inbox.read(sink, names) == [(data, name) for data in sent]
    with pytest.raises(BlockingIOError):
        bench.inbox.read(sink, names)


def test_the_largest_datagrams(bench):
    """U5: a batch of the largest datagrams is read whole, and a small one after it is itself."""
    sink = bench.open()
    source = bench.open(to=sink)
    bodies = [bytes([number]) * 65507 for number in range(8)]
    for body in bodies:
        source.send(body)
    assert [data for data, _ in bench.inbox.read(sink, NAMED)] == bodies
    source.send(b"small")
    assert bench.inbox.read(sink, NAMED) == [(b"small", source.getsockname())]


@pytest.mark.parametrize(
    ("host", "asked"),
    [("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.1.2.3"), ("::", "::1"), ("127.0.0.5", "127.0.0.5"), ("::1", "::1")],
)
@pytest.mark.parametrize("size", [0, 1, 60000])
def test_answers_leave_from_the_address_asked(bench, host, asked, size):
    """U11: what arrives at any address of a listener, bound to one or to all, is answered from that address."""
    sink = bench.open(host)
    source = bench.open("::1" if ":" in host else "127.0.0.1")
    source.sendto(bytes(size), (asked, sink.getsockname()[1]))
    ((data, client),) = bench.inbox.read(sink, WILDCARD if host in WILDCARDS else NAMED)
    assert data == bytes(size)
    expected = source.getsockname()
    if host in WILDCARDS:  # the address without an interface: an answer may leave by any
        six = ":" in host
        local = (socket.inet_pton(socket.AF_INET6, asked) if six else bytes(4) + socket.inet_aton(asked)) + bytes(4)
        expected = (*expected, local)
    assert client == expected
    box = bench.box(sink)
    box.put(b"answer", 1, client)
    box.flush()
    answer, where = source.recvfrom(100)
    assert (answer, where[:2]) == (b"answer", (asked, sink.getsockname()[1]))


def test_without_a_control_message_the_route_decides(bench):
    """U11: where the kernel does not say which address was asked, an answer leaves all the same."""
    sink = bench.open()
    source = bench.open(to=sink)
    source.send(b"question")
    ((_, client),) = bench.inbox.read(sink, WILDCARD)
    assert client == source.getsockname()
    box = bench.box(sink)
    box.put(b"answer", 1, client)
    box.flush()
    assert received(source) == [b"answer"]


def test_families_do_not_mix(bench):
    """An IPv4 client that comes in a slot after an IPv6 one has nothing of it left, as both are compared as memory."""
    six, four = bench.open("::1"), bench.open()
    bench.open("::1", six).send(b"x")
    ((_, client),) = bench.inbox.read(six, NAMED)
    assert len(client) == 4
    source = bench.open(to=four)
    source.send(b"x")
    assert bench.inbox.read(four, NAMED) == [(b"x", source.getsockname())]


def test_an_error_of_a_connected_socket_is_raised_once(bench):
    """U8: an ICMP error is reported, and the socket goes on reading."""
    sink = bench.open()
    source = bench.open(to=sink)
    gone = bench.open()
    source.connect(gone.getsockname())
    gone.close()
    source.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        bench.inbox.read(source, CONNECTED)
    with pytest.raises(BlockingIOError):
        bench.inbox.read(source, CONNECTED)


# -- sending


def test_all_leaves_at_the_end_of_the_round(bench):
    """Datagrams leave in their order, in batches, after everything else of the round, and each is reported once."""
    sink = bench.open()
    box = bench.box(bench.open(to=sink))
    sent = [bytes([number % 256]) * (number % 300) for number in range(200)]
    for tag, data in enumerate(sent):
        assert box.put(data, tag)
    assert received(sink) == bench.reports == []
    assert bench.post.waiting == 200
    bench.round()
    assert received(sink) == sent
    assert bench.reports == [(tag, 0) for tag in range(200)]
    assert (bench.post.waiting, bench.post.calls, bench.post.datagrams) == (0, 4, 200)


def test_a_box_sends_to_many_clients(bench):
    """Each datagram goes to its own client."""
    clients = [bench.open() for _ in range(10)]
    box = bench.box(bench.open())
    for tag, sock in enumerate(clients):
        box.put(b"%d" % tag, tag, sock.getsockname())
    box.flush()
    assert [received(sock) for sock in clients] == [[b"%d" % tag] for tag in range(10)]


def test_a_failing_datagram_costs_itself_alone(bench):
    """One that is too large in the middle of a batch is reported with its error; those around it arrive."""
    sink = bench.open()
    box = bench.box(bench.open(to=sink))
    for tag in range(10):
        box.put(bytes(65535 if tag in {0, 4, 9} else 10), tag)
    bench.round()
    assert len(received(sink)) == 7
    assert bench.reports == [(tag, errno.EMSGSIZE if tag in {0, 4, 9} else 0) for tag in range(10)]


def test_a_refusal_between_batches_is_reported(bench):
    """U7: the ICMP error of an earlier batch fails the next datagram."""
    gone = bench.open()
    box = bench.box(bench.open(to=gone))
    gone.close()
    box.put(b"x", 1)
    bench.round()
    box.put(b"x", 2)
    bench.round()
    assert bench.reports == [(1, 0), (2, errno.ECONNREFUSED)]


def test_more_than_the_arena_holds(bench):
    """Of 100 large datagrams in a round all leave; `relieve` sends early, so that not all of them need memory at once."""
    sink = bench.open()
    box = bench.box(bench.open(to=sink))
    for tag in range(30):
        box.put(bytes([tag]) * 60000, tag)
    bench.round()
    assert [data[:1] for data in received(sink)] == [bytes([tag]) for tag in range(30)]
    for tag in range(30):
        box.put(bytes(60000), tag)
        box.relieve()
        assert bench.post.waiting <= 10
    box.flush()
    assert len(received(sink)) == 30
    assert len(bench.reports) == 60


def test_what_a_report_adds_leaves_later(bench):
    """A report may send anew: an answer to a failure is no recursion, and leaves with the next round."""
    sink = bench.open()

    def again(tag, _):
        bench.reports.append((tag, 0))
        if tag < 3:
            box.put(b"%d" % (tag + 1), tag + 1)

    box = Mailbox(bench.poller, bench.open(to=sink), again)
    box.put(b"0", 0)
    for rounds in range(4):
        bench.round()
        assert len(bench.reports) >= rounds + 1
    assert received(sink) == [b"0", b"1", b"2", b"3"]
    assert bench.post.waiting == 0


def test_a_closed_box_reports_what_waited(bench):
    """A box that closes reports what waits in it as not sent, once, and takes nothing more."""
    box = bench.box(bench.open(to=bench.open()))
    box.put(b"x", 1)
    box.put(b"y", 2)
    box.close()
    box.close()
    assert bench.reports == [(1, errno.ECANCELED), (2, errno.ECANCELED)]
    assert not box.put(b"z", 3)
    bench.round()
    assert bench.post.waiting == 0
    assert len(bench.reports) == 2


def test_a_box_that_closes_while_it_is_sent(bench):
    """If a report closes the box, those of the batch that have left are reported so, the later ones as not sent."""
    sink = bench.open()

    def sent(tag, error):
        bench.reports.append((tag, error))
        if tag == 0:
            box.close()

    box = Mailbox(bench.poller, bench.open(to=sink), sent)
    other = bench.box(bench.open(to=sink))
    for tag in range(BATCH + 2):
        box.put(b"x" * (1 + tag % 2), tag)  # no neighbours of one size, which would leave together
    other.put(b"y", 99)
    bench.round()
    assert bench.reports == [(tag, 0 if tag < BATCH else errno.ECANCELED) for tag in range(BATCH + 2)] + [(99, 0)]
    assert len(received(sink)) == BATCH + 1


def test_a_fault_in_a_report_costs_one_report(bench):
    """An exception of a report is a fault of the poller; all datagrams leave, and the others are reported."""
    sink = bench.open()

    def sent(tag, error):
        if tag == 1:
            raise RuntimeError
        bench.reports.append((tag, error))

    box = Mailbox(bench.poller, bench.open(to=sink), sent)
    for tag in range(3):
        box.put(b"x", tag)
    bench.round()
    assert bench.reports == [(0, 0), (2, 0)]
    assert len(received(sink)) == 3
    assert bench.poller.faults == 1
