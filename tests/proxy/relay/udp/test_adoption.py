"""UDP sessions that go on in the worker of a successor."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.relay.plan import BackendPlan
from proxy.relay.udp import handover
from tests.proxy.relay.conftest import UDP, eventually
from tests.proxy.relay.generations import Generations, ask


@pytest.fixture
def both() -> Iterator[Generations]:
    """An old and a new generation."""
    one = Generations()
    yield one
    one.close()


def test_a_session_goes_on(both: Generations) -> None:
    """R6: a client's session that is handed over keeps its backend and its port there, and is counted once."""
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
    """R6: what a backend sends while its session is on its way between the daemons reaches the client."""
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
    """R6: a client whose datagram reaches the successor before its session keeps the old session, and loses no answer."""
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
    """R6: a session that answers from the address its client asked, or that a PROXY header named, goes on as it was."""
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
    """R6: a session is dropped and counted if the successor has no such service or backend, or no room for it."""
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


def test_a_backend_that_is_down_there(both: Generations) -> None:
    """R6: a session whose backend is down for the successor moves with its client's next datagram."""
    client = both.client(both.start())
    ask(client, both.backends[0], b"one")
    assert both.hand_over(both.backends[0].getsockname()) == 0
    ask(client, both.backends[1], b"two")
    assert both.new.counter("moved") == 1


def test_a_row_that_comes_twice(both: Generations) -> None:
    """R6: a client whose session comes twice has one of them in the end, and nothing is left of the others."""
    client = both.client(both.start())
    ask(client, both.backends[0], b"one")
    assert both.hand_over() == 0
    ((rows, _),) = both.moved
    for _ in range(2):
        copy = socket.socket(type=socket.SOCK_DGRAM)
        copy.connect(both.backends[0].getsockname())
        both.new.call(lambda copy=copy: both.new.engine.adopt(rows, [copy.detach()]))
    ask(client, both.backends[0], b"two")
    eventually(lambda: both.new.counter("sessions") == 1)
    assert both.new.backend(both.backends[0].getsockname(), "active") == 1
