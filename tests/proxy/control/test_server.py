"""proxy.control.server: what a client can and cannot do."""

import contextlib
import json
import os
import resource
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.control import server as module
from proxy.control.client import Client
from proxy.control.server import ControlServer, Handed
from proxy.control.wire import LINE_MAX, ControlError


def answer(client):
    """Return the next answer of a raw client; None at the end."""
    data = b""
    while not data.endswith(b"\n"):
        waiting = client.recv(65536, socket.MSG_PEEK)
        if not waiting:
            assert not data, data
            return None
        data += client.recv(waiting.find(b"\n") + 1 or len(waiting))  # and no byte of the next one
    return json.loads(data)


def ask(daemon, line):
    """Return the answer to one raw line."""
    with daemon.connect() as client:
        client.sendall(line)
        return answer(client)


def gone(client):
    """Say whether the server has let go of a client."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_command_is_answered(daemon):
    """One line a command, one line an answer, as many as the client likes on one connection."""
    with daemon.connect() as client:
        for _ in range(3):
            client.sendall(b'{"command": "status"}\n')
            assert answer(client) == {"ok": True, "status": "fine"}
        client.sendall(b'{"command": "act", "n": 1}\n{"command": "act", "n": 2}\n')
        assert answer(client)["changed"] is True
    assert [act["n"] for act in daemon.acts][:1] == [1]


@pytest.mark.parametrize("cut", [1, 10, 26])
def test_a_half_written_command_has_no_effect(daemon, cut):
    """R7: a client that leaves in the middle of a command, even before its last byte, has changed nothing."""
    line = b'{"command": "act", "n": 1}\n'
    with daemon.connect() as client:
        client.sendall(line[:cut])
        client.shutdown(socket.SHUT_WR)
        assert answer(client) is None
    assert daemon.acts == []
    assert ask(daemon, line)["ok"] is True
    assert len(daemon.acts) == 1


def test_an_oversized_command_has_no_effect(daemon):
    """R7, S2: a line above 64 KiB is refused and its client dropped, though it is a whole command otherwise."""
    line = json.dumps({"command": "act", "padding": "x" * LINE_MAX}).encode() + b"\n"
    with daemon.connect() as client:
        try:
            client.sendall(line)
            refusal = answer(client)
        except (BrokenPipeError, ConnectionResetError):
            refusal = None
        assert refusal is None or (refusal["ok"], refusal["code"]) == (False, "bad-request")
        assert gone(client)
    assert daemon.acts == []
    assert ask(daemon, b'{"command": "status"}\n')["ok"] is True


def test_an_endless_line_costs_bounded_memory(daemon):
    """S2: a client that never ends its line is dropped after two lines' worth at most."""
    sent = 0
    with daemon.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        try:
            while sent < 100 * LINE_MAX:
                sent += client.send(b"x" * 4096)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 5 * LINE_MAX


BAD = [
    (b"\n", "bad-request"),
    (b"nonsense\n", "bad-request"),
    (b"\xff\xfe\n", "bad-request"),
    (b"[]\n", "bad-request"),
    (b'"status"\n', "bad-request"),
    (b'{"command": 1}\n', "bad-request"),
    (b"[" * 60_000 + b"\n", "bad-request"),
    (b'{"command": "status", "n": ' + b"9" * 50_000 + b"}\n", "bad-request"),
    (b'{"command": "rm -rf"}\n', "unknown-command"),
    (b'{"command": "__init__"}\n', "unknown-command"),
]


@pytest.mark.parametrize(("line", "code"), BAD)
def test_a_bad_command_says_what_is_wrong(daemon, line, code):
    """A line that is no command is answered with whose fault it is, and the connection goes on."""
    with daemon.connect() as client:
        client.sendall(line)
        refusal = answer(client)
        assert (refusal["ok"], refusal["code"]) == (False, code)
        client.sendall(b'{"command": "status"}\n')
        assert answer(client)["ok"] is True


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.binary(max_size=200), st.sampled_from([b"\n", b'{"command":', b'"act"}', b'"status"}\n'])))
)
def test_any_bytes_are_harmless(daemon, pieces):
    """R7: whatever is sent, in whatever pieces, each line is answered with ok or why not, and the next client served."""
    data = b"".join(pieces)
    with daemon.connect() as client:
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        for _ in range(data.count(b"\n")):
            assert isinstance(answer(client)["ok"], bool)
        assert answer(client) is None
    assert ask(daemon, b'{"command": "status"}\n')["ok"] is True


