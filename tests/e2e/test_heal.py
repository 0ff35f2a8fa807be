"""Backend sockets heal: after ICMP errors, a dead interface, a lost route, and a change of the balancer's address.

There is one backend and its verdict never changes, so that nothing but the sockets themselves can be what healed.
"""

import time
from collections.abc import Iterator

import pytest

from tests.e2e import clients
from tests.e2e.bed import INSIDE, SERVICE, Bed, backend_address, site
from tests.e2e.daemon import Daemon, backend_of
from tests.e2e.process import BedError, until
from tests.e2e.servers import Nsd

FILE = """
[service.dns]
listen   = ["198.51.100.10:53/udp"]
protocol = "dns"
backends = ["10.0.0.11"]
probe    = { type = "none" }

[service.dns.dns]
retry-after = "200ms"
give-up     = "1s"
"""
PATIENCE = 3.0  # s until queries are answered again


@pytest.fixture(scope="module")
def healing() -> Iterator[tuple[Bed, Daemon]]:
    """Start a name server and a balancer that never probes it."""
    with site(backends=1) as bed:
        Nsd(bed, "b1", [backend_address(1)])
        yield bed, Daemon(bed, "balancer", FILE, workers=1)


def answered(bed: Bed) -> bool:
    """Whether a query is answered by the backend."""
    try:
        return clients.whoami_dns(bed, SERVICE) == "b1"
    except BedError:
        return False


def all_sockets_used(bed: Bed) -> None:
    """Use every socket, so that each meets the fault."""
    for _ in range(20):
        assert answered(bed)


def load(bed: Bed) -> clients.DnsLoad:
    """Ask for a moment over all sockets; what came of it."""
    return clients.dnsperf_result(clients.dnsperf_start(bed, SERVICE, 1, rate=500), 20)


def assert_healed(bed: Bed, daemon: Daemon) -> None:
    """Soon every query is answered again, and no probe had to say so."""
    mended = time.monotonic()
    until(lambda: answered(bed), PATIENCE, "a first answer")
    until(lambda: load(bed).rcodes.get("SERVFAIL", 0) == 0, PATIENCE, "answers only")
    result = load(bed)
    assert result.rcodes == {"NOERROR": result.sent}, result.text
    assert result.lost == 0
    assert time.monotonic() - mended < 2 * PATIENCE + 3
    assert backend_of(daemon.status(), "dns", "10.0.0.11")["state"] == "up"


@pytest.mark.parametrize(
    "kind", ["port-unreachable", "host-unreachable", "net-unreachable", "admin-prohibited", "prot-unreachable"]
)
def test_icmp_errors(healing, kind):
    """U8: an ICMP error of any kind leaves a backend's sockets able to ask and to hear."""
    bed, daemon = healing
    all_sockets_used(bed)
    bed.rule("b1", "input", f"udp dport 53 reject with icmp type {kind}", family="ip")
    assert load(bed).rcodes.get("NOERROR", 0) == 0
    bed.nft("b1", "flush ruleset")
    assert_healed(bed, daemon)


def test_the_interface_goes_and_comes(healing):
    """U8: after the interface towards the backends was down and up again, queries are answered again."""
    bed, daemon = healing
    all_sockets_used(bed)
    bed.link("balancer", "inside", up=False)
    assert load(bed).rcodes.get("NOERROR", 0) == 0
    bed.link("balancer", "inside", up=True)
    assert_healed(bed, daemon)


def test_the_route_goes_and_comes(healing):
    """U8: after the route to the backends was gone and is back, queries are answered again."""
    bed, daemon = healing
    all_sockets_used(bed)
    interface = bed.hosts["balancer"].ports["inside"]
    bed.ip("balancer", "route del 10.0.0.0/24")
    assert load(bed).rcodes.get("NOERROR", 0) == 0
    bed.ip("balancer", f"route add 10.0.0.0/24 dev {interface} src {INSIDE}")
    assert_healed(bed, daemon)


def test_the_balancers_address_changes(healing):
    """U8: after the balancer's own address was replaced by another, queries are answered again."""
    bed, daemon = healing
    all_sockets_used(bed)
    interface = bed.hosts["balancer"].ports["inside"]
    bed.ip("balancer", f"addr del {INSIDE}/24 dev {interface}", f"addr add 10.0.0.99/24 dev {interface}")
    bed.route("b1", "default", "10.0.0.99")
    assert_healed(bed, daemon)
