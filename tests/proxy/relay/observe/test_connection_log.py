"""What a worker logs of real connections, sessions and queries."""

import contextlib
import json
import os
import socket
import threading
import time

import pytest

from proxy.relay.observe import connection_log
from proxy.relay.plan import DnsPlan, LogPlan, TcpPlan, UdpPlan
from proxy.stats import layout
from tests.proxy.relay.conftest import TCP, eventually, free_port
from tests.proxy.relay.dnsbed import Backend, query
from tests.proxy.relay.streams import accept, connect, exactly, listen, read, reset, where


@pytest.fixture
def log(relay, tmp_path):
    """Log to a file; return a function that waits for a number of lines and returns them."""
    path = tmp_path / "connections.log"
    relay.log = LogPlan("all", "json", str(path), node="n1")
    start = relay.start

    def begin():
        start()
        relay.call(lambda: relay.engine.log_to(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)))
        return relay

    relay.start = begin

    def lines(count=1):
        eventually(lambda: path.exists() and path.read_bytes().count(b"\n") >= count)
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    lines.path = path
    return lines


@pytest.fixture
def server():
    with listen() as sock:
        yield sock


def test_an_orderly_end(relay, log, server):
    """The line of a finished connection has both addresses, the exact bytes each way, the times, and the side that ended it."""
    address = relay.service([where(server)])
    relay.start()
    before = time.time()
    with connect(address) as client, accept(server) as backend:
        source = client.getsockname()
        client.sendall(b"q" * 100_000)
        assert exactly(backend, 100_000)
        backend.sendall(b"a" * 7)
        assert exactly(client, 7)
        time.sleep(0.05)
        backend.shutdown(socket.SHUT_WR)
        assert read(client) == (b"", "end")
    (got,) = log()
    at = got.pop("at")
    assert before - 1 < time.mktime(time.strptime(at[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone < time.time() + 1
    assert 0.05 <= got.pop("duration_s") < 5
    assert 0 < got.pop("connect_ms") < 1000
    name = "{}:{}".format(*where(server))
    assert got == {
        "kind": "tcp", "node": "n1", "service": "s0", "client": "{}:{}".format(*source), "listener": "{}:{}".format(*address),
        "backend": name, "backend_address": name, "bytes_in": 100_000, "bytes_out": 7, "tries": 1,
        "closed": "backend-fin", "failed": False,
    }  # fmt: skip


def test_bytes_that_had_to_wait(relay, log, server):
    """The bytes are exact too where the backend reads slowly, so that some had to wait for it."""
    address = relay.service([where(server)])
    relay.start()
    with connect(address) as client, accept(server) as backend:
        sender = threading.Thread(target=lambda: (client.sendall(b"q" * 8_000_000), client.shutdown(socket.SHUT_WR)))
        sender.start()
        time.sleep(0.3)  # until every buffer is full
        data, end = read(backend)
        sender.join(10)
        assert (len(data), end) == (8_000_000, "end")
        backend.shutdown(socket.SHUT_WR)
        assert read(client) == (b"", "end")
    (got,) = log()
    assert (got["bytes_in"], got["bytes_out"], got["closed"]) == (8_000_000, 0, "client-fin")


def ends(how, client, backend):
    """End a connection in one of the ways that the log tells apart."""
    match how:
        case "client-fin":
            client.close()
            assert read(backend) == (b"", "end")
            backend.close()
        case "client-reset":
            reset(client)
        case "backend-reset":
            reset(backend)
        case "max-lifetime":
            assert read(client) == (b"", "end")
            assert read(backend) == (b"", "end")
            client.close()
            backend.close()
        case "idle-timeout":
            assert read(client) == (b"", "reset")
        case "fin-timeout":
            client.shutdown(socket.SHUT_WR)
            assert read(client) == (b"", "reset")


@pytest.mark.parametrize(
    "how", ["client-fin", "client-reset", "backend-reset", "idle-timeout", "fin-timeout", "max-lifetime"]
)
def test_why_it_closed(relay, log, server, how):
    """Each way to end has its word; only an orderly end is no failure."""
    slow = 0.3 if how in {"idle-timeout", "fin-timeout"} else 60.0
    address = relay.service(
        [where(server)],
        tcp=TcpPlan(
            1.0,
            slow if how == "idle-timeout" else 60.0,
            0.3,
            120.0,
            30.0,
            *((0.2, 0.1) if how == "max-lifetime" else ()),
        ),
    )
    relay.start()
    with connect(address) as client, accept(server) as backend:
        client.sendall(b"x")
        exactly(backend, 1)
        ends(how, client, backend)
        (got,) = log()
    assert (got["closed"], got["failed"]) == (how, how not in {"client-fin", "max-lifetime"})
    assert (got["bytes_in"], got["bytes_out"]) == (1, 0)


def test_refused_ones(relay, log):
    """A denied client, and a client without a usable backend, has a line without a backend."""
    gone = ("127.0.0.1", free_port())
    denied = relay.service([gone], deny=("127.0.0.0/8",))
    alone = relay.service([gone])
    relay.start()
    for number, address in enumerate((denied, alone)):
        with contextlib.suppress(ConnectionResetError), connect(address) as client:
            assert read(client) == (b"", "reset")
        eventually(
            lambda number=number: relay.counter("accepted", number) == 1 and relay.counter("sessions", number) == 0
        )
    assert [(one["closed"], one["failed"], one["backend"], one["connect_ms"], one["tries"]) for one in log(2)] == [
        ("denied", True, None, None, 0),
        ("no-backend", True, None, None, 1),
    ]


def test_a_wildcard_listener_tells_which_address_was_asked(relay, log, server):
    """The line has the address that the client asked, not the wildcard."""
    address = relay.service([where(server)], address="0.0.0.0", transports=("tcp", "udp"))
    relay.start()
    with connect(("127.0.0.3", address[1])) as client, accept(server):
        reset(client)
    (got,) = log()
    assert got["listener"] == f"127.0.0.3:{address[1]}"


def test_failed_alone(relay, log, server):
    """With "failed" what ended well has no line."""
    relay.log = LogPlan("failed", "json", relay.log.to)
    address = relay.service([where(server)])
    relay.start()
    for how in ("client-fin", "client-reset", "client-fin"):
        with connect(address) as client, accept(server) as backend:
            client.sendall(b"x")
            exactly(backend, 1)
            ends(how, client, backend)
        eventually(lambda: relay.counter("sessions") == 0)
    eventually(lambda: relay.counter("closed") == 2)
    time.sleep(2 * connection_log.HAND_ON_PAUSE)
    assert [one["closed"] for one in log()] == ["client-reset"]


def test_sessions(relay, log):
    """A UDP session has a line when it has been idle for long enough, with the bytes of all its datagrams."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        address = relay.service(
            [server.getsockname()], transports=("udp",), address="0.0.0.0", udp=UdpPlan(0.3, 100, "drop-new")
        )
        relay.start()
        client.connect(("127.0.0.2", address[1]))
        client.settimeout(5)
        for size in (10, 20):
            client.send(b"x" * size)
            _, source = server.recvfrom(100)
        server.sendto(b"y" * 5, source)
        assert client.recv(100) == b"y" * 5
        (got,) = log()
        assert got["client"] == "{}:{}".format(*client.getsockname())
    assert (got["kind"], got["closed"], got["failed"]) == ("udp", "idle", False)
    assert (got["bytes_in"], got["bytes_out"], got["listener"]) == (30, 5, f"127.0.0.2:{address[1]}")
    assert 0.3 <= got["duration_s"] < 3


def test_queries_that_failed(relay, log):
    """A DNS query without an answer has a line with its name, even a hostile one; an answered query has none."""
    silent = Backend()
    try:
        address = relay.service(
            [silent.address], protocol="dns", transports=("udp",), dns=DnsPlan(retry_after=0.1, give_up=0.3)
        )
        relay.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(address)
            client.settimeout(5)
            client.send(query("good.example.net"))
            silent.serve()
            assert client.recv(600)[3] & 15 == 0
            client.send(query("evil\n\x1b[2J.example.net", kind=99))
            assert client.recv(600)[3] & 15 == 2
        (got,) = log()
    finally:
        silent.close()
    assert (got["kind"], got["closed"], got["failed"]) == ("dns", "no-answer", True)
    assert got["query"] == r"evil\010\027\091" + "2J.example.net TYPE99"
    assert (got["backend"], got["tries"]) == ("{}:{}".format(*silent.address), 2)


def test_a_flood_is_bounded(relay, log, monkeypatch):
    """No more lines than the bound are made in a while; the others are counted, and every client was served the same."""
    monkeypatch.setattr(connection_log, "LINES", 5)
    monkeypatch.setattr(connection_log, "FAILURES", 5)
    monkeypatch.setattr(connection_log, "HAND_ON_PAUSE", 0.5)
    address = relay.service([("127.0.0.1", 9)], deny=("0.0.0.0/0",))
    relay.start()
    for _ in range(60):
        # It may be reset before the client's own call has returned.
        with contextlib.suppress(ConnectionResetError), connect(address) as client:
            assert read(client) == (b"", "reset")
    eventually(lambda: relay.counter("denied") == 60)
    time.sleep(0.6)
    written = len(log(5))
    assert written < 60
    assert relay.call(lambda: relay.engine._log.lost) == 60 - written


def test_a_reader_that_stopped_costs_lines_only(relay, server, monkeypatch):
    """Without a reader the waiting lines are limited; connections go on as before, and each lost line is counted."""
    monkeypatch.setattr(connection_log, "WAITING", 4000)
    reader, writer = os.pipe()
    for _ in range(16):
        os.write(writer, b"x" * 4096)  # full
    relay.log = LogPlan("all", "text", "/a pipe")
    address = relay.service([where(server)], tcp=TCP)
    relay.start()
    relay.call(lambda: relay.engine.log_to(writer))
    for _ in range(100):
        with connect(address) as client, accept(server) as backend:
            client.sendall(b"x")
            assert exactly(backend, 1) == b"x"
            ends("client-fin", client, backend)
    eventually(lambda: relay.counter("closed") == 100)
    eventually(lambda: relay.call(lambda: relay.engine._log.lost) > 50)
    os.close(reader)


def test_the_last_lines(relay, log, server):
    """What a worker's end cuts off is logged as drained, and counted, before the worker is no more."""
    address = relay.service([where(server)])
    relay.start()
    with connect(address) as client, accept(server) as backend:
        client.sendall(b"q")
        assert exactly(backend, 1)
        relay.call(relay.engine.close)
        lines = log.path.read_bytes().splitlines()
    assert [json.loads(line)["closed"] for line in lines] == ["drained"]
    assert relay.table.cells[layout.LOG_LINES] == 1
    assert relay.table.cells[layout.LOG_LOST] == 0
