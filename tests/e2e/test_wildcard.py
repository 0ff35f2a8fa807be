"""A wildcard listener on a host with several addresses, of both families."""

import pytest

from tests.e2e import clients
from tests.e2e.bed import SERVICE, SERVICE6, backend_address, site
from tests.e2e.daemon import Daemon
from tests.e2e.servers import Nsd

MORE = ("198.51.100.11", "198.51.100.12", "203.0.113.7")
MORE6 = ("2001:db8:1::11", "2001:db8:1::12")
FILE = """
[service.dns]
listen   = ["0.0.0.0:53/udp", "[::]:53/udp", "0.0.0.0:53/tcp", "[::]:53/tcp"]
protocol = "dns"
backends = ["10.0.0.11"]
probe    = { type = "dns", query = "example.net SOA", transport = "udp" }
"""


@pytest.fixture(scope="module")
def wild():
    """A balancer with four IPv4 and three IPv6 addresses on the outside and one name server behind it."""
    with site(backends=1) as bed:
        interface = bed.hosts["balancer"].ports["outside"]
        for address in MORE:
            bed.ip("balancer", f"addr add {address}/32 dev {interface}")
        for address in MORE6:
            bed.ip("balancer", f"addr add {address}/128 dev {interface} nodad")
        bed.route("client", "203.0.113.7/32", SERVICE)
        Nsd(bed, "b1", [backend_address(1)])
        Daemon(bed, "balancer", FILE, workers=2)
        yield bed


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("address", [SERVICE, *MORE, SERVICE6, *MORE6])
def test_answers_leave_from_the_address_asked(wild, address, tcp):
    """U11: dig, which accepts no answer from another address, gets one at each of the seven addresses, over UDP and TCP."""
    for _ in range(4):
        assert clients.whoami_dns(wild, address, tcp=tcp) == "b1"


@pytest.mark.parametrize("address", [SERVICE, MORE[2], MORE6[1]])
def test_load_on_one_address(wild, address):
    """U11: under load every single answer comes from the address that the client used."""
    load = clients.dnsperf_start(wild, address, 2, rate=2000, clients=10)
    result = clients.dnsperf_result(load, 30)
    assert result.lost == 0, result.text
    assert result.rcodes == {"NOERROR": result.sent}


def test_a_link_local_address(wild):
    """U11: a query to an IPv6 link-local address is answered on the interface on which it arrived."""
    shown = wild.run("balancer", ["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"], check=True).stdout
    address = shown.split()[3].partition("/")[0]
    assert clients.whoami_dns(wild, f"{address}%eth0") == "b1"
