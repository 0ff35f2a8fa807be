"""Backend sockets heal: after ICMP errors, a dead interface, a lost route, and a change of the balancer's address.

There is one backend and its verdict never changes, so only the sockets themselves can have healed.
"""

import time
from collections.abc import Iterator

import pytest

from tests.e2e import clients
from tests.e2e.bed import INSIDE, INSIDE6, SERVICE, Bed, backend_address, backend_address6, site
from tests.e2e.daemon import Daemon, backend_of
from tests.e2e.process import BedError, until
from tests.e2e.servers import Nsd

FILE = """
[service.dns]
listen   = ["198.51.100.10:53/udp"]
protocol = "dns"
backends = ["10.0.0.11"]
probe    = { type = "none" }

[service.plain]
listen   = ["198.51.100.10:5304/udp"]
backends = ["10.0.0.11:53"]
probe    = { type = "none" }

[service.plain6]
listen   = ["198.51.100.10:5306/udp"]
backends = ["[2001:db8:2::11]:53"]
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
        Nsd(bed, "b1", [backend_address(1), backend_address6(1)])
        yield bed, Daemon(bed, "balancer", FILE, workers=1)


def answered(bed: Bed) -> bool:
    """Whether a query is answered by the backend."""
    try:
        return clients.whoami_dns(bed, SERVICE) == "b1"
    except BedError:
        return False


def all_sockets_used(bed: Bed) -> None:
    """Use every socket, so that the fault affects each of them."""
    for _ in range(20):
        assert answered(bed)


def load(bed: Bed) -> clients.DnsLoad:
    """Send queries over all sockets for a moment; return the results."""
    return clients.dnsperf_result(clients.dnsperf_start(bed, SERVICE, 1, rate=500), 20)


def assert_healed(bed: Bed, daemon: Daemon) -> None:
    """Assert that every query is answered again soon, without a probe."""
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
    """U8: after an ICMP error of any kind, a backend's sockets still send queries and receive answers."""
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
    """U8: after the route to the backends was removed and restored, queries are answered again."""
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


@pytest.mark.parametrize("port", [5304, 5306], ids=["IPv4", "IPv6"])
def test_a_session_outlives_its_address(healing, port):
    """U8: a client of plain UDP that keeps sending is answered again soon after the balancer's address was replaced."""
    bed, daemon = healing
    query = bytes.fromhex("0007 0100 0001 0000 0000 0000 03777777 076578616d706c65 036e6574 00 0001 0001")
    interface = bed.hosts["balancer"].ports["inside"]
    old, new = (INSIDE6, "2001:db8:2::98") if port == 5306 else (backends_source(bed), "10.0.0.98")
    prefix, family = (64, "-6 ") if port == 5306 else (24, "")
    with bed.socket("client", kind=clients.UDP) as client:
        client.connect((SERVICE, port))
        client.settimeout(0.3)

        def answered_here() -> bool:
            client.send(query)
            try:
                return client.recv(512)[:2] == query[:2]
            except TimeoutError:
                return False

        assert answered_here()
        bed.ip(
            "balancer",
            f"{family}addr del {old}/{prefix} dev {interface}",
            f"{family}addr add {new}/{prefix} dev {interface}" + (" nodad" if family else ""),
        )
        if not family:
            bed.route("b1", "default", new)
        until(answered_here, PATIENCE, "answers over the same session")
    assert all(worker["restarts"] == 0 for worker in daemon.status()["workers"])


def backends_source(bed: Bed) -> str:
    """Return the balancer's IPv4 address on the inside, which an earlier test may have replaced."""
    shown = bed.run(
        "balancer", ["ip", "-4", "-o", "addr", "show", "dev", bed.hosts["balancer"].ports["inside"]], check=True
    )
    return shown.stdout.split()[3].partition("/")[0]
