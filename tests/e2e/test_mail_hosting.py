"""examples/mail-hosting.toml on real servers, healthy and broken: all of it with `check --live`, a part of it in a daemon."""

import contextlib
import json
import sys

import pymysql
import pytest

from tests.e2e.bed import Bed
from tests.e2e.daemon import ROOT, Daemon, backend_of
from tests.e2e.mailhosting import Site
from tests.e2e.mailservers import PASSWORD, USER
from tests.e2e.process import until

EXAMPLE = ROOT / "examples" / "mail-hosting.toml"


@pytest.fixture(scope="module")
def site():
    """Run all servers that the file names."""
    with Bed() as bed:
        yield Site(bed)


@pytest.fixture(autouse=True)
def _settled(site):
    """Wait until the repairs of the previous test have an effect."""
    site.settle()


@pytest.fixture(scope="module")
def file(site):
    """Return a copy of the file with the password file at a path that this test can write, and no other change."""
    password = site.bed.dir / "mysql.pw"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    text = EXAMPLE.read_text()
    assert text.count("/etc/steelyard/mysql.pw") == 1
    path = site.bed.dir / "mail-hosting.toml"
    path.write_text(text.replace("/etc/steelyard/mysql.pw", str(password)))
    return path


class Checked:
    """The output of `check --live` on lb1, which trusts the site's authority as a system authority."""

    def __init__(self, site, file) -> None:
        site.settle()  # what the test has broken
        command = [sys.executable, "-P", "-m", "proxy", "check", str(file), "--node", "lb1", "--live"]
        trust = f"SSL_CERT_FILE={site.certificates.trusted}"
        done = site.bed.run("lb1", ["env", trust, f"PYTHONPATH={ROOT}", *command, "--json"], timeout=30)
        assert done.returncode in {0, 1}, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        self.code = done.returncode
        self.rows = json.loads(done.stdout)["probes"]
        self.shown = "\n".join(f"{key}: {value}" for key, value in self.found.items())

    @property
    def found(self) -> dict[str, str]:
        """The result of each probe, by service, backend and port, with the reason."""
        return {
            f"{row['service']} {row['backend'].removeprefix('10.0.0.')} {row['port'] or ''}".strip(): (
                f"{'pass' if row['ok'] else 'FAIL'}: {row['reason']}"
            )
            for row in self.rows
        }

    @property
    def failed(self) -> dict[str, str]:
        """The probes that failed."""
        return {key: reason.removeprefix("FAIL: ") for key, reason in self.found.items() if reason.startswith("FAIL")}


STANDBY = {f"mysql-write {n} 3306": "is not a writer: read_only is on" for n in (32, 33)}


def expect(checked: Checked, broken: dict[str, str]) -> None:
    """Assert that only these probes fail, each with a reason that begins with the given text."""
    assert checked.failed.keys() == broken.keys(), checked.shown
    for key, reason in broken.items():
        assert checked.failed[key].startswith(reason), checked.shown
    for row in checked.rows:
        assert row["transcript"][-1] == f"{'pass' if row['ok'] else 'FAIL'}: {row['reason']}"


def test_the_whole_file_passes(site, file):
    """H7, H8, H9, H10: every service passes on healthy servers; in a service for writers a replica is on standby."""
    checked = Checked(site, file)
    assert checked.code == 0, checked.shown
    expect(checked, STANDBY)
    assert len(checked.rows) == 27
    reasons = checked.found
    assert reasons["dns 11 53"].startswith("pass: answered NOERROR over UDP and TCP in ")
    assert reasons["ldap 22 389"].startswith("pass: bound anonymously, 1 entry found in ")
    assert reasons["mysql-write 31 3306"].startswith("pass: writer, answered in ")
    assert reasons["mysql-read 31 3306"] == "pass: writer; kept in reserve behind the replicas"
    assert reasons["mysql-read 32 3306"].startswith("pass: replica 0 s behind, answered in ")
    assert reasons["smtp 41 25"].startswith("pass: answered EHLO in ")
    assert reasons["submission 42 587"].startswith("pass: answered EHLO over TLS in ")
    assert reasons["pop3 51 995"].startswith("pass: greeted over TLS in ")
    assert reasons["imap 52 143"].startswith("pass: greeted in ")
    assert reasons["webmail 61 443"].startswith("pass: answered 200 in ")
    assert reasons["vrrp outside gateway"].startswith("pass: answered in ")


