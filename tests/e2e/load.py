"""A steady load of connections and queries, each tried once: what is refused, cut off, late or lost is counted.

    load = Load(bed, "client", address, RATE)
    ...
    assert_lossless(load.stop())

The client is one process of its own in the bed, with one epoll set, and sends at a fixed rate whatever the answers do.
Its servers are Nginx (/close) and Nsd (h0.example.net and up) of tests/e2e/servers.py. `LOAD=full` asks for 2,000
connections and 8,000 queries a second, which saturate a machine of two processors; without it a few hundred do.
"""

import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.e2e.bed import Bed
from tests.e2e.process import BedError, Proc, until
from tests.e2e.servers import DNS_HOSTS

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("LOAD") == "full"
PATIENCE = 5.0  # s until a connection or query without an answer is lost: a stub resolver's (resolv.conf(5))
LATE = 0.9  # s: a SYN that nobody took is sent again after 1 s
CATCH_UP = 0.1  # s of the rate that are sent at once after the machine has kept the client waiting; the rest is skipped
SOCKETS = 64  # of the queries: enough for each worker to get its share
BUFFER = 4 << 20
NOTED = 50  # failures that are printed with their time
ROOM = 10_000  # connections open at a time
CALM = 0.3  # of the processors' time: the full load needs three quarters of it


@dataclass(frozen=True)
class Rate:
    """New connections and queries a second."""

    connections: float
    queries: float


FULL_RATE = Rate(2000, 8000)
RATE = FULL_RATE if FULL else Rate(250, 1000)


@dataclass
class Tally:
    """What became of the connections, or of the queries. Seconds from the first packet to the whole answer."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    reset: int = 0  # a connection that was cut off, by an RST or by a FIN before the whole answer
    lost: int = 0  # no answer within PATIENCE
    wrong: int = 0
    late: int = 0  # answered, but after LATE seconds: this may be a machine that does other things as well
    resent: int = 0  # late connections of which a packet was sent again, because nobody had taken the first one
    slowest: float = 0.0
    skipped: int = 0  # not sent, because the machine kept the client waiting

    @property
    def failed(self) -> int:
        """How many have no right answer."""
        return self.refused + self.reset + self.lost + self.wrong


@dataclass
class Counts:
    """The client's results, so far or at its end."""

    seconds: float = 0.0
    connections: Tally = field(default_factory=Tally)
    queries: Tally = field(default_factory=Tally)
    dropped: int = 0  # answers that the kernel dropped because the client did not read them in time

    @classmethod
    def parse(cls, line: str) -> "Counts":
        """Read a line that the client has printed."""
        row: dict[str, Any] = json.loads(line)
        row |= {name: Tally(**row[name]) for name in ("connections", "queries")}
        return cls(**row)


def busy() -> float:
    """Return the share of the processors' time that was used in the last second."""

    def ticks() -> tuple[int, int]:
        fields = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields) - fields[3] - fields[4], sum(fields)

    used, existed = ticks()
    time.sleep(1)
    used_now, existed_now = ticks()
    return (used_now - used) / max(1, existed_now - existed)


class Load:
    """The client in a host of the bed, at work from the construction until `stop`."""

    def __init__(self, bed: Bed, host: str, address: str, rate: Rate = RATE) -> None:
        if rate == FULL_RATE:
            until(lambda: busy() < CALM, 300, "this machine to be quiet")
        self.rate = rate
        argv = [sys.executable, "-m", "tests.e2e.load", address, str(rate.connections), str(rate.queries)]
        self.proc: Proc = bed.spawn(host, argv, name="load", env={"PYTHONPATH": str(ROOT)})
        until(lambda: self.counts().connections.answered, 10, "the first answers")

    def counts(self) -> Counts:
        """Return the counts of the last full second. Raises BedError if there are none or the client has ended."""
        lines = [line for line in self.proc.output().splitlines() if line.startswith("{") and line.endswith("}")]
        if not lines or not self.proc.alive:
            raise BedError(self.proc.report())
        return Counts.parse(lines[-1])

    def stop(self) -> Counts:
        """End the load, wait for the answers that are due, and return all counts."""
        self.proc.signal(signal.SIGTERM, whole=False)
        if self.proc.wait(PATIENCE + 15):
            raise BedError(self.proc.report())
        counts = Counts.parse(self.proc.output().splitlines()[-1])
        print(counts)  # `pytest -s` shows the measured rates
        return counts


def assert_lossless(counts: Counts, rate: Rate = RATE) -> None:
    """Every connection and query has its right answer, none by a second attempt, and there were as many as the rate says.

    Answers that the kernel dropped at the client's own sockets are no loss of the daemon's.
    """
    lost = max(0, counts.queries.lost - counts.dropped)
    assert (counts.connections.failed, counts.queries.failed - counts.queries.lost + lost) == (0, 0), counts
    assert counts.connections.resent == 0, counts
    assert counts.connections.sent > 0.8 * rate.connections * counts.seconds, counts
    assert counts.queries.sent > 0.8 * rate.queries * counts.seconds, counts


