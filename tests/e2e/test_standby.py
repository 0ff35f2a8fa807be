"""Backends that stand by take over before any verdict: a backup with every scheduler, a writer in reserve, a name server."""

import socket
import time

import pymysql
import pytest

from proxy.balance.names import SCHEDULERS
from tests.e2e.bed import SERVICE, backend_address, site
from tests.e2e.daemon import Daemon, backend_of
from tests.e2e.loopback import (
    PROBE,
    QUICK,
    Backend,
    Node,
    asker,
    connected,
    exchange,
    free_port,
    lift_loopback,
    question,
)
from tests.e2e.servers import Nsd
from tests.health.databases import HOST, PASSWORD, USER, MariaDb


@pytest.fixture(scope="module")
def schedulers(tmp_path_factory):
    """One daemon with a TCP and a DNS service for each scheduler, over a backend and a backup whose probes always pass."""
    lift_loopback()
    backends = [Backend(), Backend()]
    rows = ", ".join(
        f'{{ name = "b{at}", address = "127.0.0.1", port = {one.port}, tier = {at}, weight = {1 + at} }}'
        for at, one in enumerate(backends)
    )
    ports = {(kind, name): free_port() for kind in ("tcp", "udp") for name in SCHEDULERS}
    services = "".join(
        f'[service.{name}-{kind}]\nlisten = ["127.0.0.1:{port}/{kind}"]\nscheduler = "{name}"\nbackends = [{rows}]\n'
        f'protocol = "{"dns" if kind == "udp" else "plain"}"\ndns = {{ retry-after = "100ms" }}\n'
        f'probe = {{ type = "dns", query = "{PROBE} A", transport = "udp", {QUICK} }}\n'
        for (kind, name), port in ports.items()
    )
    node = Node(tmp_path_factory.mktemp("n"), services, workers=1)
    node.start()
    yield node, backends, ports
    node.end()
    for one in backends:
        one.close()


def states(node):
    """Return the verdicts and the shares of all backends."""
    return {
        (service["name"], one["name"]): (one["state"], one["effective_weight"])
        for service in node.status()["services"]
        for one in service["backends"]
    }


def test_queries_reach_the_backup_of_a_silent_server(schedulers):
    """U9: with every scheduler each query that the only serving backend leaves unanswered is answered by the backup."""
    node, (first, backup), ports = schedulers
    before = states(node)
    assert {name: share for (_, name), (_, share) in before.items()} == {"b0": 1, "b1": 0}
    first.hold = True  # it answers its probes
    try:
        for name in SCHEDULERS:
            seen = len(backup.queries)
            with asker(ports["udp", name]) as clients:
                clients.ask(10)
                assert clients.collect(4) == 0
                assert clients.bad == []
            assert len(backup.queries) - seen >= 10
    finally:
        first.drop()
    with asker(ports["udp", SCHEDULERS[0]]) as clients:
        seen = len(backup.queries)
        clients.ask(10)
        assert clients.collect(4) == 0
        assert len(backup.queries) == seen  # it serves nobody while the first one answers
    assert states(node) == before


def test_connections_reach_the_backup_of_a_closed_port(schedulers):
    """T9: with every scheduler 20 of 20 connections are served while the only serving backend refuses, before any verdict."""
    node, (first, backup), ports = schedulers
    before = states(node)
    with connected(ports["tcp", SCHEDULERS[0]]) as sock:
        assert exchange(sock, b"word") == b"word"
    assert (first.connections, backup.connections) == (1, 0)
    first.refuse()
    for name in SCHEDULERS:
        for number in range(20):
            with connected(ports["tcp", name]) as sock:
                assert exchange(sock, b"%d" % number) == b"%d" % number
    assert (first.connections, backup.connections) == (1, 20 * len(SCHEDULERS))
    assert states(node) == before


def test_reads_reach_the_writer_in_reserve(tmp_path):
    """T9, H8: from the death of the only replica on, the writer in reserve serves new readers."""
    lift_loopback()
    writer, replica = (MariaDb(tmp_path / f"db{number}", number) for number in (1, 2))
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    port = free_port()
    rows = ", ".join(f'{{ name = "{name}", address = "{HOST}", port = {one.port} }}' for name, one in (("writer", writer), ("replica", replica)))  # fmt: skip
    node = Node(
        tmp_path,
        f'[service.reads]\nlisten = ["127.0.0.1:{port}/tcp"]\nbackends = [{rows}]\n'
        f'probe = {{ type = "mysql", user = "{USER}", password-file = "{password}", role = "replica-first" }}\n',
    )
    try:
        for one in (writer, replica):
            one.launch()
        for one in (writer, replica):
            one.wait()
        replica.replicate(writer)
        replica.until("Slave_IO_Running", "Yes")
        replica.sql("SET GLOBAL read_only = 1")
        node.start(ready=False)
        node.until(
            lambda status: [one["state"] for one in status["services"][0]["backends"]] == ["reserve", "up"],
            "the replica to serve and the writer to be in reserve",
        )
        assert read(port) == 2
        replica.stop()
        assert [read(port) for _ in range(15)] == [1] * 15
        node.until(lambda status: status["services"][0]["backends"][1]["state"] == "down", "the verdict", 30)
        assert [read(port) for _ in range(5)] == [1] * 5
    finally:
        node.end()
        for one in (writer, replica):
            one.stop()


def read(port):
    """Return the number of the server that a new session reaches."""
    with (
        pymysql.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, connect_timeout=10) as session,
        session.cursor() as cursor,
    ):
        cursor.execute("SELECT @@server_id")
        return cursor.fetchone()[0]


FILE = """
[service.dns]
listen   = ["198.51.100.10:53/udp"]
protocol = "dns"
backends = ["10.0.0.11", { address = "10.0.0.12", backup = true }]
probe    = { type = "dns", query = "example.net SOA" }
"""


def test_no_query_fails_while_a_name_server_is_stopped():
    """U9: from the SIGSTOP of the only serving name server to the verdict every query is answered by the fit backup."""
    with site() as bed:
        first, _ = (Nsd(bed, f"b{number}", [backend_address(number)]) for number in (1, 2))
        daemon = Daemon(bed, "balancer", FILE)
        waiting, codes = {}, {}
        first.stop()
        began = time.monotonic()
        for number in range(175):
            sock = bed.socket("client", kind=socket.SOCK_DGRAM)
            sock.settimeout(6)
            sock.connect((SERVICE, 53))
            sock.send(question("www.example.net", number))
            waiting[number] = sock
            time.sleep(max(0.0, began + (number + 1) * 0.03 - time.monotonic()))
        for number, sock in waiting.items():
            answer = sock.recv(4096)
            codes[number] = answer[3] & 15
        assert set(codes.values()) == {0}
        daemon.until_backend("dns", "10.0.0.11", "down")
        assert backend_of(daemon.status(), "dns", "10.0.0.12")["effective_weight"] == 1
