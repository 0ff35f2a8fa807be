"""A listener on every address, and backends that are addresses of this very host, in a daemon with two workers."""

import socket
import time

import pytest

from tests.e2e import clients
from tests.e2e.bed import INSIDE, SERVICE, backend_address, site
from tests.e2e.daemon import Daemon, backend_of
from tests.e2e.servers import Nginx, Nsd

LATE = "10.0.0.99"
FILE = f"""
[service.web]
listen   = ["*:80/tcp"]
backends = ["{INSIDE}", "10.0.0.11"]
probe    = {{ type = "none" }}

[service.dns]
listen   = ["*:53/udp"]
protocol = "dns"
backends = ["{INSIDE}", "10.0.0.12"]
probe    = {{ type = "none" }}

[service.time]
listen   = ["*:123/udp"]
backends = ["{INSIDE}", "{LATE}"]
probe    = {{ type = "none" }}
"""


@pytest.fixture(scope="module")
def bed():
    """A balancer before a web server and a name server."""
    with site(backends=2) as made:
        Nginx(made, "b1", [backend_address(1)])
        Nsd(made, "b2", [backend_address(2)])
        yield made


@pytest.fixture(scope="module")
def daemon(bed):
    """Steelyard, with a file that does not list the host's addresses."""
    return Daemon(bed, "balancer", FILE, workers=2)


def counter(status, service, name):
    """Return a counter of a service."""
    (found,) = [one for one in status["services"] if one["name"] == service]
    return found["counters"][name]


def test_what_leads_back_gets_nothing(bed, daemon):
    """T10, U7: backends that are this host get no clients and say why; the others serve each client with one connection."""
    status = daemon.until(
        lambda status: all(backend_of(status, name, INSIDE)["state"] == "down" for name in ("web", "dns", "time")),
        "the backends that lead back to be down",
    )
    assert backend_of(status, "web", INSIDE)["reason"].startswith(f"{INSIDE} is a listener of this service itself")
    before = counter(status, "web", "accepted")
    for _ in range(10):
        assert clients.whoami_http(bed, SERVICE) == "b1"
        assert clients.whoami_dns(bed, SERVICE) == "b2"
    daemon.until(lambda status: counter(status, "web", "accepted") >= before + 10, "the connections to be counted")
    assert counter(daemon.status(), "web", "accepted") == before + 10
    told = [event for event in daemon.events() if event["kind"] == "loop"]
    assert sorted(event["subject"] for event in told) == [f"{name}/{INSIDE}" for name in ("dns", "time", "web")]


def test_an_address_comes_while_the_daemon_runs(bed, daemon):
    """T10: if this host gets a backend's address, the backend is left out within seconds, and no loop forms."""
    assert backend_of(daemon.status(), "time", LATE)["state"] == "up"
    port = bed.hosts["balancer"].ports["inside"]
    bed.ip("balancer", f"addr add {LATE}/32 dev {port}")
    client = bed.socket("client", kind=socket.SOCK_DGRAM)
    for _ in range(20):
        client.sendto(b"what time is it", (SERVICE, 123))
        time.sleep(0.1)
    daemon.until_backend("time", LATE, "down")
    daemon.until(lambda status: counter(status, "time", "sessions") == 0, "the sessions to end")
    used = daemon.cpu_seconds()
    time.sleep(2)
    assert daemon.cpu_seconds() - used < 1
    bed.ip("balancer", f"addr del {LATE}/32 dev {port}")
    daemon.until_backend("time", LATE, "up")


def test_add_refuses_it(daemon):
    """R7: `add` refuses each address of this host, and loopback."""
    for address in (SERVICE, f"{SERVICE}:80", "127.0.0.1", f"::ffff:{SERVICE}"):
        done = daemon.cli("add", "web", address)
        assert (done.returncode, "is a listener of this service itself" in done.stderr) == (1, True), done
    assert [one["name"] for one in daemon.status()["services"][0]["backends"]] == [INSIDE, "10.0.0.11"]


def test_check_host_tells(daemon):
    """T10: `check --host` reports beforehand which backends are this host."""
    done = daemon.cli("check", str(daemon.file), "--host")
    assert f"[service.web]: {INSIDE} is a listener of this service itself" in done.stdout + done.stderr
