"""The site of examples/mail-hosting.toml: every server that it names, real ones, each on a host of its own.

Addresses, names and ports are those of the file.  The balancers lb1 and lb2 have interfaces eth0 outside and eth1 inside,
and the gateway that they ping is a host from which clients connect.  All servers are launched before any of them is waited for.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.bed import Bed
from tests.e2e.mailservers import LDAP, MAIL, WEB, Database, Directory, Dns, Dovecot, Postfix, Web
from tests.e2e.process import MissingError, until
from tests.health.pki import Authority

GATEWAY = "198.51.100.1"
BALANCERS = {"lb1": ("198.51.100.2", "10.0.0.2", "fd00:10::2"), "lb2": ("198.51.100.3", "10.0.0.3", "fd00:10::3")}


class Certificates:
    """An authority that lb1 trusts, and what it issued; one certificate has expired, one is another authority's."""

    def __init__(self, base: Path) -> None:
        own, other = base / "authority", base / "foreign"
        for path in (own, other):
            path.mkdir()
        authority = Authority(own)
        self.trusted = authority.ca
        self.good = {name: authority.issue(name) for name in (MAIL, LDAP, WEB)}
        self.expired = authority.issue(MAIL, begin=-33.0, end=-3.5)
        self.foreign = Authority(other, "Foreign Authority").issue(MAIL)
        for path in base.rglob("*"):
            path.chmod(0o755)


class Site:
    """The whole site, in its own bed."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.changes = 0
        if sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines()) < 65536:
            raise MissingError("postfix and dovecot start as root only, to become their own users")
        bed.lan("outside")
        bed.lan("inside")
        bed.host("gateway")
        bed.attach("gateway", "outside", f"{GATEWAY}/24")
        for name, (outside, inside, inside6) in BALANCERS.items():
            bed.host(name)
            bed.attach(name, "outside", f"{outside}/24")
            bed.attach(name, "inside", f"{inside}/24", f"{inside6}/64")
        for number in (11, 12, 21, 22, 31, 32, 33, 41, 42, 51, 52, 61, 62):
            bed.host(f"h{number}")
            bed.attach(f"h{number}", "inside", f"10.0.0.{number}/24")
        (bed.dir / "pki").mkdir()
        self.certificates = made = Certificates(bed.dir / "pki")
        self.dbs = [
            Database(bed, "h31", "10.0.0.31", 1),
            *(Database(bed, f"h3{n}", f"10.0.0.3{n}", n, "--read-only=1") for n in (2, 3)),
        ]
        self.mxs = [Postfix(bed, f"h{n}", f"10.0.0.{n}", made.good[MAIL]) for n in (41, 42)]
        self.boxes = [Dovecot(bed, f"h{n}", f"10.0.0.{n}", made.good[MAIL]) for n in (51, 52)]
        self.ldaps = [Directory(bed, "h21", "10.0.0.21", made.good[LDAP])]
        self.ldaps.append(Directory(bed, "h22", "10.0.0.22", made.good[LDAP], "10.0.0.21"))
        self.dnss = [Dns(bed, f"h{n}", [f"10.0.0.{n}"]) for n in (11, 12)]
        self.webs = [Web(bed, f"h{n}", f"10.0.0.{n}", made.good[WEB]) for n in (61, 62)]
        self.servers = (*self.dnss, *self.ldaps, *self.mxs, *self.boxes, *self.webs, *self.dbs)
        self.settle()
        self.dbs[0].sql("CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY AUTO_INCREMENT)")
        for replica in self.dbs[1:]:
            replica.replicate(self.dbs[0])
            replica.until("Slave_IO_Running", "Yes")

    def settle(self) -> None:
        """Wait for all servers that have been launched."""
        for server in self.servers:
            if server.pending:
                server.wait()

    @contextlib.contextmanager
    def filtered(self, host: str, rule: str) -> Iterator[None]:
        """Make a host drop or refuse some of its incoming packets."""
        self.bed.rule(host, "input", rule)
        try:
            yield
        finally:
            self.bed.nft(host, "flush ruleset")

    @contextlib.contextmanager
    def unplugged(self, host: str) -> Iterator[None]:
        """Take a host's link down."""
        self.bed.link(host, "inside", up=False)
        try:
            yield
        finally:
            self.bed.link(host, "inside", up=True)

    @contextlib.contextmanager
    def lagging(self, replica: Database, seconds: int) -> Iterator[None]:
        """Block a replica at a row of that age: its lag is computed from the times in the source's log."""
        replica.delay(3600)
        self.dbs[0].sql(f"SET timestamp = UNIX_TIMESTAMP() - {seconds}", "INSERT INTO app.t VALUES ()")
        try:
            until(lambda: replica.lag >= seconds, 20, f"a lag of {seconds} s")
            yield
        finally:
            replica.delay(0)
            until(lambda: replica.lag == 0, 20, "no lag")

    @contextlib.contextmanager
    def left_behind(self) -> Iterator[None]:
        """Change the directory while its consumer cannot receive the change."""
        self.bed.rule("h22", "input", "ip saddr 10.0.0.21 drop")
        try:
            self.changes += 1
            self.ldaps[0].change(self.changes)
            yield
        finally:
            self.bed.nft("h22", "flush ruleset")