def test_the_first_of_each_is_broken(site, file):
    """H7, H8, H9, H10, H13: if one server of each service is broken in its own way, each is reported with its fault."""
    made = site.certificates
    with contextlib.ExitStack() as faults:
        for fault in (
            site.dnss[0].behind(11),
            site.ldaps[0].certified(made.good["mail.example.net"]),
            site.dbs[1].not_replicating(),
            site.mxs[0].certified(made.expired),
            site.boxes[0].certified(made.foreign),
            site.webs[0].sick(),
            site.filtered("gateway", "icmp type echo-request drop"),
        ):
            faults.enter_context(fault)
        checked = Checked(site, file)
    assert checked.code == 1
    foreign = 'certificate for mail.example.net is signed by "CN=Foreign Authority", which is not trusted'
    expect(
        checked,
        STANDBY
        | {
            "dns 11 53": "serial 2026112589 is 11 behind 10.0.0.12's 2026112600, over max-serial-lag (10)",
            "ldap 21 389": "certificate is for mail.example.net, not ldap.example.net",
            "mysql-read 32 3306": "replication stopped: the SQL thread does not run",
            "submission 41 587": "certificate for mail.example.net expired 3 days ago",
            "pop3 51 995": foreign,
            "imap 51 993": foreign,
            "webmail 61 443": "answered 503",
            "vrrp outside gateway": "no echo reply within 1 s",
        },
    )


def test_the_second_of_each_is_broken(site, file):
    """H3, H4, H7, H8, H9, H10, H13: if the other servers are broken in other ways, each is reported with its fault."""
    with contextlib.ExitStack() as faults:
        for fault in (
            site.filtered("h12", "tcp dport 53 reject with tcp reset"),
            site.left_behind(),
            site.dbs[0].killed(),
            site.mxs[1].stopped(),
            site.boxes[1].without_pop3(),
            site.unplugged("h62"),
        ):
            faults.enter_context(fault)
        for replica in site.dbs[1:]:
            replica.until("Slave_IO_Running", "Connecting")
        checked = Checked(site, file)
    assert checked.code == 1
    expect(
        checked,
        STANDBY
        | {
            "dns 12 53": "over TCP: connection refused",
            "ldap 22 389": "last change is ",
            "mysql-write 31 3306": "connection refused",
            "mysql-read 31 3306": "connection refused",
            "smtp 42 25": "the greeting did not come within 1 s",
            "submission 42 587": "the greeting did not come within 1 s",
            "pop3 52 110": "connection refused",
            "pop3 52 995": "connection refused",
            "webmail 62 443": "no answer to the connect within 1 s",
        },
    )
    assert checked.failed["ldap 22 389"].endswith(" behind 10.0.0.21's, over max-lag (1m)")
    for replica in ("32", "33"):
        assert "replication is cut off: the IO thread is" in checked.found[f"mysql-read {replica} 3306"]


def test_a_replica_that_lags_and_a_password_that_is_wrong(site, file):
    """H8, S6: a replica above max-lag is in reserve, with its lag; a wrong password is reported but never shown."""
    with site.lagging(site.dbs[2], 90):
        checked = Checked(site, file)
    assert checked.code == 0, checked.shown
    reason = checked.found["mysql-read 33 3306"]
    assert reason.startswith("pass: replica 9"), reason
    assert reason.endswith(" s is over max-lag (30s)")
    site.dbs[1].sql("SET sql_log_bin = 0", "SET PASSWORD FOR 'probe'@'%' = PASSWORD('another')", "FLUSH PRIVILEGES")
    try:
        checked = Checked(site, file)
    finally:
        site.dbs[1].sql(
            "SET sql_log_bin = 0", f"SET PASSWORD FOR 'probe'@'%' = PASSWORD('{PASSWORD}')", "FLUSH PRIVILEGES"
        )
    assert checked.code == 1
    denied = "login refused: access denied (1045: "
    expect(checked, STANDBY | {"mysql-write 32 3306": denied, "mysql-read 32 3306": denied})


