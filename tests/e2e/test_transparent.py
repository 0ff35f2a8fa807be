"""Transparent mode on a real site, with the routes that docs/transparent.md gives."""

import contextlib
import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.workers import transparent_sockets
from tests.e2e.bed import CLIENT, CLIENT6, SERVICE, SERVICE6, Bed, backend_address, backend_address6, site
from tests.e2e.daemon import ROOT, Daemon
from tests.e2e.loopback import Node, free_port, lift_loopback
from tests.e2e.process import program
from tests.proxy.relay.streams import END, read

RECIPES = dict(re.findall(r"```sh (\w+)\n(.*?)```", (ROOT / "docs" / "transparent.md").read_text(), re.DOTALL))
FAMILIES = {4: (SERVICE, backend_address(1), CLIENT), 6: (SERVICE6, backend_address6(1), CLIENT6)}
BURST = 400  # more connections at once than a stock has sockets


def shown(address: str) -> str:
    """Return an address as `listen` has it."""
    return f"[{address}]" if ":" in address else address


def services() -> str:
    """Return transparent services for both families: TCP 80, UDP 514 by sessions, UDP 515 datagram by datagram."""
    text = ""
    for family, (service, backend, _) in FAMILIES.items():
        for name, listen, more in (
            ("tcp", "80/tcp", 'probe = { type = "none" }'),
            ("udp", "514/udp", 'probe = { type = "none" }'),
            ("log", "515/udp", 'udp = { per-datagram = true }\nprobe = { type = "none" }'),
        ):
            port = listen.partition("/")[0]
            twin = f', "{shown(service)}:516/udp"' if name == "udp" else ""
            text += (
                f'[service.{name}{family}]\nlisten = ["{shown(service)}:{listen}"{twin}]\n'
                f'backends = [{{ address = "{backend}", port = {port} }}]\n'
                f"transparent = true\n{more}\n"
            )
    return text


@pytest.fixture(scope="module", params=sorted(RECIPES))
def balanced(request: pytest.FixtureRequest) -> Iterator[tuple[Bed, Daemon]]:
    """A site with a transparent daemon and one of the two recipes on the balancer."""
    with site(backends=1) as bed:
        bed.run("balancer", ["sh", "-e", "-c", RECIPES[request.param]], check=True)
        yield bed, Daemon(bed, "balancer", services(), workers=1)


@contextlib.contextmanager
def server(bed: Bed, family: int, port: int, kind: int) -> Iterator[socket.socket]:
    """A socket of the backend's that the test serves with."""
    sock = bed.socket("b1", socket.AF_INET6 if family == 6 else socket.AF_INET, kind)
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((FAMILIES[family][1], port))
        if kind == socket.SOCK_STREAM:
            sock.listen(512)
        sock.settimeout(5)
        yield sock


@contextlib.contextmanager
def client(bed: Bed, family: int, port: int, kind: int, own: int = 0) -> Iterator[socket.socket]:
    """A socket of the client's, connected to the service."""
    sock = bed.socket("client", socket.AF_INET6 if family == 6 else socket.AF_INET, kind)
    with sock:
        sock.settimeout(5)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if own:
            sock.bind((FAMILIES[family][2], own))
        sock.connect((FAMILIES[family][0], port))
        yield sock


@pytest.mark.parametrize("family", FAMILIES)
def test_a_connection_has_the_clients_address_and_port(balanced: tuple[Bed, Daemon], family: int) -> None:
    """T23: the backend of a TCP service sees the client's own address and port; data and ends pass both ways."""
    bed, _ = balanced
    with (
        server(bed, family, 80, socket.SOCK_STREAM) as listening,
        client(bed, family, 80, socket.SOCK_STREAM) as one,
        listening.accept()[0] as accepted,
    ):
        assert accepted.getpeername()[:2] == one.getsockname()[:2]
        assert accepted.getpeername()[0] == FAMILIES[family][2]
        one.sendall(b"question")
        assert accepted.recv(100) == b"question"
        accepted.sendall(bytes(1 << 16))
        accepted.shutdown(socket.SHUT_WR)
        assert read(one) == (bytes(1 << 16), END)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_port_that_is_not_free(balanced: tuple[Bed, Daemon], family: int) -> None:
    """T23: a privileged port, or one that already has a connection to the backend, is replaced; the address is kept."""
    bed, _ = balanced
    with server(bed, family, 80, socket.SOCK_STREAM) as listening, contextlib.ExitStack() as stack:
        kind = socket.AF_INET6 if family == 6 else socket.AF_INET
        before = stack.enter_context(make_in(bed, "balancer", kind))
        before.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before.bind((FAMILIES[family][2], 4321))
        before.connect((FAMILIES[family][1], 80))
        stack.enter_context(listening.accept()[0])
        for own in (500, 4321):
            one = stack.enter_context(client(bed, family, 80, socket.SOCK_STREAM, own))
            accepted, peer = listening.accept()
            stack.enter_context(accepted)
            assert peer[0] == FAMILIES[family][2]
            assert peer[1] != own
            one.sendall(b"x")
            assert accepted.recv(1) == b"x"


