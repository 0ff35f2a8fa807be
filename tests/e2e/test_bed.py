"""The bed itself: its servers really answer, its faults really happen, and nothing remains of it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import clients
from tests.e2e.bed import (
    CLIENT,
    OWN_NAMESPACE,
    SERVICE,
    SERVICE6,
    Bed,
    backend_address,
    backend_address6,
    processes_in,
    site,
)
from tests.e2e.process import BedError, EndedError, MissingError, until
from tests.e2e.servers import DNS_HOSTS, LDAP_PEOPLE, MariaDb, Nginx, Nsd, Slapd, Unbound

ROOT = Path(__file__).parents[2]
A, A6 = backend_address, backend_address6

# Builds a bed with a server and a client in it, and prints what the server answered.
SMALL_PART = """
from tests.e2e.bed import backend_address6, site
from tests.e2e.clients import whoami_dns
from tests.e2e.servers import Nsd
with site(backends=1) as bed:
    Nsd(bed, "b1", [backend_address6(1)])
    print(whoami_dns(bed, backend_address6(1)))
"""


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    """Make a client, a balancer that routes, and five backends without servers."""
    with site(backends=5) as made:
        yield made


def test_hosts_reach_each_other(bed):
    """Every host reaches every other one over IPv4 and IPv6; the client reaches the backends through the balancer."""
    for target in (SERVICE, SERVICE6, A(1), A(5), A6(1), A6(5)):
        bed.run("client", ["ping", "-c", "1", "-W", "2", target], check=True)
    bed.run("b1", ["ping", "-c", "1", "-W", "2", CLIENT], check=True)


def test_dns_servers_answer(bed):
    """Nsd and unbound answer the client over UDP and TCP, IPv4 and IPv6, each with its own name."""
    nsd, unbound = Nsd(bed, "b1", [A(1), A6(1)]), Unbound(bed, "b2", [A(2), A6(2)])
    try:
        for server, addresses in ((nsd, (A(1), A6(1))), (unbound, (A(2), A6(2)))):
            for address in addresses:
                for tcp in (False, True):
                    assert clients.whoami_dns(bed, address, tcp=tcp) == server.name
        transfer = clients.dig(bed, A(1), "example.net", "AXFR", "+noall", "+stats")
        assert "messages 4" in transfer
        assert clients.dig(bed, A(2), f"h{DNS_HOSTS - 1}.example.net").startswith("192.0.2.")
        whole = clients.dig(bed, A(1), "txt3600.example.net", "TXT", "+noall", "+stats", "+bufsize=4096", "+ignore")
        assert "(UDP)" in whole
        assert int(whole.split("rcvd: ")[1]) > 3600
    finally:
        nsd.kill()
        unbound.kill()


def test_unbound_forwards(bed):
    """An unbound that forwards gets its answers from the server behind it, except for its own name."""
    nsd = Nsd(bed, "b1", [A(1)])
    unbound = Unbound(bed, "b2", [A(2)], forward_to=A(1))
    try:
        assert clients.whoami_dns(bed, A(2)) == "b2"
        assert clients.dig(bed, A(2), "www.example.net") == "192.0.2.80"
    finally:
        nsd.kill()
        unbound.kill()


def test_nginx_answers(bed):
    """Nginx serves small files on kept connections, closes on request, sends 50 MiB and accepts a file."""
    server = Nginx(bed, "b3", [A(3), A6(3)])
    try:
        assert clients.whoami_http(bed, A6(3)) == "b3"
        kept = clients.wrk(bed, clients.url(A(3), 80, "/small"), 1)
        closed = clients.wrk(bed, clients.url(A(3), 80, "/close"), 1)
        assert kept.requests > closed.requests > 0
        assert kept.errors == kept.not_ok == closed.not_ok == 0
        size = clients.curl(bed, clients.url(A(3), 80, "/big"), "-o", "/dev/null", "-w", "%{size_download}")
        assert int(size) == 50 * 2**20
        upload = bed.dir / "upload"
        upload.write_bytes(b"some text")
        clients.curl(bed, clients.url(A(3), 80, "/put/file"), "-T", str(upload))
        assert (server.dir / "root/put/file").read_bytes() == b"some text"
    finally:
        server.kill()


def test_mariadb_and_slapd_answer(bed):
    """MariaDB lets the client log in with a password, slapd lets it search, both over IPv4 and IPv6."""
    database, directory = MariaDb(bed, "b4", [A(4), A6(4)], 4), Slapd(bed, "b5", [A(5), A6(5)])
    try:
        assert clients.whoami_mysql(bed, A(4)) == clients.whoami_mysql(bed, A6(4)) == "4"
        assert clients.whoami_ldap(bed, A(5)) == clients.whoami_ldap(bed, A6(5)) == "b5"
        people = clients.ldapsearch(bed, A(5), "ou=people,dc=example,dc=net", "(uid=*)", "dn")
        assert people.count("dn: ") == LDAP_PEOPLE
        with pytest.raises(BedError, match="Access denied"):
            bed.run("client", ["mariadb", "--no-defaults", f"-h{A(4)}", "-uapp", "-pwrong"], check=True)
    finally:
        database.kill()
        directory.kill()


def test_killed_stopped_and_started_again(bed):
    """A killed server refuses, a stopped one is silent, and each answers again when it is back."""
    server = Nsd(bed, "b1", [A(1)])
    try:
        server.kill()
        with pytest.raises(BedError, match="refused"):
            clients.whoami_dns(bed, A(1))
        server.start()
        assert clients.whoami_dns(bed, A(1)) == "b1"
        server.stop()
        with pytest.raises(BedError, match="timed out"):
            clients.dig(bed, A(1), "whoami.example.net", "TXT", "+time=1")
        server.cont()
        assert clients.whoami_dns(bed, A(1)) == "b1"
    finally:
        server.kill()


def test_faults_of_hosts(bed):
    """An nftables rule or a link that is down cuts off only one backend, until it is undone."""

    def reaches(address: str) -> bool:
        return bed.run("balancer", ["ping", "-c", "1", "-W", "1", address]).returncode == 0

    bed.rule("b1", "input", "ip saddr 10.0.0.10 drop")
    assert not reaches(A(1))
    assert reaches(A(2))
    bed.nft("b1", "flush ruleset")
    assert reaches(A(1))
    bed.link("b1", "inside", up=False)
    assert not reaches(A(1))
    bed.link("b1", "inside", up=True)
    until(lambda: reaches(A(1)), 5, "the link to be up")


def test_sockets_of_hosts(bed):
    """A socket made for a host belongs to it, and the thread that made it is where it was before."""
    home = OWN_NAMESPACE.stat().st_ino
    with bed.inside("b1"):
        assert OWN_NAMESPACE.stat().st_ino == bed.hosts["b1"].inode != home
    assert OWN_NAMESPACE.stat().st_ino == home
    server, client = (
        bed.socket("b1", socket.AF_INET6, socket.SOCK_DGRAM),
        bed.socket("client", socket.AF_INET6, socket.SOCK_DGRAM),
    )
    server.settimeout(2)
    server.bind((A6(1), 7))
    client.sendto(b"hello", (A6(1), 7))
    assert server.recvfrom(10)[0] == b"hello"


def test_nothing_stays():
    """When a bed ends, its namespaces, files and processes are gone: stopped ones, and ones that left their group."""
    with site(backends=1) as bed:
        server = Nsd(bed, "b1", [A(1)])
        server.stop()
        away = bed.spawn("b1", ["setsid", "--fork", "sleep", "1000"])
        away.wait(5)
        namespaces = {host.inode for host in bed.hosts.values()}
        assert len(processes_in(namespaces)) >= len(bed.hosts) + 2
        directory = bed.dir
    until(lambda: not processes_in(namespaces), 2, "the namespaces to be empty")
    assert not directory.exists()


def test_nothing_stays_of_a_killed_bed():
    """When the process that made a bed is killed, its servers and namespaces go with it."""
    script = SMALL_PART.replace(
        "print(whoami",
        "import os, time\n    print(bed.dir, *(h.inode for h in bed.hosts.values()), flush=True)\n    time.sleep(60), (whoami",
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as victim:
        directory, *inodes = victim.stdout.readline().split()
        victim.kill()
    namespaces = {int(inode) for inode in inodes}
    until(lambda: not processes_in(namespaces), 5, "the namespaces to be empty")
    subprocess.run(["rm", "-r", directory], check=True)


def test_without_root():
    """The root of a user namespace, which any user can become, runs the same bed with the same servers."""
    wrapped = ["unshare", "--map-root-user", "--net", "--"]
    if subprocess.run([*wrapped, "true"], capture_output=True, check=False).returncode:
        raise MissingError("this kernel lets nobody make a user namespace")
    done = subprocess.run(
        [*wrapped, sys.executable, "-c", SMALL_PART], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("b1\n", "")


def test_failing_server_shows_its_output(bed):
    """A server that cannot start fails at once, and the error shows its output."""
    began = time.monotonic()
    with pytest.raises(EndedError, match="can't bind udp socket"):
        Nsd(bed, "b1", [A(3)])
    assert time.monotonic() - began < Nsd.patience