DAEMON = """
[defaults.probe]
interval = "600ms"
fast-interval = "200ms"
down-interval = "600ms"
timeout = "600ms"

[probe.mysql]
type = "mysql"
user = "probe"
password-file = "{password}"

[service.dns]
listen   = ["10.0.0.2:53/udp", "10.0.0.2:53/tcp"]
protocol = "dns"
backends = ["10.0.0.11", "10.0.0.12"]
probe    = {{ type = "dns", query = "example.net SOA", max-serial-lag = 10 }}

[service.ldap]
listen   = ["10.0.0.2:389/tcp"]
backends = ["10.0.0.21", "10.0.0.22"]

[service.ldap.probe]
type = "ldap"
tls = "starttls"
tls-name = "ldap.example.net"
tls-ca-file = "{trusted}"
base = "dc=example,dc=net"
max-lag = "1s"

[service.mysql-write]
listen    = ["10.0.0.2:3306/tcp"]
backends  = ["10.0.0.31", "10.0.0.32", "10.0.0.33"]
scheduler = "failover"
probe     = {{ use = "mysql", role = "writer" }}

[service.mysql-read]
listen   = ["10.0.0.2:3307/tcp"]
backends = ["10.0.0.31", "10.0.0.32", "10.0.0.33"]
backend-defaults = {{ port = 3306 }}
probe    = {{ use = "mysql", role = "replica-first", max-lag = "30s" }}
"""


@pytest.fixture(scope="module")
def daemon(site, file):
    """Run Steelyard on lb1 with the services of the file that this version supports, and faster probes."""
    text = DAEMON.format(password=file.with_name("mysql.pw"), trusted=site.certificates.trusted)
    made = Daemon(site.bed, "lb1", text, workers=1)
    yield made
    made.stop()


def login(site, port: int) -> "pymysql.Connection":
    """Return a session through the balancer, from the host of a web server."""
    sock = site.bed.socket("h61")
    sock.settimeout(5)
    sock.connect(("10.0.0.2", port))
    session = pymysql.connect(user=USER, password=PASSWORD, defer_connect=True, read_timeout=5)
    session.connect(sock)
    return session


def number(session: "pymysql.Connection") -> int:
    """Return the server's number."""
    with session.cursor() as cursor:
        cursor.execute("SELECT @@server_id")
        return cursor.fetchone()[0]


def reached(site, port: int) -> set[int]:
    """Return the servers that eight simultaneous new sessions reach."""
    with contextlib.ExitStack() as stack:
        return {number(stack.enter_context(login(site, port))) for _ in range(8)}


def states(daemon, service: str) -> list[str]:
    """Return the states of a service's backends."""
    return [b["state"] for s in daemon.status()["services"] if s["name"] == service for b in s["backends"]]


def test_reserve_gets_new_clients_only_when_nobody_else_is_left(site, daemon):
    """H8, H14: writer and replicas are distinguished; a lagging replica keeps its clients and gets new ones only at need."""
    until(lambda: states(daemon, "mysql-read") == ["reserve", "up", "up"], 10, "the replicas")
    assert states(daemon, "mysql-write") == ["up", "down", "down"]
    assert reached(site, 3306) == {1}
    assert reached(site, 3307) == {2, 3}
    kept = next(session for session in iter(lambda: login(site, 3307), None) if number(session) == 3)
    with kept, site.lagging(site.dbs[2], 90):
        status = daemon.until_backend("mysql-read", "10.0.0.33", "reserve")
        assert "is over max-lag (30s)" in backend_of(status, "mysql-read", "10.0.0.33")["reason"]
        assert number(kept) == 3
        assert reached(site, 3307) == {2}
        with site.dbs[1].not_replicating():
            status = daemon.until_backend("mysql-read", "10.0.0.32", "down")
            reason = backend_of(status, "mysql-read", "10.0.0.32")["reason"]
            assert reason.startswith("replication stopped: the SQL thread does not run")
            assert reached(site, 3307) == {1, 3}
        daemon.until_backend("mysql-read", "10.0.0.32", "up")
    daemon.until_backend("mysql-read", "10.0.0.33", "up")


