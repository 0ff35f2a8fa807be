"""proxy.control.client: asking a daemon, and what becomes of it when it does not answer."""

import os
import socket
import threading

import pytest

from proxy.control.client import Client
from proxy.control.wire import LINE_MAX, ControlError, PermissionDeniedError, UnreachableError


@pytest.fixture
def fake(tmp_path):
    """Return what starts a daemon that does one given thing with its first client."""
    threads, listeners = [], []

    def start(act):
        listener = socket.socket(socket.AF_UNIX)
        path = tmp_path / f"fake{len(listeners)}.sock"
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(10)

        def serve():
            connection, _ = listener.accept()
            with connection:
                act(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        threads.append(thread)
        listeners.append(listener)
        return str(path)

    yield start
    for thread in threads:
        thread.join()
    for listener in listeners:
        listener.close()


def test_an_answer_is_returned(daemon):
    """The daemon's answer comes back as it was given, large ones included, several on one connection."""
    with Client(str(daemon.path)) as client:
        assert client.request("status")["status"] == "fine"
        assert len(client.request("big")["big"]) == 8_000_000
        assert client.request("act", name="x")["changed"] is True
    assert daemon.acts == [{"command": "act", "name": "x"}]


def test_a_failure_keeps_the_daemons_words(daemon):
    """What the daemon could not do is an error with its words and code, which exits with 1."""
    with Client(str(daemon.path)) as client, pytest.raises(ControlError, match="the backend is unknown") as caught:
        client.request("fail")
    assert (caught.value.code, caught.value.exit_code) == ("unknown-backend", 1)
    assert caught.value.details == {"backend": "x"}


def test_nobody_there(tmp_path):
    """Without a daemon, or with only its stale socket, the error says so and exits with 3."""
    stale = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))
    for path, why in (
        (tmp_path / "none", "no such file"),
        (stale, "connection refused"),
        (tmp_path / ("x" * 200), "too long"),
    ):
        with pytest.raises(UnreachableError, match=why) as caught:
            Client(str(path))
        assert caught.value.exit_code == 3


def test_a_daemon_that_says_no(fake):
    """A daemon that refuses this user is an error that exits with 4, even if it hangs up before it is asked."""

    def refuse(connection):
        connection.sendall(b'{"ok": false, "error": "uid 1 may not use this socket", "code": "permission"}\n')

    with Client(fake(refuse)) as client, pytest.raises(PermissionDeniedError, match="uid 1 may not") as caught:
        client.request("status")
    assert caught.value.exit_code == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to everything")
def test_a_socket_of_somebody_else(tmp_path):
    """A socket whose mode keeps us out is an error that exits with 4."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(1)
        (tmp_path / "socket").chmod(0)
        with pytest.raises(PermissionDeniedError):
            Client(str(tmp_path / "socket"))


@pytest.mark.parametrize(
    ("reply", "error", "why"),
    [
        (b"", UnreachableError, "closed the connection"),
        (b'{"ok": tr', UnreachableError, "closed the connection"),
        (b"220 mail.example.net ESMTP\r\n", ControlError, "no JSON"),
        (b"\xff\n", ControlError, "no JSON"),
        (b"[1]\n", ControlError, "no object"),
        (b"{}\n", ControlError, "failed without a word"),
    ],
)
def test_a_strange_answer(fake, reply, error, why):
    """A daemon that hangs up or speaks another language is told apart from one that fails."""

    def act(connection):
        connection.recv(65536)
        connection.sendall(reply)

    with Client(fake(act)) as client, pytest.raises(error, match=why):
        client.request("status")


def test_a_mute_daemon(fake):
    """A daemon that accepts and says nothing is unreachable after the timeout."""
    done = threading.Event()
    with Client(fake(lambda connection: done.wait(10)), timeout=0.05) as client:
        with pytest.raises(UnreachableError, match=r"no answer within 0\.05 s"):
            client.request("status")
        done.set()


def test_a_busy_daemon_is_waited_for(tmp_path):
    """A client that finds the daemon's queue full waits for its turn, within its timeout."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as before:
        listener.bind(path)
        listener.listen(0)
        before.connect(path)
        with pytest.raises(UnreachableError, match="too many clients"):
            Client(path, timeout=0.05)

        def accept():
            listener.accept()[0].close()

        accepting = threading.Timer(0.1, accept)
        accepting.start()
        Client(path, timeout=10).close()
        accepting.join()


def test_an_oversized_command_is_not_sent(daemon):
    """What the daemon would refuse for its length is refused here."""
    with Client(str(daemon.path)) as client, pytest.raises(ControlError, match="at most are taken"):
        client.request("act", padding="x" * LINE_MAX)
    assert daemon.acts == []


def test_a_long_answer_comes_line_by_line(fake):
    """Lines are handed on as they come, until the one that says there are no more."""

    def act(connection):
        connection.recv(65536)
        connection.sendall(b'{"ok": true, "n": 1, "more": true}\n{"ok": true, "n": 2, "mo')
        connection.sendall(b're": true}\n{"ok": true, "n": 3, "more": false}\n')

    with Client(fake(act)) as client:
        assert [line["n"] for line in client.stream("events")] == [1, 2, 3]


def test_an_endless_answer_may_be_silent(fake):
    """While following, silence longer than the timeout is no error; the daemon's end is one."""
    quiet = threading.Event()

    def act(connection):
        connection.recv(65536)
        connection.sendall(b'{"ok": true, "n": 1, "more": true}\n')
        quiet.wait(0.2)
        connection.sendall(b'{"ok": true, "n": 2, "more": true}\n')

    with Client(fake(act), timeout=0.05) as client:
        lines = client.stream("events", endless=True)
        assert [next(lines)["n"], next(lines)["n"]] == [1, 2]
        with pytest.raises(UnreachableError, match="closed the connection"):
            next(lines)