def test_a_stuck_client_delays_nobody(start):
    """R7: clients that are mute, half-way through a line, or do not read their answer hold nobody else up."""
    daemon = start(idle=20.0)
    stuck = [daemon.connect() for _ in range(9)]
    for client in stuck[3:6]:
        client.sendall(b'{"command"')
    for client in stuck[6:]:
        client.sendall(b'{"command": "big"}\n' * 3)
    began = time.monotonic()
    assert ask(daemon, b'{"command": "status"}\n')["ok"] is True
    assert time.monotonic() - began < 2
    for client in stuck:
        client.close()


def test_a_slow_command_delays_nobody(daemon):
    """R7: a command that takes a minute is its own client's affair."""
    with daemon.connect() as waiting:
        waiting.sendall(b'{"command": "slow"}\n')
        assert ask(daemon, b'{"command": "status"}\n')["ok"] is True


def test_an_idle_client_is_dropped(start):
    """S2: who sends no whole command in time is told and dropped, one byte at a time included."""
    daemon = start(idle=0.05)
    with daemon.connect() as mute, daemon.connect() as slow:
        slow.sendall(b"{")
        for client in (mute, slow):
            assert "no command within" in answer(client)["error"]
            assert gone(client)


def test_a_client_that_does_not_read_is_dropped(start):
    """S2: an answer that is not read within the write timeout ends the connection, and its buffer with it."""
    daemon = start(write=0.05)
    with daemon.connect() as client:
        client.sendall(b'{"command": "big"}\n')
        deadline = time.monotonic() + 10
        while len(daemon.server) == 0 and time.monotonic() < deadline:
            pass
        while len(daemon.server) > 0:
            assert time.monotonic() < deadline
        received = 0
        try:
            while chunk := client.recv(1 << 20):
                received += len(chunk)
        except ConnectionResetError:
            pass
        assert received < 8_000_000


def test_clients_are_limited(daemon):
    """S2: the 33rd client is turned away with a word, and served once another has left."""
    clients = [daemon.connect() for _ in range(module.CLIENTS_MAX)]
    for client in clients:  # each is known to be served before the next one comes
        client.sendall(b'{"command": "status"}\n')
        assert answer(client)["ok"] is True
    with daemon.connect() as late:
        assert answer(late)["code"] == "busy"
        assert gone(late)
    assert daemon.server.refused == 1
    for client in clients:
        client.close()
    deadline = time.monotonic() + 10
    while len(daemon.server) > 0:
        assert time.monotonic() < deadline
    assert ask(daemon, b'{"command": "status"}\n')["ok"] is True


def test_a_failed_command_says_so_in_words(daemon):
    """A handler's own error reaches the client with its code and details."""
    refusal = ask(daemon, b'{"command": "fail"}\n')
    assert refusal == {"ok": False, "error": "the backend is unknown", "code": "unknown-backend", "backend": "x"}


def test_a_bug_is_logged_and_survived(daemon, caplog):
    """An exception in a handler is our fault: logged whole, told without its inside, and the client goes on."""
    with daemon.connect() as client:
        client.sendall(b'{"command": "bug"}\n')
        refusal = answer(client)
        assert refusal["code"] == "internal"
        assert "a bug" not in refusal["error"]
        client.sendall(b'{"command": "status"}\n')
        assert answer(client)["ok"] is True
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [OSError]


def test_a_long_answer_ends_when_its_reader_leaves(daemon):
    """A follower that goes away in silence is noticed, and what it held is let go."""
    with daemon.connect() as client:
        client.sendall(b'{"command": "endless"}\n')
        assert answer(client) == {"ok": True, "number": 0, "more": True}
        assert not daemon.endless_ended.is_set()
    assert daemon.endless_ended.wait(10)


