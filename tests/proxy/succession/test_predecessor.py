"""proxy.succession.predecessor and link: what a new daemon takes from the one before it, and when it gives up."""

import asyncio
import json
import os
import socket
import threading

import pytest

from proxy.processes import channel
from proxy.stats.layout import Layout
from proxy.stats.translation import Shape
from proxy.succession import predecessor as module
from proxy.succession import protocol
from proxy.succession.predecessor import NoPredecessorError, Predecessor

STATE = {
    "shape": Shape.of(Layout(1, 1)).tree(),
    "listeners": [
        {"number": 3, "transport": "udp", "address": "127.0.0.1", "port": 5, "members": 2},
        {"number": 4, "transport": "tcp", "address": "127.0.0.1", "port": 6, "members": 2},
    ],
}
HELLO = protocol.Hello(protocol.VERSION, "0.1.0", 7)


def say(sock, message, fds=()):
    socket.send_fds(sock, [b"J" + protocol.encode(message)], fds)


@pytest.fixture
async def ends():
    """Make a predecessor, as the new daemon has it, and the old daemon's socket."""
    ours, theirs = channel.pair()
    one = Predecessor(ours)
    yield one, theirs
    one.close()
    theirs.close()


async def test_what_it_gives(ends):
    """Descriptors are found by name; of two with one name the later counts; a group of listeners with a gap is left out."""
    one, other = ends
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        names = ["listener-3-0", "listener-3-1", "listener-4-1", "lock", "lock"]
        say(other, HELLO)
        say(other, protocol.Unknown("Applaud"), [udp.fileno()])
        say(other, protocol.Hold(names), [udp.fileno(), udp.fileno(), tcp.fileno(), udp.fileno(), tcp.fileno()])
        say(other, protocol.State(STATE))
        assert (await one.receive()).listeners[1].number == 4
        assert one.hello == HELLO
        ((number, group),) = one.listeners().values()
        assert (number, [sock.getblocking() for sock in group]) == (3, [False, False])
        for sock in group:
            sock.close()
        lock = one.take("lock")
        assert os.fstat(lock).st_ino == os.fstat(tcp.fileno()).st_ino
        os.close(lock)
        assert one.take("lock") == -1


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([protocol.Hello(2, "9.9.9")], "steelyard 9.9.9.* by version 2 .* by version 1: restart the daemon instead"),
        ([protocol.State(STATE)], "began with State and not Hello"),
        ([HELLO, protocol.Go({})], "sent Go and not State"),
        ([HELLO, protocol.State({})], "cannot be used: shape"),
        ([HELLO, protocol.State({"shape": {**STATE["shape"], "services": -1}})], "makes no sense"),
        ([HELLO, protocol.Refused("changed my mind")], "given up: changed my mind"),
        ([HELLO], "has ended or given up"),
    ],
)
async def test_a_state_that_cannot_be_used(ends, messages, why):
    """Another version of the protocol, other messages, a document without sense, and an end are refused in words."""
    one, other = ends
    for message in messages:
        say(other, message)
    other.close()
    with pytest.raises(NoPredecessorError, match=why):
        await one.receive()


async def test_it_lets_go(ends):
    """A daemon that says that it is ready gets what has changed since; when it polls, the link stays open."""
    one, other = ends
    for message in (HELLO, protocol.State(STATE), protocol.Go({"opened": ["dns"]})):
        say(other, message)
    await one.receive()
    assert (await one.go()).opened == ("dns",)
    link = one.polls([4, 3])
    got = [protocol.decode(other.recv(1000)[1:]) for _ in range(2)]
    assert got == [protocol.Ready(os.getpid()), protocol.Polling([3, 4])]
    one.close()
    assert not link.ended
    link.close()


async def test_it_dies_when_it_has_let_go(ends):
    """A predecessor that dies after it has let go is no reason to stop; one that dies before is."""
    one, other = ends
    for message in (HELLO, protocol.State(STATE), protocol.Go({})):
        say(other, message)
    await one.receive()
    await one.go()
    other.close()
    await asyncio.sleep(0.02)
    assert one.ended
    one.polls([]).close()


async def test_it_dies_before(ends):
    """A daemon whose predecessor dies before it has let go gives up."""
    one, other = ends
    say(other, HELLO)
    say(other, protocol.State(STATE))
    await one.receive()
    other.close()
    with pytest.raises(NoPredecessorError):
        await one.go()


def test_a_refusal_before_the_loop_runs():
    """A daemon that finds its file wrong says so before it has an event loop."""
    ours, theirs = channel.pair()
    with theirs:
        Predecessor(ours).refuse("f.toml:1:1: error: no", 2)
        assert protocol.decode(theirs.recv(1000)[1:]) == protocol.Refused("f.toml:1:1: error: no", 2)
        assert theirs.recv(10) == b""


def answering(path, answer, *, give):
    """Answer one command at a control socket."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def run():
        with server, server.accept()[0] as client:
            assert json.loads(client.recv(1000))["command"] == "take-over"
            given, kept = channel.pair()
            with given, kept:
                socket.send_fds(client, [answer], [given.fileno()] if give else [])

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answer", "give", "taken"),
    [
        (b'{"ok": true, "pid": 7}\n', True, True),
        (b'{"ok": false, "error": "it goes on"}\n', False, False),
        (b'{"ok": false}\n', True, False),
        (b'{"ok": true}\n', False, False),
        (b"nonsense\n", True, False),
        (b"[]\n", True, False),
    ],
)
def test_only_a_daemon_that_gives_its_place_is_followed(tmp_path, answer, give, taken):
    """A daemon that goes on, an older one that does not know the command, and nonsense are no predecessor."""
    thread = answering(tmp_path / "control.sock", answer, give=give)
    found = Predecessor.ask(str(tmp_path / "control.sock"))
    thread.join(5)
    assert (found is not None) == taken
    if found is not None:
        found.close()


def test_nobody_answers(tmp_path, monkeypatch):
    """Where no daemon answers, or not in time, there is no predecessor."""
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    assert Predecessor.ask(str(tmp_path / "control.sock")) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "control.sock"))
        server.listen()
        assert Predecessor.ask(str(tmp_path / "control.sock")) is None


def test_another_users_socket_is_not_asked(tmp_path, monkeypatch):
    """S5: a socket of a user who is neither root nor ours is not asked: what it gave would be used as ours."""
    monkeypatch.setattr(module, "peer_credentials", lambda _: (1, 4711, 4711))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "control.sock"))
        server.listen()
        assert Predecessor.ask(str(tmp_path / "control.sock")) is None
        with server.accept()[0] as client:
            assert client.recv(10) == b""
