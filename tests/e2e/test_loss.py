"""Nothing is lost: 8,000 queries a second through two nsd, while a backend or a worker is killed or stopped.

dnsperf sends each query once and waits five seconds, so every lost query is noticed. It may have 6,000 unanswered, so
that a silence of half a second does not slow it down.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from proxy.moments import unix
from tests.e2e import clients
from tests.e2e.bed import CLIENT, SERVICE, Bed, backend_address, site
from tests.e2e.daemon import Daemon, Status, backend_of
from tests.e2e.servers import Nginx, Nsd

pytestmark = pytest.mark.load

RATE = 8000
FILE = """
[defaults.probe]
interval      = "1s"
fast-interval = "300ms"
down-interval = "500ms"
timeout       = "500ms"

[service.dns]
listen   = ["198.51.100.10:53/udp", "198.51.100.10:53/tcp"]
protocol = "dns"
backends = ["10.0.0.11", "10.0.0.12"]
probe    = { type = "dns", query = "example.net SOA", transport = "udp" }

[service.web]
listen   = ["198.51.100.10:80/tcp"]
backends = ["10.0.0.13"]
"""
BACKENDS = ("10.0.0.11", "10.0.0.12")


@dataclass
class Site:
    """The bed, its two name servers, and the daemon in front of them."""

    bed: Bed
    dns: list[Nsd]
    daemon: Daemon


@pytest.fixture(scope="module")
def started() -> Iterator[Site]:
    """Start two nsd, a web server, and Steelyard with two workers."""
    with site(backends=3) as bed:
        dns = [Nsd(bed, f"b{number}", [backend_address(number)]) for number in (1, 2)]
        Nginx(bed, "b3", [backend_address(3)])
        yield Site(bed, dns, Daemon(bed, "balancer", FILE, workers=2))


def whole(status: Status) -> bool:
    """Return True if both workers are alive and all backends are up."""
    states = {backend["state"] for service in status["services"] for backend in service["backends"]}
    return states == {"up"} and [worker["alive"] for worker in status["workers"]] == [True, True]


@pytest.fixture
def balanced(started) -> Site:
    """Return the site, healthy again after the previous test."""
    for server in started.dns:
        if server.proc.alive:
            server.cont()
        else:
            server.start()
    started.daemon.until(whole, "all workers and backends to be back")
    return started


def under_load(balanced: Site, seconds: float, acts: Sequence[tuple[float, Callable[[], object]]]) -> clients.DnsLoad:
    """Run dnsperf for `seconds`, do each act at its time into the load, and return what dnsperf counted.

    The load must have reached its rate: a client with few queries proves little.
    """
    load = clients.dnsperf_start(balanced.bed, SERVICE, seconds, rate=RATE, outstanding=6000, clients=20)
    began = time.monotonic()
    for at, act in acts:
        time.sleep(max(0.0, began + at - time.monotonic()))
        act()
    result = clients.dnsperf_result(load, seconds + 30)
    assert result.sent > 0.9 * RATE * seconds, result.text
    return result


def assert_nothing_lost(result: clients.DnsLoad) -> None:
    """Every query has its answer, and the answer is NOERROR."""
    assert result.lost == 0, result.text
    assert result.rcodes == {"NOERROR": result.sent}, result.text


def totals(status: Status) -> list[int]:
    """Return the number of queries that each name server has got."""
    return [backend_of(status, "dns", name)["total"] for name in BACKENDS]


@pytest.mark.parametrize(("end", "back"), [("kill", "start"), ("stop", "cont")], ids=["killed", "stopped"])
def test_a_backend_goes_and_returns(balanced, end, back):
    """U7, U9: a name server killed, or silent, and back again costs no query and no SERVFAIL, and gets its share again."""
    server = balanced.dns[0]
    seen: list[list[int]] = []

    def down() -> None:
        balanced.daemon.until_backend("dns", BACKENDS[0], "down", timeout=8)

    def up() -> None:
        seen.append(totals(balanced.daemon.until_backend("dns", BACKENDS[0], "up", timeout=8)))

    acts = [(1, getattr(server, end)), (1, down), (4, getattr(server, back)), (4, up)]
    assert_nothing_lost(under_load(balanced, 9, acts))
    at_return, at_end = seen[0], totals(balanced.daemon.status())
    gained = [last - first for first, last in zip(at_return, at_end, strict=True)]
    assert gained[0] > 0.25 * sum(gained)


def restarted(daemon: Daemon, gone: int, timeout: float = 10.0) -> Status:
    """Wait until two workers live and `gone` is not one of them."""

    def replaced(status: Status) -> bool:
        pids = [worker["pid"] for worker in status["workers"] if worker["alive"]]
        return len(pids) == 2 and gone not in pids

    return daemon.until(replaced, f"worker {gone} to be replaced", timeout)


def lossless(balanced: Site, act: Callable[[int], object]) -> None:
    """End a worker under load, and assert that no query is lost.

    A query that the worker has taken from the kernel but not yet recorded (a matter of microseconds) is in no record: about
    once in a hundred times it costs one query. So one loss is allowed, once, and then a repetition must have none.
    """
    for chance in (1, 0):
        victim = balanced.daemon.workers()[0]
        result = under_load(
            balanced, 7, [(1, partial(act, victim)), (1, lambda gone=victim: restarted(balanced.daemon, gone))]
        )
        if result.lost == 0 or result.lost > chance:
            break
    assert_nothing_lost(result)
    assert victim not in balanced.daemon.workers()


def test_a_worker_is_killed(balanced):
    """A worker killed under load is restarted at once, and costs no query."""
    first = balanced.daemon.workers()[0]
    lossless(balanced, lambda victim: os.kill(victim, signal.SIGKILL))
    assert any(str(first) in str(event) for event in balanced.daemon.events())


def test_a_worker_is_stopped(balanced):
    """R10: a worker stopped under load costs no query: its sockets go to a sibling within 1.5 s, and it is replaced."""
    stopped: dict[int, float] = {}

    def stop(victim: int) -> None:
        os.kill(victim, signal.SIGSTOP)
        stopped[victim] = time.time()

    lossless(balanced, stop)
    for victim, at in stopped.items():
        with pytest.raises(ProcessLookupError):
            os.kill(victim, 0)
        events = [event for event in balanced.daemon.events() if unix(event["at"]) >= at]  # not of its own start
        told = [event for event in events if f"pid {victim}" in event["text"]]
        assert "the other workers take over its listeners" in told[0]["text"]
        assert unix(told[0]["at"]) - at < 1.5


def test_queued_at_a_stopped_worker(balanced):
    """R10: queries and connections that arrive after a worker was stopped are all served within 1.5 s of the stop."""
    query = bytes.fromhex("0000 0000 0001 0000 0000 0000 03777777 076578616d706c65 036e6574 00 0001 0001")
    os.kill(balanced.daemon.workers()[0], signal.SIGSTOP)
    stopped = time.monotonic()
    asked = {}
    for number in range(200):
        sock = balanced.bed.socket("client", kind=clients.UDP)
        sock.bind((CLIENT, 0))
        sock.connect((SERVICE, 53))
        sock.send(number.to_bytes(2, "big") + query[2:])
        asked[sock] = number.to_bytes(2, "big")
        sock = balanced.bed.socket("client", kind=clients.TCP)
        sock.connect((SERVICE, 80))
        sock.send(b"GET /whoami HTTP/1.0\r\n\r\n")
        asked[sock] = b"HTTP/1.1 200 OK"
    while asked and time.monotonic() < stopped + 5:
        ready, _, _ = select.select(list(asked), [], [], 0.1)
        for sock in ready:
            assert sock.recv(4096).startswith(asked.pop(sock))
    assert not asked, f"{len(asked)} of 400 were not served"
    assert time.monotonic() - stopped < 1.6
