"""The main job: one file makes DNS, HTTP, LDAP and MySQL on foreign servers available at one address."""

import hashlib
import json
import os
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e import clients
from tests.e2e.bed import SERVICE, SERVICE6, Bed, backend_address, backend_address6, site
from tests.e2e.daemon import Daemon, backend_of
from tests.e2e.servers import LDAP_PEOPLE, MariaDb, Nginx, Nsd, Slapd, Unbound, big_file

A, A6 = backend_address, backend_address6

FILE = """
[defaults.probe]
interval      = "500ms"
fast-interval = "200ms"
down-interval = "500ms"

[service.dns]
listen    = [
  "198.51.100.10:53/udp", "198.51.100.10:53/tcp",
  "[2001:db8:1::10]:53/udp", "[2001:db8:1::10]:53/tcp",
]
protocol  = "dns"
scheduler = "round-robin"
backends  = ["10.0.0.11", "10.0.0.12", "10.0.0.13", "2001:db8:2::14"]
probe     = { type = "dns", query = "example.net SOA" }

[service.zone]
listen   = ["198.51.100.10:5353/udp", "198.51.100.10:5353/tcp"]
protocol = "dns"
backends = [{ address = "10.0.0.11", port = 53 }, { address = "10.0.0.12", port = 53 }]
probe    = { type = "dns", query = "example.net SOA", port = 53 }

[service.web]
listen    = ["198.51.100.10:80/tcp", "[2001:db8:1::10]:80/tcp"]
scheduler = "rr"
backends  = [{ name = "web1", address = "10.0.0.15" }, { name = "web2", address = "10.0.0.16" }]

[service.ldap]
listen   = ["198.51.100.10:389/tcp"]
backends = ["10.0.0.15", "10.0.0.16"]

[service.mysql]
listen    = ["198.51.100.10:3306/tcp"]
scheduler = "round-robin"
backends  = ["10.0.0.15", "2001:db8:2::16"]
"""


@dataclass
class Site:
    """The bed, its servers by name, and the daemon in front of them."""

    bed: Bed
    web: dict[str, Nginx]
    daemon: Daemon


@pytest.fixture(scope="module")
def services() -> Iterator[Site]:
    """Start two nsd, two unbound, and two hosts with nginx, slapd and MariaDB, and Steelyard in front of them."""
    with site(backends=6) as bed:
        for number in (1, 2):
            Nsd(bed, f"b{number}", [A(number)])
        Unbound(bed, "b3", [A(3)])
        Unbound(bed, "b4", [A6(4)])
        web = {f"b{number}": Nginx(bed, f"b{number}", [A(number)]) for number in (5, 6)}
        for number in (5, 6):
            Slapd(bed, f"b{number}", [A(number)])
            MariaDb(bed, f"b{number}", [A(number), A6(number)], number)
        yield Site(bed, web, Daemon(bed, "balancer", FILE, workers=2))


def ask_until_all(ask, names: set[str], rounds: int = 60) -> Counter[str]:
    """Query at most `rounds` times, until every name has answered twice; return the answers of each."""
    heard: Counter[str] = Counter()
    for _ in range(rounds):
        heard[ask()] += 1
        if set(heard) == names and min(heard.values()) > 1:
            break
    return heard


