"""examples/mail-hosting.toml, the whole file, asked by `steelyard check --live` of real servers, sound and broken."""

import contextlib
import json
import sys

import pytest

from tests.e2e.bed import Bed
from tests.e2e.daemon import ROOT
from tests.e2e.mailhosting import Site
from tests.e2e.mailservers import PASSWORD
from tests.e2e.process import until

EXAMPLE = ROOT / "examples" / "mail-hosting.toml"


@pytest.fixture(scope="module")
def site():
    """Run all servers that the file names."""
    with Bed() as bed:
        yield Site(bed)


@pytest.fixture(scope="module")
def file(site):
    """Return a copy of the file, whose password lies where this test may write; nothing else is changed."""
    password = site.bed.dir / "mysql.pw"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    text = EXAMPLE.read_text()
    assert text.count("/etc/steelyard/mysql.pw") == 1
    path = site.bed.dir / "mail-hosting.toml"
    path.write_text(text.replace("/etc/steelyard/mysql.pw", str(password)))
    return path


class Checked:
    """What `check --live` says on lb1, which trusts the authority of the site as its system would."""

    def __init__(self, site, file) -> None:
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
        """How each probe ended, by service, backend and port, with the reason."""
        return {
            f"{row['service']} {row['backend'].removeprefix('10.0.0.')} {row['port'] or ''}".strip(): (
                f"{'pass' if row['ok'] else 'FAIL'}: {row['reason']}"
            )
            for row in self.rows
        }

    @property
    def failed(self) -> dict[str, str]:
        """Those that failed."""
        return {key: reason.removeprefix("FAIL: ") for key, reason in self.found.items() if reason.startswith("FAIL")}


STANDBY = {f"mysql-write {n} 3306": "is no writer: read_only is on" for n in (32, 33)}


def expect(checked: Checked, broken: dict[str, str]) -> None:
    """Assert that these probes fail, each for a reason that begins so, and no others."""
    assert checked.failed.keys() == broken.keys(), checked.shown
    for key, reason in broken.items():
        assert checked.failed[key].startswith(reason), checked.shown
    for row in checked.rows:
        assert row["transcript"][-1] == f"{'pass' if row['ok'] else 'FAIL'}: {row['reason']}"


def test_the_whole_file_passes(site, file):
    """H7, H8, H9, H10: every service of the file passes on sound servers; a replica is on standby where a writer is wanted."""
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
    """H7, H8, H9, H10, H13: one server of each service is broken in its own way, and each is named with what is wrong."""
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
    """H3, H4, H7, H8, H9, H10, H13: the others are broken in other ways, and each is named with what is wrong."""
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
    """H8, S6: a replica over max-lag is in reserve, with its lag; a wrong password is told, and shown by nobody."""
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


def test_all_is_well_again(site, file):
    """H7, H8, H9: servers that are repaired pass again, and the consumer has caught up."""

    def sound() -> bool:
        return Checked(site, file).failed == STANDBY

    until(sound, 20, "all to pass again")