# The client itself, run in the namespace of its host.


def query(number: int) -> bytes:
    """Return the query for host `number` of the zone, without its ID."""
    label = f"h{number}".encode()
    return (
        struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0)
        + bytes([len(label)]) + label + b"\x07example\x03net\0\0\x01\0\x01"
    )  # fmt: skip


def answer(number: int) -> bytes:
    """Return what the answer for host `number` has after its counts: the question, and its address record."""
    return query(number)[10:] + struct.pack(">HHHIH", 0xC00C, 1, 1, 300, 4) + bytes([192, 0, 2, number % 250 + 1])


class Work(Protocol):
    """One kind of load."""

    tally: Tally

    def begin(self, now: float) -> None:
        """Send one."""

    def expire(self, now: float) -> bool:
        """Give up what has waited for too long; return True if anything still waits."""


Note = Callable[[str], None]
Ready = Callable[[int], None]  # takes the events of epoll


class Queries:
    """Queries over UDP from some sockets, each answer known by its socket and its ID."""

    def __init__(self, target: tuple[str, int], watch: Callable[[socket.socket, Ready], None], note: Note) -> None:
        self.tally = Tally()
        self._note = note
        self._number = 0
        self._texts = [(query(number), answer(number)) for number in range(DNS_HOSTS)]
        self._waiting: list[dict[int, tuple[float, bytes]]] = [{} for _ in range(SOCKETS)]  # by ID: since, its answer
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
        for sock, waiting in zip(self._sockets, self._waiting, strict=True):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            sock.connect(target)
            watch(sock, lambda _, sock=sock, waiting=waiting: self._read(sock, waiting))  # type: ignore[misc]

    def begin(self, now: float) -> None:
        """Send one query, from the next socket."""
        number = self._number
        self._number += 1
        place = number % SOCKETS
        ident = number // SOCKETS % 65536
        text, expected = self._texts[number % DNS_HOSTS]
        self.tally.sent += 1
        self._waiting[place][ident] = now, expected
        message = ident.to_bytes(2, "big") + text
        while True:
            try:
                self._sockets[place].send(message)
            except ConnectionRefusedError:  # of one before it, and this one was not sent
                self._refused(self._waiting[place], ident)
            else:
                return

    def _refused(self, waiting: dict[int, tuple[float, bytes]], without: int | None = None) -> None:
        """Take an ICMP error: the oldest query of this socket was refused."""
        ident = next((one for one in waiting if one != without), None)
        if ident is not None:
            del waiting[ident]
            self.tally.refused += 1
            self._note("a query was refused")

    def _read(self, sock: socket.socket, waiting: dict[int, tuple[float, bytes]]) -> None:
        tally, now = self.tally, time.monotonic()
        while True:
            try:
                data = sock.recv(4096)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                self._refused(waiting)
                continue
            since, expected = waiting.pop(data[0] << 8 | data[1], (now, b""))
            if not expected or not data[2] & 0x80 or data[3] & 15 or data[12 : 12 + len(expected)] != expected:
                tally.wrong += 1
                self._note(f"wrong answer to a query: {data[:80].hex()}")
                continue
            took = now - since
            tally.answered += 1
            tally.slowest = max(tally.slowest, took)
            if took > LATE:
                tally.late += 1
                self._note(f"a query was answered after {took:.3f} s")

    def expire(self, now: float) -> bool:
        """Count what has no answer in time as lost; return True if any query still waits."""
        for waiting in self._waiting:
            while waiting:
                ident, (since, _) = next(iter(waiting.items()))  # the oldest
                if now - since < PATIENCE:
                    break
                del waiting[ident]
                self.tally.lost += 1
                self._note(f"a query has no answer after {PATIENCE:g} s")
        return any(self._waiting)

    def dropped(self) -> int:
        """Return how many answers the kernel has dropped at these sockets."""
        inodes = {str(os.fstat(sock.fileno()).st_ino) for sock in self._sockets}
        rows = [line.split() for line in Path("/proc/self/net/udp").read_text().splitlines()[1:]]
        return sum(int(row[12]) for row in rows if row[9] in inodes)


