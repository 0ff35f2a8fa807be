"""`steelyard connections` and `disconnect` on a daemon with two workers."""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.command import steelyard as in_process
from tests.e2e.loopback import ROOT, Node, connected, echo_service, exchange, free_port, lift_loopback
from tests.e2e.process import until

MANY = 1200


class Echo:
    """An echo server for more connections than select() takes descriptors."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self.listener.getsockname()[1]
        self._ends = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while not self._ends:
            for key, _ in self._selector.select(0.2):
                if key.fileobj is self.listener:
                    self._selector.register(self.listener.accept()[0], selectors.EVENT_READ)
                else:
                    self._echo(key.fileobj)

    def _echo(self, sock):
        with suppress(OSError):
            if data := sock.recv(65536):
                sock.sendall(data)
                return
        self._selector.unregister(sock)
        sock.close()

    def close(self):
        """End it."""
        self._ends = True
        self._thread.join(5)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Run a daemon with an echo service, a service of many, and one of plain UDP."""
    lift_loopback()
    echo, sink = Echo(), Echo()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    ports = free_port(), free_port(), free_port()
    directory = tmp_path_factory.mktemp("n")
    one = Node(
        directory,
        echo_service(ports[0], [echo])
        + f'[service.many]\nlisten = ["127.0.0.1:{ports[1]}/tcp"]\nprobe = {{ type = "none" }}\n'
        f'backends = [{{ name = "sink", address = "127.0.0.1", port = {sink.port} }}]\n'
        f'[service.datagrams]\nlisten = ["127.0.0.1:{ports[2]}/udp"]\nprobe = {{ type = "none" }}\n'
        f'backends = [{{ name = "u", address = "127.0.0.1", port = {udp.getsockname()[1]} }}]\n',
    )
    one.ports = ports
    try:
        yield one.start()
    finally:
        one.end()
        echo.close()
        sink.close()
        udp.close()


def steelyard(node, *arguments):
    """Run the command; return its exit status, its output and its errors."""
    done = in_process(*arguments, "-s", node.socket)
    return done.returncode, done.stdout, done.stderr


def listed(node, *arguments):
    """Return the rows of `connections --json`, and its last line."""
    code, out, err = steelyard(node, "connections", "--json", *arguments)
    assert (code, err) == (0, "")
    *rows, last = map(json.loads, out.splitlines())
    return rows, last


def disconnected(node, *arguments):
    code, out, err = steelyard(node, "disconnect", "--json", *arguments)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_one_connection(node):
    """An open connection is shown with client, backend, state and bytes in each direction; an ended one is not shown."""
    with connected(node.ports[0]) as sock:
        assert exchange(sock, b"hello") == b"hello"
        (row,), last = listed(node, "echo")
        client = "{}:{}".format(*sock.getsockname())
        assert row.pop("age_s") >= row.pop("idle_s") >= 0
        assert row.pop("worker") in {0, 1}
        assert row == {
            "kind": "tcp", "service": "echo", "client": client, "listener": f"127.0.0.1:{node.ports[0]}", "backend": "b0",
            "backend_address": row["backend_address"], "state": "open", "bytes_in": 5, "bytes_out": 5,
        }  # fmt: skip
        assert last["total"] == 1
        code, out, _ = steelyard(node, "connections", "echo")
        assert code == 0
        assert out.splitlines()[0].split()[:2] == ["kind", "service"]
        assert out.splitlines()[1].split()[:3] == ["tcp", "echo", client]
        assert out.splitlines()[2] == "1 open"
    until(lambda: listed(node, "echo")[0] == [], 5, "the end of it", every=0.1)


def test_more_than_a_thousand(node):
    """Over a thousand connections are listed in portions, each once, and ended together; other services continue."""
    with ExitStack() as stack, connected(node.ports[0]) as other:
        assert exchange(other, b"x") == b"x"
        socks = [stack.enter_context(connected(node.ports[1], 15)) for _ in range(MANY)]
        node.until(lambda status: status["services"][1]["backends"][0]["active"] == MANY, "all of them")
        rows, last = listed(node, "many")
        clients = {"{}:{}".format(*sock.getsockname()) for sock in socks}
        assert last["total"] == len(rows) == MANY
        assert {row["client"] for row in rows} == clients
        assert len({row["worker"] for row in rows}) == 2
        assert disconnected(node, "many") == {"disconnected": MANY, "changed": True}
        assert disconnected(node, "many") == {"disconnected": 0, "changed": False}
        for sock in socks:
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert exchange(other, b"y") == b"y"
    counters = node.fresh()["services"][1]["counters"]
    assert (counters["disconnected"], counters["sessions"]) == (MANY, 0)
    assert node.told("admin", "many", f"{MANY} connections and sessions disconnected", f"uid {os.geteuid()}")
    until(lambda: node.told("closed=disconnected", "service=many"), 5, "the lines of the connection log")


