"""Workers run out of descriptors and local ports, and leave none behind."""

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.moments import unix
from tests.e2e import clients
from tests.e2e.bed import SERVICE, Bed, backend_address, site
from tests.e2e.daemon import Daemon, Status, backend_of
from tests.e2e.process import cpu_seconds, until
from tests.e2e.servers import Nginx

if TYPE_CHECKING:
    import socket

FILE = """
[defaults.probe]
interval = "300ms"

[service.web]
listen   = ["198.51.100.10:80/tcp"]
backends = ["10.0.0.11"]

[service.ports]
listen   = ["198.51.100.10:8080/tcp"]
backends = [{ address = "10.0.0.11", port = 80 }]
probe    = { type = "none" }
tcp      = { connect-timeout = "10s" }
"""
BACKEND = "10.0.0.11"
CONNECTIONS = 100_000


@dataclass
class Site:
    """The bed and the daemon in front of its web server."""

    bed: Bed
    daemon: Daemon

    def counters(self, service: str = "web") -> dict[str, int]:
        """Return the counters of a service."""
        (found,) = [part for part in self.daemon.status()["services"] if part["name"] == service]
        counters: dict[str, int] = found["counters"]
        return counters


@pytest.fixture
def web(request) -> Iterator[Site]:
    """Start one nginx, and Steelyard with the number of workers that the test wants, one by default."""
    with site(backends=1) as bed:
        Nginx(bed, "b1", [backend_address(1)])
        yield Site(bed, Daemon(bed, "balancer", FILE, workers=getattr(request, "param", 1)))


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def limit(bed: Bed, pid: int, most: int | None) -> None:
    """Set a worker's limit of open files, None for as many as it may have.

    As its own user: that of another takes CAP_SYS_RESOURCE, which the root of a container often has not.
    """
    owner = Path(f"/proc/{pid}").stat()
    become = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--keep-groups"]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    bed.run("balancer", [*become, "prlimit", f"--pid={pid}", f"--nofile={most or hard}:{hard}"], check=True)


class Client:
    """A connection that is kept and sends one request after the other."""

    def __init__(self, bed: Bed, port: int = 80) -> None:
        self.sock: socket.socket = bed.socket("client")
        self.sock.settimeout(15)
        self.sock.connect((SERVICE, port))

    def ask(self) -> None:
        """Send a request."""
        self.sock.sendall(b"GET /whoami HTTP/1.1\r\nHost: web\r\n\r\n")

    def answered(self) -> bool:
        """Read the answer; False if it does not come within the socket's timeout."""
        answer = b""
        try:
            while not answer.endswith(b"b1\n"):
                piece = self.sock.recv(4096)
                assert piece, "the connection was closed"
                answer += piece
        except TimeoutError:
            return False
        return answer.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.load
@pytest.mark.parametrize("web", [2], indirect=True, ids=["2 workers"])
def test_nothing_is_left_after_100_000_connections(web):
    """T19: after 100,000 connections no worker has more descriptors than before, and every gauge is back at 0."""
    clients.wrk(web.bed, clients.url(SERVICE, 80, "/close"), 1, connections=20)
    workers = web.daemon.workers()

    def quiet(status: Status) -> bool:
        return bool(backend_of(status, "web", BACKEND)["active"] == 0)

    web.daemon.until(quiet, "all connections to end")
    idle = [descriptors(pid) for pid in workers]
    deadline = time.monotonic() + 90
    while web.counters()["accepted"] < CONNECTIONS:
        assert time.monotonic() < deadline, f"only {web.counters()['accepted']} connections in 90 s"
        load = clients.wrk(web.bed, clients.url(SERVICE, 80, "/close"), 4, connections=40)
        assert load.not_ok == 0
    web.daemon.until(quiet, "all connections to end")
    until(lambda: [descriptors(pid) for pid in workers] == idle, 3, f"descriptors to be {idle} again")
    counters = web.counters()
    assert counters["sessions"] == 0
    ways = ("closed", "client_reset", "backend_reset", "client_gone", "idle_timeout", "fin_timeout")
    assert counters["accepted"] == sum(counters[way] for way in ways)
    backend = backend_of(web.daemon.status(), "web", BACKEND)
    assert backend["total"] == counters["accepted"]
    assert sum(backend["errors"].values()) == 0
    assert web.daemon.workers() == workers


def test_out_of_descriptors(web):
    """T20: a worker without free descriptors serves its open connections, uses no processor, and later serves all that wait."""
    (pid,) = web.daemon.workers()
    old = [Client(web.bed) for _ in range(20)]
    for client in old:
        client.ask()
        assert client.answered()
    full = 1 + max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    limit(web.bed, pid, full)
    new = [Client(web.bed) for _ in range(30)]
    for client in new:
        client.ask()
    until(lambda: web.counters()["accept_paused"] > 0, 3, "accepting to pause")
    until(lambda: descriptors(pid) >= full - 1, 3, "the descriptors to be used up")
    probed = unix(backend_of(web.daemon.status(), "web", BACKEND)["probes"][0]["at"])
    began, used = time.monotonic(), cpu_seconds([pid])
    time.sleep(2)
    assert cpu_seconds([pid]) - used < 0.05 * (time.monotonic() - began)
    for client in old:
        client.ask()
        assert client.answered()
    status = web.daemon.status()
    backend = backend_of(status, "web", BACKEND)
    assert backend["state"] == "up"
    assert unix(backend["probes"][0]["at"]) > probed + 1
    assert status["workers"][0]["restarts"] == 0
    waiting = []
    for client in new:
        client.sock.settimeout(0.01)
        if not client.answered():
            waiting.append(client)
        client.sock.settimeout(15)
    assert len(waiting) >= 25
    limit(web.bed, pid, None)
    began = time.monotonic()
    assert all(client.answered() for client in waiting)
    assert time.monotonic() - began < 2
    assert web.daemon.workers() == [pid]


def test_out_of_local_ports(web):
    """T9: if the balancer's local ports have run out, the backend is not blamed, and clients wait until a port is free."""
    ports = 10
    with web.bed.inside("balancer"):
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("50000 50009")
    old = [Client(web.bed, 8080) for _ in range(ports)]
    for client in old:
        client.ask()
        assert client.answered()
    late = Client(web.bed, 8080)
    late.ask()
    until(lambda: web.counters("ports")["no_local_port"] > 2, 3, "local ports to run out")
    status = web.daemon.status()
    backend = backend_of(status, "ports", BACKEND)
    assert (backend["state"], sum(backend["errors"].values()), backend["active"]) == ("up", 0, ports)
    old[0].sock.close()
    # Its port is free again after a second of TIME-WAIT (tcp_tw_reuse).
    assert late.answered()
    assert web.counters("ports")["refused_no_backend"] == 0
