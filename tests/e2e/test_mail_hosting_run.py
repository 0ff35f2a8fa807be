"""examples/mail-hosting.toml runs: two daemons, all services at once on real servers, faults in each, a host that fails."""

import contextlib
import imaplib
import poplib
import smtplib
import socket
import ssl

import dns.message
import dns.query
import dns.rcode
import pymysql
import pytest

from tests.e2e.bed import Bed
from tests.e2e.daemon import ROOT, Daemon, settled
from tests.e2e.mailhosting import Site
from tests.e2e.mailservers import BASE, LDAP, MAIL, PASSWORD, USER, WEB
from tests.e2e.process import until

EXAMPLE = ROOT / "examples" / "mail-hosting.toml"
OUTSIDE, INSIDE = "198.51.100.10", "10.0.0.10"
ALL = ("dns", "ldap", "mysql-write", "mysql-read", "smtp", "submission", "pop3", "imap", "webmail")


class Clients:
    """The clients of each service: on the gateway's host outside, on a web server's host inside."""

    def __init__(self, site: Site) -> None:
        self.site = site
        # Not the default context: from Python 3.13 on it refuses an authority whose certificate lacks the key usage.
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.load_verify_locations(str(site.certificates.trusted))

    def connect(self, host: str, address: str, port: int) -> socket.socket:
        """Return a connection from a host of the bed."""
        sock = self.site.bed.socket(host)
        sock.settimeout(5)
        sock.connect((address, port))
        return sock

    def dns(self) -> None:
        """Query a zone's serial, over UDP and TCP."""
        query = dns.message.make_query("example.net", "SOA")
        with self.site.bed.socket("h61", kind=socket.SOCK_DGRAM) as sock:
            answer = dns.query.udp(query, INSIDE, timeout=6, sock=sock, port=53)
        assert answer.rcode() == dns.rcode.NOERROR
        assert answer.answer[0][0].serial == 2026112600
        with self.connect("h61", INSIDE, 53) as sock:
            assert dns.query.tcp(query, INSIDE, timeout=6, sock=sock).answer[0][0].serial == 2026112600

    def ldap(self) -> None:
        """Read the base over StartTLS, with a verified certificate."""
        made = self.site.certificates
        search = ["ldapsearch", "-x", "-ZZ", "-LLL", "-H", f"ldap://{LDAP}", "-s", "base", "-b", BASE]
        hosts = self.site.bed.dir / "hosts"
        hosts.write_text(f"{INSIDE} {LDAP}\n")
        wrapped = ["unshare", "-m", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh", *search]
        done = self.site.bed.run("h61", ["env", f"LDAPTLS_CACERT={made.trusted}", *wrapped])
        assert "dc: example" in done.stdout, done.stderr

    def database(self, port: int) -> int:
        """Log in and return which server it is."""
        session = pymysql.connect(user=USER, password=PASSWORD, defer_connect=True, read_timeout=5)
        session.connect(self.connect("h61", INSIDE, port))
        with session, session.cursor() as cursor:
            cursor.execute("SELECT @@server_id")
            number: int = cursor.fetchone()[0]
            return number

    def mysql_write(self) -> None:
        """Reach the writer."""
        assert self.database(3306) == 1

    def mysql_read(self) -> None:
        """Reach a replica."""
        assert self.database(3307) in {2, 3}

    def smtp(self) -> None:
        """Say EHLO."""
        self._mail(25)

    def submission(self) -> None:
        """Send EHLO after STARTTLS, with a verified certificate."""
        self._mail(587)

    def _mail(self, port: int) -> None:
        with smtplib.SMTP(timeout=5) as session:
            session._host = MAIL
            session.sock = self.connect("gateway", OUTSIDE, port)
            assert session.getreply()[0] == 220
            if port == 587:
                session.starttls(context=self.tls)
            assert session.ehlo("client.example.net")[0] == 250

    def pop3(self) -> None:
        """Log in over TLS."""
        raw = self.connect("gateway", OUTSIDE, 995)

        class Session(poplib.POP3):
            def _create_socket(self, _timeout: float) -> socket.socket:
                return tls.wrap_socket(raw, server_hostname=MAIL)

        tls = self.tls
        session = Session(MAIL)
        session.user("somebody")
        session.pass_(PASSWORD)
        session.quit()

    def imap(self) -> None:
        """Log in over TLS, outside and inside."""
        tls = self.tls
        for host, address in (("gateway", OUTSIDE), ("h61", INSIDE)):
            raw = self.connect(host, address, 993)

            class Session(imaplib.IMAP4):
                def _create_socket(self, _timeout: float | None, raw: socket.socket = raw) -> socket.socket:
                    return tls.wrap_socket(raw, server_hostname=MAIL)

            with Session(MAIL) as session:
                session.login("somebody", PASSWORD)

    def webmail(self) -> None:
        """Get a page over TLS."""
        with self.tls.wrap_socket(self.connect("gateway", OUTSIDE, 443), server_hostname=WEB) as sock:
            sock.sendall(f"GET /healthz HTTP/1.0\r\nHost: {WEB}\r\n\r\n".encode())
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")

    def everything(self, times: int = 4) -> None:
        """Use every service `times` times; one failure fails the test."""
        for service in ALL:
            for _ in range(times):
                getattr(self, service.replace("-", "_"))()


class Pair:
    """The daemons of lb1 and lb2 with the same file; lb1 has the addresses."""

    def __init__(self, site: Site) -> None:
        password = site.bed.dir / "mysql.pw"
        password.write_text(f"{PASSWORD}\n")
        password.chmod(0o600)
        text = EXAMPLE.read_text()
        assert text.count("/etc/steelyard/mysql.pw") == 1
        text = text.replace("/etc/steelyard/mysql.pw", str(password))
        # The nodes' names are their hosts', and whom OpenSSL trusts its own matter: nothing else of the file is changed.
        self.lb1, self.lb2 = (
            Daemon(
                site.bed, host, text, workers=workers, ready=lambda _: True, patience=30,
                env={"SSL_CERT_FILE": str(site.certificates.trusted)},
            )
            for host, workers in (("lb1", 2), ("lb2", 1))
        )  # fmt: skip
        for daemon, state in ((self.lb1, "active"), (self.lb2, "backup")):
            daemon.until(
                lambda status, state=state: settled(status) and all(one["state"] == state for one in status["vrrp"]),
                f"the daemon to be {state}",
            )


@pytest.fixture(scope="module")
def site():
    """Run all servers that the file names."""
    with Bed() as bed:
        yield Site(bed)


@pytest.fixture(scope="module")
def pair(site):
    """Run both balancers."""
    return Pair(site)


@pytest.fixture
def clients(site):
    return Clients(site)


def test_every_service_serves(pair, clients):
    """H8, V12: all services of the file serve their clients; both hosts report everything up, also the replicas."""
    clients.everything()
    for daemon in (pair.lb1, pair.lb2):
        done = daemon.cli("status")
        assert done.returncode == 0, done.stdout


def test_a_fault_in_each(site, pair, clients):
    """T9, H7, H8, H9, H10, H13: a server of each service that fails in its own way is reported, and gets no client."""
    made = site.certificates
    broken = {
        ("dns", "10.0.0.11"): "over max-serial-lag (10)",
        ("ldap", "10.0.0.21"): "certificate is for mail.example.net, not ldap.example.net",
        ("mysql-read", "10.0.0.32"): "replication stopped",
        ("smtp", "10.0.0.41"): "did not come within 1 s",
        ("submission", "10.0.0.41"): "did not come within 1 s",
        ("pop3", "10.0.0.51"): "is signed by",
        ("imap", "10.0.0.51"): "is signed by",
        ("webmail", "10.0.0.61"): "answered 503",
    }
    with contextlib.ExitStack() as faults:
        for fault in (
            site.dnss[0].behind(11),
            site.ldaps[0].certified(made.good[MAIL]),
            site.dbs[1].not_replicating(),
            site.mxs[0].stopped(),
            site.boxes[0].certified(made.foreign),
            site.webs[0].sick(),
        ):
            faults.enter_context(fault)

        def found() -> bool:
            down = {
                (service["name"], one["name"]): one["reason"]
                for service in pair.lb1.status()["services"]
                for one in service["backends"]
                if one["state"] == "down" and not (service["name"] == "mysql-write" and "read_only" in one["reason"])
            }
            return down.keys() == broken.keys() and all(broken[key] in reason for key, reason in down.items())

        until(found, 30, "each fault to be named")
        clients.everything()
        assert pair.lb1.cli("status").returncode == 1
    site.settle()
    for daemon in (pair.lb1, pair.lb2):
        until(lambda daemon=daemon: daemon.cli("status").returncode == 0, 40, "all to be well again", every=0.5)


def test_a_host_goes_and_returns(pair, clients):
    """V6, V12: every service continues on the other host, and on the first host when it takes its addresses back."""
    assert pair.lb1.cli("standby").returncode == 0
    pair.lb2.until(lambda status: all(one["state"] == "active" for one in status["vrrp"]), "lb2 to be active")
    clients.everything(2)
    assert pair.lb1.cli("resume").returncode == 0
    pair.lb1.until(lambda status: all(one["state"] == "active" for one in status["vrrp"]), "lb1 to be active")
    clients.everything(2)


def test_the_writer_moves_and_stays(site, pair, clients):
    """H8, H14, T17: the writer dies, a replica is promoted and has the clients at once; the old one's return moves nobody."""
    pair.lb1.until_backend("mysql-write", "10.0.0.31", "up")
    with clients.connect("h61", INSIDE, 3306) as old:
        assert old.recv(1)
        with site.dbs[0].killed():
            with contextlib.suppress(ConnectionResetError):
                while old.recv(4096):
                    pass
            site.dbs[1].sql("STOP SLAVE", "SET GLOBAL read_only = 0")
            pair.lb1.until_backend("mysql-write", "10.0.0.32", "up")
            # Else it returns before it has failed often enough, and goes on serving.
            pair.lb1.until_backend("mysql-write", "10.0.0.31", "down")
            assert {clients.database(3306) for _ in range(4)} == {2}
    site.settle()
    pair.lb1.until_backend("mysql-write", "10.0.0.31", "up")
    assert {clients.database(3306) for _ in range(4)} == {2}
    told = [event["text"] for event in pair.lb1.events() if event["kind"] == "service"]
    # Whichever probe was first: nobody served in between, or the one was seen up before the other down.
    assert any(
        text.startswith(("10.0.0.32 of tier 0 serves", "10.0.0.32 serves, no longer 10.0.0.31")) for text in told
    ), told