def test_a_follower_may_close_its_own_direction(daemon, monkeypatch):
    """A client that only says that it will send no more still gets its answer, until it is gone altogether."""
    monkeypatch.setattr(module, "HANGUP", 0.01)
    with daemon.connect() as client:
        client.sendall(b'{"command": "endless"}\n')
        client.shutdown(socket.SHUT_WR)
        assert answer(client)["number"] == 0
        assert not daemon.endless_ended.wait(0.1)
    assert daemon.endless_ended.wait(10)


def test_who_connects_is_checked_by_the_kernel(start, monkeypatch):
    """S2: a peer that is neither root, nor us, nor of the group is refused, even where the mode let it connect."""
    daemon = start()
    monkeypatch.setattr(module, "peer_credentials", lambda connection: (1, 4242, 4242))
    with daemon.connect() as client:
        assert answer(client)["code"] == "permission"
        assert gone(client)


@pytest.mark.parametrize("groups", [(4243, ()), (1, (7, 4243))])
def test_the_group_may_only_read(start, monkeypatch, groups):
    """S2: a member of the socket's group, by its first or by another group, is shown the status and changes nothing."""
    daemon = start()
    daemon.server._gid = 4243
    monkeypatch.setattr(module, "peer_credentials", lambda connection: (1, 4242, groups[0]))
    monkeypatch.setattr(module, "peer_groups", lambda connection: groups[1])
    assert ask(daemon, b'{"command": "status"}\n')["ok"] is True
    assert ask(daemon, b'{"command": "act"}\n')["code"] == "permission"
    assert daemon.acts == []


def test_readers_cannot_lock_the_administrator_out(start, monkeypatch):
    """S2: when the group's members have taken all they may, root is still let in."""
    daemon = start()
    daemon.server._gid = 4243
    real = module.peer_credentials
    monkeypatch.setattr(module, "peer_credentials", lambda connection: (1, 4242, 4243))
    clients = [daemon.connect() for _ in range(module.READERS_MAX)]
    for client in clients:
        client.sendall(b'{"command": "status"}\n')
        assert answer(client)["ok"] is True
    with daemon.connect() as late:
        assert answer(late)["code"] == "busy"
    monkeypatch.setattr(module, "peer_credentials", real)
    assert ask(daemon, b'{"command": "act"}\n')["ok"] is True
    for client in clients:
        client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_by_the_kernel_itself(daemon):
    """S2: a process of another user cannot even connect."""
    child = os.fork()
    if child == 0:  # nothing but system calls: it must not return into pytest
        code = 1
        try:
            client = socket.socket(socket.AF_UNIX)
            os.chdir(daemon.path.parent)  # reached through an open directory: the socket's own mode must do
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            client.connect(daemon.path.name)
        except PermissionError:
            code = 0
        except OSError:
            code = 77
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 77:
        pytest.skip("this root cannot become another user")
    assert code == 0


def test_closing_removes_the_socket_and_lets_go(daemon):
    """A daemon that stops leaves neither its socket nor a client hanging."""
    with daemon.connect() as client:
        client.sendall(b'{"command": "endless"}\n')
        assert answer(client)["more"] is True
        daemon.call(daemon.server.close())
        assert gone(client)
    assert not daemon.path.exists()


def test_closing_leaves_a_successors_socket_alone(daemon):
    """What another daemon put in our place meanwhile is not removed."""
    daemon.path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(daemon.path))
        daemon.call(daemon.server.close())
        assert daemon.path.exists()


def test_no_descriptor_is_left(daemon):
    """After two hundred clients, good and bad, as many descriptors are open as before."""
    with Client(str(daemon.path)) as client:
        client.request("status")
    deadline = time.monotonic() + 10
    while len(daemon.server) > 0:
        assert time.monotonic() < deadline
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    for number in range(200):
        with daemon.connect() as client:
            client.sendall([b'{"command": "status"}\n', b"{", b"x" * 1000 + b"\n", b""][number % 4])
            client.shutdown(socket.SHUT_WR)
            while answer(client) is not None:
                pass
    while len(daemon.server) > 0:
        assert time.monotonic() < deadline
    assert ask(daemon, b'{"command": "status"}\n')["ok"] is True
    while len(os.listdir("/proc/self/fd")) > before:  # noqa: PTH208 - a count
        assert time.monotonic() < deadline