@pytest.mark.parametrize("address", [SERVICE, SERVICE6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("tcp", [False, True], ids=["UDP", "TCP"])
def test_dns(services, address, tcp):
    """Queries to one address are answered by all four servers and by no others."""
    names = {"b1", "b2", "b3", "b4"}
    assert set(ask_until_all(lambda: clients.whoami_dns(services.bed, address, tcp=tcp), names)) == names


def test_dns_answers_of_every_kind(services):
    """U5: an answer of 3,600 octets passes in fragments, and one record of each type arrives unchanged."""
    whole = clients.dig(
        services.bed, SERVICE, "txt3600.example.net", "TXT", "+noall", "+stats", "+bufsize=4096", "+ignore", port=5353
    )
    assert "(UDP)" in whole
    assert int(whole.split("rcvd: ")[1]) > 3600
    assert clients.dig(services.bed, SERVICE, "www.example.net", "AAAA") == "2001:db8::80"
    assert clients.dig(services.bed, SERVICE, "text.example.net", "TXT") == '"some text"'
    assert "NXDOMAIN" in clients.dig(services.bed, SERVICE, "nowhere.example.net", "A", "+noall", "+comments")


def test_truncated_answers_are_asked_again_over_tcp(services):
    """U4: dig gets a truncated answer, repeats the query over TCP, and gets the whole answer from the same address."""
    text = clients.dig(services.bed, SERVICE, "txt40000.example.net", "TXT", "+answer", "+stats", port=5353)
    assert "Truncated, retrying in TCP mode" in text
    assert "(TCP)" in text
    assert text.count("\tTXT\t") == 200


def test_zone_transfer(services):
    """U16: a zone transfer of several messages passes whole."""
    text = clients.dig(services.bed, SERVICE, "example.net", "AXFR", "+noall", "+stats", port=5353)
    direct = clients.dig(services.bed, A(1), "example.net", "AXFR", "+noall", "+stats")
    assert "messages 4" in text
    assert text[text.index("XFR size") :] == direct[direct.index("XFR size") :]


def test_web(services):
    """Connections to one address alternate between both web servers; kept ones and short ones under load all succeed."""
    names = {"b5", "b6"}
    assert set(ask_until_all(lambda: clients.whoami_http(services.bed, SERVICE), names)) == names
    assert set(ask_until_all(lambda: clients.whoami_http(services.bed, SERVICE6), names)) == names
    for path in ("/small", "/close"):
        load = clients.wrk(services.bed, clients.url(SERVICE, 80, path), 2)
        assert load.requests > 500
        # wrk counts every connection that the server closes by itself as a read error, on /close.
        assert (load.errors if path == "/small" else 0, load.not_ok) == (0, 0)


def test_50_mib_arrive_whole_both_ways(services):
    """T6: 50 MiB downloaded and 50 MiB uploaded keep their SHA-256."""
    source = big_file()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    target = services.bed.dir / "download"
    clients.curl(services.bed, clients.url(SERVICE, 80, "/big"), "-o", str(target))
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
    clients.curl(services.bed, clients.url(SERVICE, 80, "/put/upload"), "-T", str(source))
    copies = [path for server in services.web.values() if (path := server.dir / "root/put/upload").exists()]
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in copies] == [digest]


def test_ldap(services):
    """Searches through one address find every entry, on both servers."""
    names = {"b5", "b6"}
    assert set(ask_until_all(lambda: clients.whoami_ldap(services.bed, SERVICE), names)) == names
    people = clients.ldapsearch(services.bed, SERVICE, "ou=people,dc=example,dc=net", "(uid=*)", "dn")
    assert people.count("dn: ") == LDAP_PEOPLE


def test_mysql(services):
    """T12: the greeting of a server that speaks first arrives; clients log in to both servers and get a large result whole."""
    assert set(ask_until_all(lambda: clients.whoami_mysql(services.bed, SERVICE), {"5", "6"})) == {"5", "6"}
    rows = clients.mysql(services.bed, SERVICE, "select seq, repeat('x', 200) from mysql.seq_1_to_50000")
    assert len(rows.splitlines()) == 50000


def test_status_shows_the_balance(services):
    """Status counts every query and connection at the backend that served it, evenly for round-robin."""
    before = services.daemon.status()
    load = clients.dnsperf_result(clients.dnsperf_start(services.bed, SERVICE, 3, rate=2000), 30)
    assert (load.lost, set(load.rcodes)) == (0, {"NOERROR"})
    after = services.daemon.status()
    names = ["10.0.0.11", "10.0.0.12", "10.0.0.13", "2001:db8:2::14"]
    totals = [backend_of(after, "dns", name)["total"] - backend_of(before, "dns", name)["total"] for name in names]
    assert sum(totals) == load.sent
    assert max(totals) - min(totals) <= 0.05 * statistics.mean(totals)
    for name in names:
        part = backend_of(after, "dns", name)
        assert (part["state"], part["active"]) == ("up", 0)
        assert part["bytes_in"] > 0 < part["bytes_out"]
        assert 0 < part["latency_ms"]["p50"] <= part["latency_ms"]["p99"] < 5000


def test_status_has_its_whole_schema(services):
    """The status document has every promised key, and the exit status is 0 while all is well."""
    done = services.daemon.cli("status", "--json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert {"schema", "node", "version", "uptime_s", "generation", "config", "services", "vrrp", "workers"} <= set(
        status
    )
    assert {"sha256", "valid", "overrides"} <= set(status["config"])
    for service in status["services"]:
        keys = {"name", "protocol", "listen", "scheduler", "state", "quorum", "backends", "counters"}
        assert keys <= set(service)
        for backend in service["backends"]:
            assert {
                "name", "address", "state", "reason", "admin", "admin_by", "admin_reason", "tier", "weight",
                "effective_weight", "active", "queued", "total", "rate", "latency_ms", "bytes_in", "bytes_out", "errors",
                "since", "origin", "probes",
            } <= set(backend)  # fmt: skip
            assert all({"type", "ok", "reason", "latency_ms", "at"} <= set(probe) for probe in backend["probes"])
    assert len(status["workers"]) == 2
    for worker in status["workers"]:
        assert {"index", "pid", "alive", "restarts", "generation", "draining", "heartbeat_age_s"} <= set(worker)
        assert worker["heartbeat_age_s"] < 1
        os.kill(worker["pid"], 0)


def test_a_dead_web_server_is_not_noticed(services):
    """T9, H13: a killed server costs no request; status and events say why it is down; it returns by itself."""
    server = services.web["b5"]
    server.kill()
    try:
        assert {clients.whoami_http(services.bed, SERVICE) for _ in range(30)} == {"b6"}
        status = services.daemon.until_backend("web", "web1", "down", timeout=10)
        assert "refused" in backend_of(status, "web", "web1")["reason"]
        assert services.daemon.cli("status").returncode == 1
        told = [event for event in services.daemon.events() if "web1" in str(event) and "refused" in str(event)]
        assert told
    finally:
        server.start()
    services.daemon.until_backend("web", "web1", "up", timeout=10)
    names = {"b5", "b6"}
    assert set(ask_until_all(lambda: clients.whoami_http(services.bed, SERVICE), names)) == names