def test_selectors(node):
    """Clients and backends are selected by block, name and address; other connections are not touched."""
    with connected(node.ports[0]) as echo, connected(node.ports[1]):
        assert exchange(echo, b"x") == b"x"
        node.until(lambda status: status["services"][1]["backends"][0]["active"] == 1, "both")
        assert [row["service"] for row in listed(node, "--backend", "sink")[0]] == ["many"]
        assert len(listed(node, "--client", "127.0.0.0/8", "--backend", "127.0.0.1")[0]) == 2
        assert listed(node, "--client", "192.0.2.0/24")[0] == []
        assert disconnected(node, "--client", "2001:db8::/32") == {"disconnected": 0, "changed": False}
        assert disconnected(node, "--client", "127.0.0.1", "--backend", "b0")["disconnected"] == 1
        assert [row["service"] for row in listed(node)[0]] == ["many"]
        assert disconnected(node, "--all")["disconnected"] == 1


def test_sessions(node):
    """UDP sessions are shown and ended too; the client's next datagram begins a new one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", node.ports[2]))
        sock.send(b"12345")
        until(lambda: listed(node, "datagrams")[0], 5, "the session", every=0.1)
        (row,), _ = listed(node, "datagrams")
        assert (row["kind"], row["state"], row["bytes_in"], row["backend"]) == ("udp", "open", 5, "u")
        assert disconnected(node, "datagrams")["disconnected"] == 1
        assert listed(node, "datagrams")[0] == []
        sock.send(b"1")
        until(lambda: [row["bytes_in"] for row in listed(node, "datagrams")[0]] == [1], 5, "another", every=0.1)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("connections", "ecko"), 64, 'there is no service "ecko": did you mean "echo"?'),
        (("connections", "many", "--backend", "snk"), 64, 'many does not have a backend "snk": did you mean "sink"?'),
        (("connections", "echo", "--backend", "x"), 64, 'echo does not have a backend "x": only b0'),
        (("connections", "--client", "10.0.0.0/33"), 64, '"10.0.0.0/33" is not a block of addresses'),
        (("disconnect",), 64, "say which"),
        (("disconnect", "echo", "--all"), 64, "say which"),
        (("disconnect", "\x1b[2J"), 64, "there is no service"),
    ],
)
def test_what_makes_no_sense(node, arguments, code, words):
    """An unknown name, an invalid block and a missing selector are wrong usage, with a suggestion, and change nothing."""
    got, _, err = steelyard(node, *arguments)
    assert got == code
    assert words in err
    assert "\x1b" not in err


def test_the_daemon_itself_wants_a_selector(node):
    """The daemon too refuses a disconnect without a selector on its socket."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(node.socket))
        control.sendall(b'{"command": "disconnect"}\n')
        assert json.loads(control.recv(4096))["code"] == "bad-request"


def test_a_worker_that_is_stopped(node):
    """A worker that does not answer is named, the others are shown, and the command does not wait for long."""
    pid = node.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(10)
        control.connect(str(node.socket))
        control.sendall(b'{"command": "connections"}\n')
        with control.makefile("rb") as lines:
            last = next(answer for answer in map(json.loads, lines) if not answer["more"])
    assert last["unanswered"] == [0]
    node.until(lambda status: all(w["alive"] and w["pid"] != pid for w in status["workers"]), "another worker")
    assert listed(node)[1]["unanswered"] == []


@contextmanager
def following(node, *arguments):
    """Follow with the command, as JSON; yield the lines so far."""
    command = [sys.executable, "-P", "-m", "proxy", "connections", "--follow", "--json", *arguments, "-s", node.socket]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    came = []
    thread = threading.Thread(
        target=lambda: came.extend(map(json.loads, iter(process.stdout.readline, ""))), daemon=True
    )
    try:
        # Each line as it comes: `extend` of a list takes an iterator one by one.
        thread.start()
        until(lambda: any("total" in line for line in came), 10, "the list")
        yield came
    finally:
        process.kill()
        process.wait(5)
        thread.join(5)
        process.stdout.close()


def test_following(node):
    """Open connections are shown, then each connection and session as it begins and ends, with the reason; others are not."""
    with connected(node.ports[0]) as before, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert exchange(before, b"x") == b"x"
        with following(node, "--client", "127.0.0.1") as came:
            assert len([row for row in came if row.get("service") == "echo"]) == 1
            with connected(node.ports[0]) as sock:
                assert exchange(sock, b"hello") == b"hello"
                client = "{}:{}".format(*sock.getsockname())
                until(lambda: [row for row in came if row.get("event") == "opened"], 5, "its begin")
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""
            until(lambda: [row for row in came if row.get("event") == "ended"], 5, "its end")
            told = [row for row in came if row.get("client") == client]
            assert [row["event"] for row in told] == ["opened", "ended"]
            assert (told[0]["backend"], told[1]["closed"], told[1]["bytes_in"], told[1]["bytes_out"]) == (
                "b0",
                "client-fin",
                5,
                5,
            )
            datagrams.sendto(b"1", ("127.0.0.1", node.ports[2]))
            until(
                lambda: [row for row in came if row.get("event") == "opened" and row["kind"] == "udp"], 5, "the session"
            )
            with socket.create_connection(
                ("127.0.0.1", node.ports[0]), timeout=5, source_address=("127.0.0.2", 0)
            ) as other:
                assert exchange(other, b"x") == b"x"
            assert disconnected(node, "datagrams", "--client", "127.0.0.1")["disconnected"] >= 1
            until(lambda: [row for row in came if row.get("closed") == "disconnected"], 5, "its end")
            assert not [row for row in came if row.get("client", "").startswith("127.0.0.2:")]