def make_in(bed: Bed, host: str, family: int) -> socket.socket:
    """Make a transparent socket on a host, as root."""
    with bed.inside(host):
        sock = transparent_sockets.make(family, socket.SOCK_STREAM)
    sock.settimeout(5)
    return sock


@pytest.mark.parametrize("family", FAMILIES)
def test_a_session_has_the_clients_address_and_port(balanced: tuple[Bed, Daemon], family: int) -> None:
    """T23: the backend of a UDP service sees the client's own address and port; its answer comes from the service."""
    bed, daemon = balanced
    before = counter(daemon, f"udp{family}", "sessions_opened")
    with server(bed, family, 514, socket.SOCK_DGRAM) as one, client(bed, family, 514, socket.SOCK_DGRAM) as asking:
        for pause in (0.0, 1.2):  # a session is not begun anew because its address is not the balancer's
            select.select([], [], [], pause)
            asking.send(b"question")
            data, peer = one.recvfrom(100)
            assert (data, peer[:2]) == (b"question", asking.getsockname()[:2])
            one.sendto(b"answer", peer)
            assert asking.recv(100) == b"answer"
    assert counter(daemon, f"udp{family}", "sessions_opened") == before + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_two_listeners_and_one_port_of_a_client(balanced: tuple[Bed, Daemon], family: int) -> None:
    """U3, T23: if one client port sends to two listeners of one backend, each answer comes from the right listener."""
    bed, _ = balanced
    with (
        server(bed, family, 514, socket.SOCK_DGRAM) as one,
        client(bed, family, 514, socket.SOCK_DGRAM, 4444) as first,
        client(bed, family, 516, socket.SOCK_DGRAM, 4444) as second,
    ):
        peers = []
        for sock, word in ((first, b"first"), (second, b"second")):
            sock.send(word)
            data, peer = one.recvfrom(100)
            assert (data, peer[0]) == (word, FAMILIES[family][2])
            peers.append(peer)
        for peer, word in zip(peers, (b"first", b"second"), strict=True):
            one.sendto(word, peer)
        assert (first.recv(100), second.recv(100)) == (b"first", b"second")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_datagram_has_its_clients_address(balanced: tuple[Bed, Daemon], family: int) -> None:
    """T23: datagrams that are balanced one by one come from their clients' addresses, over one socket."""
    bed, _ = balanced
    with server(bed, family, 515, socket.SOCK_DGRAM) as log, client(bed, family, 515, socket.SOCK_DGRAM) as one:
        ports = set()
        for number in range(3):
            one.send(b"<13>%d" % number)
            data, peer = log.recvfrom(100)
            assert (data, peer[0]) == (b"<13>%d" % number, FAMILIES[family][2])
            ports.add(peer[1])
        assert len(ports) == 1


def test_a_burst_empties_the_stock_and_loses_nothing(balanced: tuple[Bed, Daemon]) -> None:
    """T18, T23: more connections at once than a worker's stock of sockets all succeed, each with its address and port."""
    bed, daemon = balanced
    with server(bed, 4, 80, socket.SOCK_STREAM) as listening, contextlib.ExitStack() as stack:
        socks = []
        for _ in range(BURST):
            sock = stack.enter_context(bed.socket("client"))
            sock.setblocking(False)
            sock.connect_ex((SERVICE, 80))
            socks.append(sock)
        peers = set()
        for _ in range(BURST):
            accepted, peer = listening.accept()
            stack.enter_context(accepted)
            peers.add(peer)
        assert peers == {sock.getsockname() for sock in socks}
    assert counter(daemon, "tcp4", "refused_no_backend") == 0


def test_workers_hold_no_capability(balanced: tuple[Bed, Daemon]) -> None:
    """S1, T23: the workers of a transparent service have no capabilities at all."""
    _, daemon = balanced
    for pid in daemon.workers():
        held = re.findall(r"^Cap(?!Bnd)\w+:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert len(held) == 4
        assert {int(mask, 16) for mask in held} == {0}


def test_a_backend_that_is_not_there(balanced: tuple[Bed, Daemon]) -> None:
    """T10, T23: if the backend's port is closed, the client is reset."""
    bed, _ = balanced
    with pytest.raises(ConnectionResetError), client(bed, 4, 80, socket.SOCK_STREAM) as one:
        one.recv(1)


def counter(daemon: Daemon, service: str, name: str) -> int:
    """Return a counter of a service."""
    (found,) = [one for one in daemon.status()["services"] if one["name"] == service]
    return int(found["counters"][name])


def test_without_the_privilege_it_does_not_start(tmp_path: Path) -> None:
    """T23: a daemon that may not create transparent sockets exits and names the service."""
    lift_loopback()
    node = Node(
        tmp_path,
        f'[service.web]\nlisten = ["127.0.0.1:{free_port()}/tcp"]\nbackends = ["127.0.0.1:9"]\ntransparent = true\n',
    )
    try:
        drop = ["--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw", "--"]
        code, lines = node.failed(prefix=[program("setpriv"), *drop])
    finally:
        node.end()
    assert code == 1
    assert "[service.web] transparent needs root, CAP_NET_ADMIN or CAP_NET_RAW" in "\n".join(lines)
