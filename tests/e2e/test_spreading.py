"""One client of a daemon with several workers: which of them serve it."""

import socket
from pathlib import Path

import pytest

from tests.e2e.loopback import Backend, Node, dns_service, free_port, lift_loopback, question
from tests.e2e.process import until

WORKERS = 3


@pytest.fixture
def backend():
    lift_loopback()
    made = Backend()
    yield made
    made.close()


@pytest.fixture
def start(tmp_path):
    """Return what starts a daemon of three workers with these services."""
    nodes = []

    def node(services):
        nodes.append(Node(tmp_path, services, workers=WORKERS).start())
        return nodes[-1]

    yield node
    for one in nodes:
        one.end()


@pytest.fixture
def client():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        yield sock


def counters(status):
    return status["services"][0]["counters"]


def test_a_retransmission_joins_though_its_client_is_spread(start, backend, client):
    """U10: of one client's queries from one port each goes to the backend once, however often the client sends it."""
    port, idents = free_port(), range(500, 530)
    node = start(dns_service(port, [backend], '[service.dns.dns]\nretry-after = "5s"\ngive-up = "20s"'))
    backend.hold = True
    client.connect(("127.0.0.1", port))
    for _ in range(3):
        for ident in idents:
            client.send(question(f"q{ident}.example.net", ident))
    node.until(lambda status: counters(status)["joined"] == 2 * len(idents), "the retransmissions to have joined")
    assert sorted(backend.queries) == sorted(f"q{ident}.example.net" for ident in idents)
    backend.release()
    answered = sorted(int.from_bytes(client.recv(512)[:2], "big") for _ in idents)
    assert answered == list(idents)


def test_one_client_keeps_all_workers_busy(start, backend, client):
    """R6: one resolver that asks from one port costs each worker processor time, about as much as any other."""
    port = free_port()
    node = start(dns_service(port, [backend]))
    client.connect(("127.0.0.1", port))
    before = {pid: cpu(pid) for pid in node.workers()}
    for ident in range(6000):
        client.send(question("www.example.net", ident))
        client.recv(512)
    used = [cpu(pid) - spent for pid, spent in before.items()]
    assert min(used) * 3 > max(used), used


def cpu(pid):
    """Return the processor time of a process in nanoseconds: ticks are too coarse for a worker's share."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


@pytest.fixture
def server():
    """A backend that is silent."""
    lift_loopback()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def service(port, server, extra=""):
    """Return a service over UDP that the file gives no protocol, or that of `extra`."""
    return (
        f'[service.s]\nlisten = ["127.0.0.1:{port}/udp"]\nprobe = {{ type = "none" }}\n{extra}\n'
        f'backends = [{{ address = "127.0.0.1", port = {server.getsockname()[1]} }}]\n'
    )


def sources(client, server):
    """Return from which addresses a backend gets the datagrams of a client, which begin with various octets."""
    found = set()
    for number in range(40):
        client.send(number.to_bytes(2, "big"))
        found.add(server.recvfrom(64)[1])
    return found


def test_the_datagrams_of_a_session_stay_with_one_worker(start, server, client):
    """A client of a UDP service has one session and so one port towards the backend, whatever its datagrams begin with."""
    port = free_port()
    node = start(service(port, server))
    client.connect(("127.0.0.1", port))
    assert len(sources(client, server)) == 1
    until(lambda: node.status()["services"][0]["backends"][0]["active"] == 1, 5, "the session to be shown")


@pytest.mark.parametrize("command", ["reload", "reexec"])
def test_a_service_that_is_dns_no_longer(start, server, client, command):
    """R6, R12: a client's datagrams stay with one worker once a reload or a new version makes sessions of a DNS service."""
    port = free_port()
    node = start(service(port, server, 'protocol = "dns"'))
    client.connect(("127.0.0.1", port))
    node.file.write_text(node.text.replace('protocol = "dns"', ""))
    code, said = node.steelyard(command)
    assert code == 0, said
    assert len(sources(client, server)) == 1