def test_a_name_is_registered_once(tmp_path):
    """Two handlers for one command are a mistake of the caller."""
    server = ControlServer(tmp_path / "socket")
    server.register("status", lambda request: {}, mutates=False)
    with pytest.raises(ValueError, match="registered already"):
        server.register("status", lambda request: {}, mutates=False)


def test_two_daemons_on_one_path(daemon, tmp_path):
    """R11: a second daemon on the same control socket is refused and told who holds it."""
    with pytest.raises(ControlError, match=f"pid {os.getpid()}"):
        daemon.call(ControlServer(daemon.path).start())
    assert ask(daemon, b'{"command": "status"}\n')["ok"] is True


def test_out_of_descriptors_clients_wait(daemon, monkeypatch):
    """T20: while the process has no descriptor left control clients wait in the queue, and are served once it has one."""
    monkeypatch.setattr(module, "PAUSE", 0.02)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    fillers = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[0] + 8, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(fillers[0]))
        for client in clients:
            client.settimeout(0.1)
            client.connect(str(daemon.path))
            client.sendall(b'{"command": "status"}\n')
        with pytest.raises(TimeoutError):
            clients[0].recv(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in fillers:
            os.close(fd)
    for client in clients:
        client.settimeout(10)
        assert answer(client)["ok"] is True
        client.close()


def test_changes_are_refused_for_a_while(daemon):
    """While a successor starts, commands that change something are refused in words, and reading goes on."""
    daemon.loop.call_soon_threadsafe(daemon.server.refuse_changes, "not now")
    refusal = ask(daemon, b'{"command": "act", "n": 1}\n')
    assert (refusal["ok"], refusal["error"], refusal["code"]) == (False, "not now", "busy")
    assert ask(daemon, b'{"command": "status"}\n')["ok"] is True
    daemon.loop.call_soon_threadsafe(daemon.server.refuse_changes, None)
    assert ask(daemon, b'{"command": "act", "n": 1}\n')["ok"] is True
    assert [act["n"] for act in daemon.acts] == [1]


def test_a_successor_answers_the_clients_that_wait(daemon):
    """R12: clients that come while the socket changes hands wait, and the successor answers at the same path, for the same users."""
    client = daemon.connect()
    daemon.call(paused(daemon.server))
    waiting = daemon.connect()
    waiting.sendall(b'{"command": "status"}\n')
    client.sendall(b'{"command": "status"}\n')
    assert answer(client)["status"] == "fine"
    successor = ControlServer(daemon.path)
    successor.register("status", lambda request: {"status": "new"}, mutates=False)
    listener = daemon.server.listener.dup()
    daemon.call(successor.start(listener))
    daemon.call(daemon.server.abandon())
    assert answer(waiting)["status"] == "new"
    assert gone(client)
    assert daemon.path.stat().st_mode & 0o777 == 0o600
    assert ask(daemon, b'{"command": "status"}\n')["status"] == "new"
    waiting.close()
    client.close()
    daemon.call(successor.close())
    assert not daemon.path.exists()


def test_a_socket_is_taken_up_again(daemon):
    """R12: if the successor fails, the clients that wait are answered by the daemon as before."""
    daemon.call(paused(daemon.server))
    with daemon.connect() as waiting:
        waiting.sendall(b'{"command": "status"}\n')
        daemon.loop.call_soon_threadsafe(daemon.server.resume)
        assert answer(waiting)["status"] == "fine"


async def paused(server):
    server.pause()


def test_an_answer_with_a_socket(daemon):
    """An answer may bring a socket along, which the server then closes."""
    ours, theirs = socket.socketpair()
    daemon.server.register("give", lambda request: Handed({"pid": 1}, theirs), mutates=True)
    with daemon.connect() as client, ours:
        client.sendall(b'{"command": "give"}\n')
        data, fds, _, _ = socket.recv_fds(client, 1000, 1)
        assert json.loads(data) == {"ok": True, "pid": 1}
        with socket.socket(fileno=fds[0]) as given:
            given.sendall(b"hello")
            assert ours.recv(10) == b"hello"
        assert ours.recv(10) == b""
