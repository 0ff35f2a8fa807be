"""`steelyard pick` names the backend that a client then gets."""

import json
import os
import socket
import subprocess
import sys

import pytest

from proxy.cli.pick import address
from tests.command import steelyard
from tests.e2e.loopback import ROOT, Backend, Node, exchange, free_port, lift_loopback


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Run services with different schedulers over the same backends."""
    lift_loopback()
    backends = [Backend() for _ in range(4)]
    rows = ", ".join(
        f'{{ name = "b{at}", address = "127.0.0.1", port = {one.port} }}' for at, one in enumerate(backends)
    )
    one = Node(tmp_path_factory.mktemp("n"), "")
    one.ports, one.backends = {}, backends
    for name, keys in {
        "maglev": 'scheduler = "maglev"', "hash": 'scheduler = "source-hash"', "ports": 'scheduler = "maglev"\nhash-on = "source-port"',
        "turns": 'scheduler = "round-robin"', "first": 'scheduler = "failover"', "shut": 'deny = ["127.0.0.0/8"]',
    }.items():  # fmt: skip
        port = one.ports[name] = free_port()
        one.text += f'[service.{name}]\nlisten = ["127.0.0.1:{port}/tcp"]\nbackends = [{rows}]\nprobe = {{ type = "none" }}\n{keys}\n'
    one.text += (
        f'[service.names]\nprotocol = "dns"\nlisten = ["127.0.0.1:{free_port()}/udp"]\nbackends = [{rows}]\n'
        'probe = { type = "none" }\nscheduler = "maglev"\nhash-on = "query-name"\n'
    )
    try:
        yield one.start()
    finally:
        one.end()
        for backend in backends:
            backend.close()


def in_a_process(node, *arguments):
    """Run the command as a user does; return its exit status and its output."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "proxy", "pick", *arguments, "-s", node.socket],
        capture_output=True, text=True, timeout=30, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def picked(node, *arguments):
    """Ask over the control socket, without a new process each time; return the document."""
    done = steelyard("pick", *arguments, "-s", node.socket, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def connections(node):
    """Return how many connections each backend has accepted: a status may be a second old."""
    return [backend.connections for backend in node.backends]


def totals(node, name):
    service = next(one for one in node.fresh()["services"] if one["name"] == name)
    return {backend["name"]: backend["total"] for backend in service["backends"]}


@pytest.mark.parametrize("name", ["maglev", "hash", "first", "ports"])
def test_it_tells_what_then_happens(node, name):
    """For hashing schedulers and failover, each of several clients gets the backend that `pick` has named."""
    seen = set()
    for last in range(1, 9):
        source = f"127.0.0.{last}", free_port()
        told = picked(node, name, f"{source[0]}:{source[1]}" if name == "ports" else source[0])
        assert told["certain"] is True
        before = connections(node)
        with socket.create_connection(("127.0.0.1", node.ports[name]), timeout=5, source_address=source) as sock:
            assert exchange(sock, b"x") == b"x"
        after = connections(node)
        assert [f"b{at}" for at in range(4) if after[at] > before[at]] == [told["backend"]]
        seen.add(told["backend"])
    assert (len(seen) > 1) == (name != "first")


def test_a_turn_is_not_taken(node):
    """For a scheduler that goes by turns, `pick` only lists candidates, and no count changes."""
    before = totals(node, "turns")
    for _ in range(3):
        told = picked(node, "turns", "192.0.2.7")
        assert (told["backend"], told["certain"]) == (None, False)
        assert [one["name"] for one in told["candidates"]] == ["b0", "b1", "b2", "b3"]
    assert totals(node, "turns") == before == dict.fromkeys(("b0", "b1", "b2", "b3"), 0)
    code, out, _ = in_a_process(node, "turns", "192.0.2.7")
    assert code == 0
    assert "round-robin, so it depends on the turn" in out


def test_who_stands_by(node):
    """T9: for a failover service, `pick` lists after the backend that serves those that are tried if it cannot be reached."""
    told = picked(node, "first", "192.0.2.7")
    assert (told["backend"], told["certain"]) == ("b0", True)
    assert [one["name"] for one in told["standbys"]] == ["b1", "b2", "b3"]
    assert picked(node, "maglev", "192.0.2.7")["standbys"] == []
    code, out, _ = in_a_process(node, "first", "192.0.2.7")
    assert (code, "b0, the only one that serves" in out, "stands by" in out) == (0, True, True)


def test_names_of_queries(node):
    """For a service that hashes names, `pick` names the same backend for a name in upper or lower case, from any client."""
    backends = {picked(node, "names", client, "--query", name)["backend"]
                for client in ("192.0.2.1", "2001:db8::1") for name in ("www.example.net", "WWW.example.NET.")}  # fmt: skip
    assert len(backends) == 1
    assert (
        len({picked(node, "names", "192.0.2.1", "--query", f"n{number}.example.net")["backend"] for number in range(6)})
        > 1
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("maglv", "192.0.2.1"), 64, 'there is no service "maglv": did you mean "maglev"?'),
        (("ports", "192.0.2.1"), 1, 'hash-on = "source-port" needs the client\'s port'),
        (("names", "192.0.2.1"), 1, 'hash-on = "query-name" needs a name'),
        (("maglev", "www.example.net"), 64, "is not CLIENT[:PORT]"),
        (("maglev", "192.0.2.1:70000"), 64, "is not CLIENT[:PORT]"),
    ],
)
def test_what_makes_no_sense(node, arguments, code, words):
    """An unknown service, a missing part of the key and an invalid address are reported."""
    got, _, err = in_a_process(node, *arguments)
    assert got == code
    assert words in err


def test_a_denied_client(node):
    """For a client that may not use the service, `pick` says so."""
    assert picked(node, "shut", "127.0.0.9")["permitted"] is False
    assert "denied, by allow or deny" in in_a_process(node, "shut", "127.0.0.9")[1]


def test_addresses():
    """A client is an address with or without a port."""
    assert address("192.0.2.1") == ("192.0.2.1", 0)
    assert address("192.0.2.1:5") == ("192.0.2.1", 5)
    assert address("2001:db8::1") == ("2001:db8::1", 0)
    assert address("[2001:db8::1]:5") == ("2001:db8::1", 5)
    assert address("[2001:db8::1]") == ("2001:db8::1", 0)
