"""UDP sessions that a worker hands to its successor: rows, sockets, and what becomes of them."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.relay.plan import BackendPlan
from proxy.relay.proxy_header.header import Header
from proxy.relay.udp import handover
from tests.proxy.relay.conftest import UDP, Relay, eventually, free_port

Address = tuple[str, int]


class Generations:
    """Two relays with the same service, the second of which succeeds the first, and the backends."""

    def __init__(self) -> None:
        self.old, self.new = Relay(), Relay()
        self.backends: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.sent: list[tuple[int, bool]] = []  # (rows, last) of each message

    def start(self, *, address: str = "127.0.0.1", others: dict[str, Any] | None = None, **changes: Any) -> Address:
        """Start both with the same two backends; `others` is what the successor's plan has in other ways."""
        for _ in range(2):
            sock = socket.socket(type=socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(3)
            self.backends.append(sock)
        names, port = [sock.getsockname() for sock in self.backends], free_port(host=address)
        plan = {"address": address, "port": port, "transports": ("udp",), "scheduler": "failover", **changes}
        self.old.service(names, **plan)
        (member, sock), *_ = self.old._listeners
        self.new._listeners.append((member, sock.dup()))
        self.new.service(names, **{**plan, "transports": ()}, **(others or {}))
        self.old.start()
        return "127.0.0.1", port

    def client(self, at: Address) -> socket.socket:
        """Make a client."""
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.settimeout(3)
        sock.connect(at)
        self.clients.append(sock)
        return sock

    def pass_on(self, rows: list[handover.Row], fds: list[int], last: bool) -> bool:
        """Give the successor what the old one hands over, as the two masters do."""
        self.sent.append((len(rows), last))
        copies = [os.dup(fd) for fd in fds]
        self.moved.append((json.loads(json.dumps(rows)), copies))
        return True

    def hand_over(self) -> int:
        """Let the successor poll, the old one hand its sessions over; return how many could not go on."""
        self.moved: list[tuple[list[handover.Row], list[int]]] = []
        self.new.start()
        self.old.call(lambda: self.old.engine.hand_over(self.pass_on))
        eventually(lambda: self.sent and self.sent[-1][1])
        return sum(
            self.new.call(lambda rows=rows, fds=fds: self.new.engine.adopt(rows, fds)) for rows, fds in self.moved
        )

    def close(self) -> None:
        """End all."""
        for sock in (*self.clients, *self.backends):
            sock.close()
        for relay in (self.old, self.new):
            relay.close()


@pytest.fixture
def both() -> Iterator[Generations]:
    """An old and a new generation."""
    one = Generations()
    yield one
    one.close()


def ask(client: socket.socket, backend: socket.socket, text: bytes) -> Address:
    """Send a datagram to the backend and back; return where it came from."""
    client.send(text)
    data, source = backend.recvfrom(100)
    assert data == text
    backend.sendto(b"re " + text, source)
    assert client.recv(100) == b"re " + text
    return source


def test_a_session_goes_on(both: Generations) -> None:
    """R8: a client's session that is handed over keeps its backend and its port there, and is counted once."""
    at = both.start()
    clients = [both.client(at) for _ in range(3)]
    before = [ask(client, both.backends[0], b"one") for client in clients]
    assert both.hand_over() == 0
    both.new.verdict(both.backends[1].getsockname(), "up")
    assert [ask(client, both.backends[0], b"two") for client in clients] == before
    name = both.backends[0].getsockname()
    assert [both.old.counter("sessions"), both.old.backend(name, "active")] == [0, 0]
    assert [both.new.counter(cell) for cell in ("sessions", "sessions_adopted", "sessions_opened")] == [3, 3, 0]
    assert [both.new.backend(name, cell) for cell in ("active", "total")] == [3, 0]
    assert both.old.call(lambda: both.old.engine.idle)


def test_an_answer_under_way_arrives(both: Generations) -> None:
    """R8: what a backend sends while its session is on its way between the daemons reaches the client."""
    client = both.client(both.start())
    source = ask(client, both.backends[0], b"one")
    both.new.start()
    moved: list[Any] = []

    def keep(rows: list[handover.Row], fds: list[int], last: bool) -> bool:
        moved.append((rows, [os.dup(fd) for fd in fds]))
        return True

    both.old.call(lambda: both.old.engine.hand_over(keep))
    both.backends[0].sendto(b"late", source)
    both.new.call(lambda: both.new.engine.adopt(*moved[0]))
    assert client.recv(100) == b"late"


def test_a_client_that_was_faster(both: Generations) -> None:
    """R8: a client whose datagram reaches the successor before its session keeps the old session, and loses no answer."""
    at = both.start()
    client = both.client(at)
    before = ask(client, both.backends[0], b"one")
    both.moved = []
    both.old.call(lambda: both.old.engine.hand_over(both.pass_on))
    both.new.start()
    client.send(b"two")
    _, between = both.backends[0].recvfrom(100)
    assert between != before
    ((rows, fds),) = both.moved
    assert both.new.call(lambda: both.new.engine.adopt(rows, fds)) == 0
    both.backends[0].sendto(b"re two", between)
    assert client.recv(100) == b"re two"
    assert ask(client, both.backends[0], b"three") == before
    eventually(lambda: both.new.counter("sessions") == 1)
    assert both.new.backend(both.backends[0].getsockname(), "active") == 1


def test_a_wildcard_listener_and_a_source_of_headers(both: Generations) -> None:
    """R8: a session that answers from the address its client asked, or that a PROXY header named, goes on as it was."""
    at = both.start(address="0.0.0.0", accept_proxy=("127.0.0.1/32",))
    client = both.client(("127.0.0.9", at[1]))
    header = (
        bytes.fromhex("0d0a0d0a000d0a515549540a") + b"\x21\x12\0\x0c" + bytes((10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 53))
    )
    client.send(header + b"one")
    data, before = both.backends[0].recvfrom(100)
    assert data == b"one"
    assert both.hand_over() == 0
    client.send(header + b"two")
    assert both.backends[0].recvfrom(100) == (b"two", before)
    both.backends[0].sendto(b"re two", before)
    assert client.recv(100) == b"re two"


@pytest.mark.parametrize(
    ("others", "cell"),
    [
        ({"udp": replace(UDP, max_sessions=1)}, 1),
        ({"name": "other"}, 0),
        ({"protocol": "dns"}, 0),
        ({"backends": (BackendPlan(0, "x", "127.0.0.1", 9, 1, "up"),)}, 2),
        ({"limit": 1}, 1),
    ],
)
def test_a_session_that_cannot_go_on(both: Generations, others: dict[str, Any], cell: int) -> None:
    """R8: a session is dropped and counted if the successor has no such service or backend, or no room for it."""
    limit = others.pop("limit", 0)
    at = both.start(others={key: value for key, value in others.items() if key != "backends"})
    plan = both.new.services[0]
    backends = others.get("backends") or tuple(replace(one, max_connections=limit) for one in plan.backends)
    both.new.services[0] = replace(plan, backends=backends)
    before = [ask(both.client(at), both.backends[0], b"one") for _ in range(2)]
    fits = 1 if "udp" in others or limit else 0
    assert both.hand_over() == len(before) - fits
    assert both.new.counter("sessions_dropped") == cell
    assert both.new.counter("sessions") == fits
    assert both.old.counter("sessions") == 0


def test_many_sessions_travel_in_lots(both: Generations) -> None:
    """R8: hundreds of sessions are handed over in small lots, the last of which says so, and wait for a crowded channel."""
    at = both.start()
    for _ in range(250):
        both.client(at).send(b"x")
    eventually(lambda: both.old.counter("sessions") == 250)
    both.new.start()
    both.moved, refusals = [], [True] * 3

    def crowded(rows: list[handover.Row], fds: list[int], last: bool) -> bool:
        if refusals:
            refusals.pop()
            return False
        return both.pass_on(rows, fds, last)

    both.old.call(lambda: both.old.engine.hand_over(crowded))
    assert not both.old.call(lambda: both.old.engine.idle)
    eventually(lambda: both.sent and both.sent[-1][1])
    assert both.sent == [(100, False), (100, False), (50, True)]
    for rows, fds in both.moved:
        both.new.call(lambda rows=rows, fds=fds: both.new.engine.adopt(rows, fds))
    assert both.new.counter("sessions") == both.new.counter("sessions_adopted") == 250


def test_without_sessions(both: Generations) -> None:
    """A worker without sessions says at once that these were all."""
    both.start()
    assert both.hand_over() == 0
    assert both.sent == [(0, True)]


def test_a_drain_without_a_successor(both: Generations) -> None:
    """A worker that has begun to hand over and is then told to drain keeps the sessions that are left."""
    at = both.start()
    ask(both.client(at), both.backends[0], b"one")
    both.old.call(lambda: both.old.engine.hand_over(lambda *_: False))
    assert not both.old.call(lambda: both.old.engine.idle)
    both.old.call(both.old.engine.drain)
    eventually(lambda: both.old.call(lambda: both.old.engine.idle))
    assert both.old.counter("sessions") == 1


def test_a_row_of_another_version() -> None:
    """A row without its last part, or with unknown keys in it, is read; one that makes no sense is refused."""
    row = ["127.0.0.1:53/udp", "dns", "b0", "10.0.0.1", 4711, 1.5]
    plain = handover.Moving("127.0.0.1:53/udp", "dns", "b0", ("10.0.0.1", 4711), 1.5, -1, None)
    assert handover.read(row) == handover.read([*row, {"color": "blue"}]) == plain
    more = {"member": 2, "rest": [0, 3], "local": "0102", "header": [["10.0.0.1", 1], ["10.0.0.2", 53], 28]}
    moving = handover.read([*row, more])
    assert moving.client == ("10.0.0.1", 4711, 0, 3, b"\x01\x02")
    assert (moving.member, moving.told) == (2, Header(("10.0.0.1", 1), ("10.0.0.2", 53), 28))
    for wrong in ([], row[:5], [*row, 7], [*row[:4], None, 1.5], [*row, {"local": "zz"}]):
        with pytest.raises(ValueError, match=r"row|hex|values"):
            handover.read(wrong)
