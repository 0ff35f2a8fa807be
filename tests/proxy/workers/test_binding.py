"""Tests of binding, with real sockets on loopback."""
# ruff: noqa: PTH208 - what /proc has are no paths

import errno
import os
import select
import socket
import subprocess
import sys

import pytest

from proxy.relay.plan import Member, TcpPlan
from proxy.workers import binding
from proxy.workers.binding import BindError

TCP = TcpPlan(connect_timeout=1.0, idle_timeout=60.0, fin_timeout=5.0, keepalive=120.0, user_timeout=30.0)
BOTH = pytest.mark.parametrize("transport", ["udp", "tcp"])


def member(transport, port, address="127.0.0.1"):
    return Member(0, 0, 0, transport, address, port)


def bind(transport, port, address="127.0.0.1", members=2, warnings=None):
    return binding.bind(
        member(transport, port, address), members, TCP, 64, (warnings if warnings is not None else []).append
    )


@pytest.fixture
def group():
    made = []

    def make(*args, **kwargs):
        made.extend(found := bind(*args, **kwargs))
        return found

    yield make
    for sock in made:
        sock.close()


def served(transport, address, port, own):
    """Whether a datagram or a connection to this address meets a socket of `own`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM) as client:
        client.connect((address, port))
        if transport == "udp":
            client.send(b"x")
        return bool(select.select(own, [], [], 2)[0])


@BOTH
@pytest.mark.parametrize("order", [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")], ids=["star first", "star last"])
def test_a_star_beside_an_address(group, transport, order):
    """A `*` and an address of one port stand side by side, in whatever order, and each gets its own traffic."""
    port = free(transport)
    found = {address: group(transport, port, address) for address in order}
    assert served(transport, "127.0.0.1", port, found["127.0.0.1"])
    assert served(transport, "127.0.0.2", port, found["0.0.0.0"])


@BOTH
@pytest.mark.parametrize("ours", [True, False], ids=["and ours", "alone"])
def test_a_star_beside_somebody_elses_address(group, transport, ours):
    """R11: where an address belongs to another process of the same user a `*` is refused, beside our own address too."""
    port = free(transport)
    if ours:
        group(transport, port, "127.0.0.1")
    script = (
        "import socket, sys\n"
        f"sock = socket.socket(socket.AF_INET, socket.SOCK_{'STREAM' if transport == 'tcp' else 'DGRAM'})\n"
        "sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
        f"sock.bind(('127.0.0.2', {port}))\n"
        f"{'sock.listen()' if transport == 'tcp' else ''}\n"
        "print('bound', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout.readline() == "bound\n"
        with pytest.raises(BindError) as told:
            bind(transport, port, "0.0.0.0")
        [line] = binding.explain([told.value])
        assert ours or f"(pid {process.pid})" in line
        process.stdin.close()
    assert told.value.errno == errno.EADDRINUSE


def free(transport):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@BOTH
def test_a_group(group, transport):
    """A listener's members share its port, do not block, do not survive an exec, and all of them get some of what comes."""
    port = free(transport)
    found = group(transport, port, members=3)
    assert [sock.getsockname() for sock in found] == [("127.0.0.1", port)] * 3
    assert not any(sock.getblocking() or sock.get_inheritable() for sock in found)
    clients = []
    for _ in range(60):
        client = socket.socket(socket.AF_INET, found[0].type)
        client.connect(("127.0.0.1", port))
        if transport == "udp":
            client.send(b"x")
        clients.append(client)
    taken = [0, 0, 0]
    for at, sock in enumerate(found):
        while True:
            try:
                if transport == "tcp":
                    sock.accept()[0].close()
                else:
                    sock.recv(10)
            except BlockingIOError:
                break
            taken[at] += 1
    for client in clients:
        client.close()
    assert sum(taken) == 60
    assert all(taken)


@BOTH
def test_a_second_group_of_the_same_user(group, transport):
    """R11: a second daemon of the same user gets neither the port nor a part of it, and is told who holds it."""
    port = free(transport)
    group(transport, port)
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(BindError) as caught:
        bind(transport, port)
    assert caught.value.errno == errno.EADDRINUSE
    assert sorted(os.listdir("/proc/self/fd")) == before
    [line] = binding.explain([caught.value])
    assert line.startswith(f"127.0.0.1:{port}/{transport}: already in use by ")
    assert f"(pid {os.getpid()})" in line


def test_an_address_that_is_not_here_yet(group):
    """A virtual address that is on no interface is bound all the same, and one warning says so."""
    warnings = []
    for address in ("192.0.2.77", "2001:db8::77"):
        group("udp", free("udp"), address, warnings=warnings)
        group("tcp", free("tcp"), address, warnings=warnings)
    assert len(warnings) == 4
    assert "192.0.2.77 is on no interface" in warnings[0]


def test_both_wildcards_share_a_port(group):
    """The wildcards of both families are bound side by side: an IPv6 listener takes no IPv4."""
    port = free("tcp")
    group("tcp", port, "0.0.0.0")
    group("tcp", port, "::")


def test_other_reasons():
    """A port that is not permitted and a lack of descriptors are told as such."""
    found = binding.explain(
        [BindError(member("udp", 53), OSError(number, "x")) for number in (errno.EACCES, errno.EMFILE, errno.ENODEV)]
    )
    assert "ports below 1024 need root" in found[0]
    assert "LimitNOFILE" in found[1]
    assert found[2] == "127.0.0.1:53/udp: No such device"