def test_old_data_is_not_served(site, daemon):
    """H7, H9, H13: if a zone or a directory falls behind the others, its server is taken out, with the reason."""
    daemon.until_backend("ldap", "10.0.0.22", "up")
    with site.dnss[0].behind(11), site.left_behind():
        status = daemon.until_backend("dns", "10.0.0.11", "down")
        behind = "serial 2026112589 is 11 behind 10.0.0.12's 2026112600, over max-serial-lag (10) "
        until(lambda: backend_of(daemon.status(), "dns", "10.0.0.11")["reason"].startswith(behind), 10, "the reason")
        status = daemon.until_backend("ldap", "10.0.0.22", "down")
        assert " behind 10.0.0.21's, over max-lag (1s)" in backend_of(status, "ldap", "10.0.0.22")["reason"]
        told = [event["text"] for event in daemon.events()]
        assert any("over max-serial-lag (10)" in text for text in told)
        assert any("over max-lag (1s)" in text for text in told)
    daemon.until_backend("dns", "10.0.0.11", "up")
    daemon.until_backend("ldap", "10.0.0.22", "up")


def test_a_password_that_the_databases_changed(site, daemon, file):
    """H8, S6: if all databases refuse the probe's login, they stay in service, with an alarm until there is a new password."""
    until(lambda: states(daemon, "mysql-read") == ["reserve", "up", "up"], 10, "the replicas")
    before = [states(daemon, service) for service in ("mysql-write", "mysql-read")]
    new = "another-secret-of-the-probe"
    earlier = sum(event["kind"] == "alarm" for event in daemon.events())  # of a first try that failed

    def change(password: str) -> None:
        for db in site.dbs:
            db.sql("SET sql_log_bin = 0", f"SET PASSWORD FOR 'probe'@'%' = PASSWORD('{password}')", "FLUSH PRIVILEGES")

    def alarms() -> list[str]:
        return [event["text"] for event in daemon.events() if event["kind"] == "alarm"][earlier:]

    change(new)
    try:
        until(lambda: len(alarms()) == 2, 10, "an alarm of each service")
        assert all("every backend refuses the mysql login of probe" in text for text in alarms())
        refused = daemon.status()
        assert [states(daemon, service) for service in ("mysql-write", "mysql-read")] == before
        file.with_name("mysql.pw").write_text(f"{new}\n")
        until(lambda: len(alarms()) == 4, 10, "the end of both")
        assert all("over: the mysql login of probe succeeds again" in text for text in alarms()[2:])
    finally:
        change(PASSWORD)
        file.with_name("mysql.pw").write_text(f"{PASSWORD}\n")

    def over() -> bool:  # perhaps one of the services saw the old password refused everywhere as well, or both did
        return 2 * sum("over: the mysql login" in text for text in alarms()) == len(alarms())

    until(lambda: over() and states(daemon, "mysql-read") == before[1], 15, "the old password to be back")
    told = daemon.proc.output() + json.dumps([refused, daemon.status(), daemon.events()])
    assert PASSWORD not in told
    assert new not in told


def test_all_is_well_again(site, file):
    """H7, H8, H9: repaired servers pass again, and the directory's consumer has caught up."""

    def sound() -> bool:
        return Checked(site, file).failed == STANDBY

    until(sound, 20, "all to pass again")
