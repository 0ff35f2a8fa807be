"""A client that runs as a process of its own: LDAP searches on kept connections, or one request on each new connection.

    python bench/exchange.py {ldap,connect} ADDRESS PORT SECONDS CONNECTIONS RATE FILE

FILE has the requests, each a line of hexadecimal digits; they are sent in turn.  With RATE 0, every connection sends its
next request as soon as it has the answer to the last one.  Otherwise RATE requests begin each second, whether or not
those before them have their answers.  Prints JSON: `done`, `failed`, `seconds`, and `latencies` in seconds.

Standard library only, and a file without imports of the bench: the start of the process must cost little.
"""

import contextlib
import errno
import json
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path

GRACE = 2.0  # s for answers after the end of the run
LONG_FORM = 0x80  # of a BER length
SEARCH_DONE = 0x65  # RFC 4511, section 4.5.2


def message_end(data: bytes | bytearray, at: int) -> int:
    """Return where the BER value at `at` ends, 0 if its length is not there yet."""
    if len(data) < at + 2:
        return 0
    length = data[at + 1]
    if length < LONG_FORM:
        return at + 2 + length
    octets = length & 0x7F
    if len(data) < at + 2 + octets:
        return 0
    return at + 2 + octets + int.from_bytes(data[at + 2 : at + 2 + octets], "big")


def operation(data: bytes | bytearray, at: int) -> int:
    """Return where the operation of the LDAP message at `at` begins: after its header and its message ID."""
    start = at + 2 + (data[at + 1] & 0x7F if data[at + 1] & LONG_FORM else 0)
    return start + 2 + data[start + 1]


class Link:
    """One connection with at most one request in flight."""

    __slots__ = ("began", "data", "request", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.began = 0.0
        self.data = bytearray()
        self.request = b""


class Client:
    """The loop, and what both kinds of work share."""

    def __init__(self, target: tuple[str, int], connections: int, rate: float, requests: list[bytes]) -> None:
        self.target, self.connections, self.rate, self.requests = target, connections, rate, requests
        self.epoll = select.epoll()
        self.links: dict[int, Link] = {}
        self.latencies: list[float] = []
        self.failed = self.begun = 0
        self.running = True

    def next_request(self) -> bytes:
        """Return the next request in turn."""
        self.begun += 1
        return self.requests[self.begun % len(self.requests)]

    def prepare(self) -> None:
        """Do what precedes the run."""

    def begin(self, now: float) -> bool:
        """Begin one request; return False if that is not possible now."""
        raise NotImplementedError

    def ready(self, link: Link) -> None:
        """Continue with a connection that has events."""
        raise NotImplementedError

    def answered(self, link: Link) -> None:
        """Count an answer."""
        self.latencies.append(time.monotonic() - link.began)

    def drop(self, link: Link) -> None:
        """Close a connection."""
        self.links.pop(link.sock.fileno(), None)
        link.sock.close()

    def waiting(self) -> int:
        """Return how many requests have no answer yet."""
        return len(self.links)

    def take(self, longest: float) -> None:
        """Wait for events, and handle them. select() because epoll's own timeout has milliseconds only."""
        if longest > 0:
            select.select([self.epoll], [], [], longest)
        for number, _ in self.epoll.poll(0, 256):
            if link := self.links.get(number):
                try:
                    self.ready(link)
                except BlockingIOError:
                    continue
                except OSError:
                    self.failed += 1
                    self.drop(link)

    def run(self, seconds: float) -> dict[str, object]:
        """Work for `seconds`."""
        self.prepare()
        start = time.monotonic()
        issued = 0
        while (now := time.monotonic()) < start + seconds:
            due = int((now - start) * self.rate) + 1 if self.rate else issued + self.connections
            while issued < due and self.begin(now):
                issued += 1
            pause = start + due / self.rate - now if self.rate else 0.1
            self.take(min(max(pause, 0.0), start + seconds - now))
        self.running = False
        took = time.monotonic() - start
        done = len(self.latencies)  # what arrives later is not part of the rate
        while self.waiting() and time.monotonic() < start + seconds + GRACE:
            self.take(0.05)
        self.failed += self.waiting()
        return {"done": done, "failed": self.failed, "seconds": took, "latencies": self.latencies}


class Ldap(Client):
    """Searches on kept connections."""

    def prepare(self) -> None:
        """Open the connections."""
        self.free: deque[Link] = deque()
        self.delayed: deque[float] = deque()
        for _ in range(self.connections):
            sock = socket.create_connection(self.target, 5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            link = self.links[sock.fileno()] = Link(sock)
            self.free.append(link)
            self.epoll.register(sock, select.EPOLLIN)

    def begin(self, now: float) -> bool:
        """Send on a free connection; at a fixed rate a search without one waits, and its latency includes the wait."""
        if self.free:
            self._send(self.free.popleft(), now)
        elif self.rate:
            self.delayed.append(now)
        else:
            return False
        return True

    def _send(self, link: Link, since: float) -> None:
        link.began = since
        link.sock.send(self.next_request())

    def ready(self, link: Link) -> None:
        """Read; a search ends with its SearchResultDone."""
        data = link.sock.recv(65536)
        if not data:
            raise ConnectionResetError
        link.data += data
        at = 0
        while (end := message_end(link.data, at)) and end <= len(link.data):
            place = operation(link.data, at)
            if link.data[place] == SEARCH_DONE:
                self.answered(link)
                code = link.data[place + 4]  # after tag and length of the operation and of the code
                self.failed += code != 0
                if self.delayed:
                    self._send(link, self.delayed.popleft())
                elif self.running and not self.rate:
                    self._send(link, time.monotonic())
                else:
                    self.free.append(link)
            at = end
        del link.data[:at]

    def waiting(self) -> int:
        """Return how many searches are in flight, or wait for a connection."""
        return len(self.links) - len(self.free) + len(self.delayed)


class Connect(Client):
    """A new connection for each request; the server ends it after its answer."""

    def begin(self, now: float) -> bool:
        """Open a connection."""
        if not self.rate and len(self.links) >= self.connections:
            return False
        sock = socket.socket()
        sock.setblocking(False)
        link = Link(sock)
        link.began = now
        link.request = self.next_request()
        error = sock.connect_ex(self.target)
        if error not in {0, errno.EINPROGRESS}:
            self.failed += 1
            sock.close()
            return True
        self.links[sock.fileno()] = link
        self.epoll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        return True

    def ready(self, link: Link) -> None:
        """Send the request once, then read to the end."""
        if link.request:
            link.sock.send(link.request)
            link.request = b""
        while data := link.sock.recv(65536):
            link.data += data
        if link.data.startswith(b"HTTP/1.1 200 "):
            self.answered(link)
        else:
            self.failed += 1
        self.drop(link)
        if self.running and not self.rate:
            self.begin(time.monotonic())


def main(kind: str, address: str, port: str, seconds: str, connections: str, rate: str, path: str) -> None:
    """Run, and print the result."""
    requests = [bytes.fromhex(line) for line in Path(path).read_text().split()]
    made = {"ldap": Ldap, "connect": Connect}[kind]
    client = made((address, int(port)), int(connections), float(rate), requests)
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(client.run(float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