def sent_again(sock: socket.socket) -> int:
    """Return how many packets of a connection were sent again: `tcpi_total_retrans` of tcp(7)."""
    (count,) = struct.unpack_from("@I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)
    return int(count)


class Connection:
    """One connection: the request as soon as it is open, the answer until the server closes it."""

    __slots__ = ("began", "got", "over", "sent", "sock")

    def __init__(self, sock: socket.socket, began: float) -> None:
        self.sock = sock
        self.began = began
        self.sent = False
        self.over = False
        self.got = b""


class Connections:
    """New connections, each with one request."""

    request = b"GET /close HTTP/1.0\r\n\r\n"
    head, body = b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n" + b"c" * 1024

    def __init__(self, target: tuple[str, int], watch: Callable[[socket.socket, Ready], None], note: Note) -> None:
        self.tally = Tally()
        self._target, self._watch, self._note = target, watch, note
        self._open: deque[Connection] = deque()  # the oldest first, with what is over behind an older one

    def begin(self, now: float) -> None:
        """Open one connection."""
        while self._open and self._open[0].over:
            self._open.popleft()
        if len(self._open) >= ROOM:
            self.tally.skipped += 1
            return
        self.tally.sent += 1
        sock = socket.socket()
        sock.setblocking(False)
        made = Connection(sock, now)
        error = sock.connect_ex(self._target)
        if error not in {0, errno.EINPROGRESS}:
            self._fail(made, OSError(error, os.strerror(error)))
            return
        self._open.append(made)
        self._watch(sock, lambda events: self._ready(made, events))

    def _ready(self, made: Connection, _: int) -> None:
        """Go on with a connection for which epoll has news; edge-triggered."""
        sock = made.sock
        try:
            if not made.sent:
                sock.send(self.request)
                made.sent = True
            while data := sock.recv(65536):
                made.got += data
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(made, error)
            return
        took = time.monotonic() - made.began
        if took > LATE and sent_again(sock):
            self.tally.resent += 1
        self._end(made)
        if not made.got.startswith(self.head) or not made.got.endswith(self.body):
            if len(made.got) < len(self.head + self.body):
                self.tally.reset += 1
            else:
                self.tally.wrong += 1
            self._note(f"a connection ended with {len(made.got)} octets: {made.got[:60]!r}")
            return
        self.tally.answered += 1
        self.tally.slowest = max(self.tally.slowest, took)
        if took > LATE:
            self.tally.late += 1
            self._note(f"a connection was answered after {took:.3f} s")

    def _end(self, made: Connection) -> None:
        made.over = True
        made.sock.close()

    def _fail(self, made: Connection, error: OSError) -> None:
        self._end(made)
        if made.sent or not isinstance(error, ConnectionRefusedError):
            self.tally.reset += 1
        else:
            self.tally.refused += 1
        self._note(f"a connection with {len(made.got)} octets of its answer: {error}")

    def expire(self, now: float) -> bool:
        """Count what has no answer in time as lost; return True if any connection still waits."""
        while self._open:
            made = self._open[0]
            if not made.over:
                if now - made.began < PATIENCE:
                    return True
                self._end(made)
                self.tally.lost += 1
                step = "answer" if made.sent else "handshake"
                self._note(f"a connection has no {step} after {PATIENCE:g} s, {len(made.got)} octets")
            self._open.popleft()
        return False


class Client:
    """The loop: begins what is due, takes what is ready, and prints the counts each second."""

    def __init__(self, address: str, rate: Rate) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._counts = Counts()
        self._queries = Queries((address, 53), self._watch, self._note)
        self._connections = Connections((address, 80), self._watch, self._note)
        self._work: list[tuple[Work, float]] = [(self._connections, rate.connections), (self._queries, rate.queries)]
        self._counts.queries, self._counts.connections = self._queries.tally, self._connections.tally
        self._noted = 0
        self._stopping = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _watch(self, sock: socket.socket, ready: Ready) -> None:
        self._ready[sock.fileno()] = ready  # a closed socket's number is soon the next one's
        self._epoll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

    def _note(self, text: str) -> None:
        """Print what failed and when, in monotonic seconds; a failing test shows it."""
        if self._noted < NOTED:
            self._noted += 1
            print(f"{time.monotonic():.3f} {text}", flush=True)

    def _print(self) -> None:
        self._counts.dropped = self._queries.dropped()
        print(json.dumps(asdict(self._counts)), flush=True)

    def run(self) -> None:
        """Work until SIGTERM, then until nothing waits any more."""
        began = second = time.monotonic()
        while not self._stopping:
            now = time.monotonic()
            for work, rate in self._work:
                due = int((now - began) * rate) - work.tally.sent - work.tally.skipped
                if due > rate * CATCH_UP:
                    skipped = due - int(rate * CATCH_UP)
                    work.tally.skipped += skipped
                    due -= skipped
                for _ in range(due):
                    work.begin(time.monotonic())
            self._take(0.001)
            if now - second >= 1:
                second = now
                self._counts.seconds = now - began
                self._expire()
                self._print()
        self._counts.seconds = time.monotonic() - began
        while self._expire():
            self._take(0.1)
        self._print()

    def _expire(self) -> bool:
        now = time.monotonic()
        waiting = [work.expire(now) for work, _ in self._work]
        return any(waiting)

    def _take(self, longest: float) -> None:
        for number, events in self._epoll.poll(longest, 1024):
            self._ready[number](events)


def main(address: str, connections: str, queries: str) -> None:
    """Load port 53 with queries and port 80 with connections, so many a second, until SIGTERM."""
    Client(address, Rate(float(connections), float(queries))).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
