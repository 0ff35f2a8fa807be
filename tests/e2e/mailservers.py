"""The servers of examples/mail-hosting.toml: launched at once, waited for later, each with ways to break.

with directory.certified(another), box.without_pop3():
...  # broken; as before when the block ends
"""

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql

from tests.e2e.bed import Bed, processes_in
from tests.e2e.process import until
from tests.e2e.servers import MariaDb, Nginx, Nsd, Server, Slapd
from tests.health.dovecot import configuration
from tests.health.pki import Issued

USER, PASSWORD = "probe", "a-secret-of-the-probe"
BASE = "dc=example,dc=net"
OLD = "20260101000000.000000Z#000000#001#000000"  # when the directory was last changed, before the test does
SERIAL = 2026112600
MAIL, LDAP, WEB = "mail.example.net", "ldap.example.net", "webmail.example.net"


class Early(Server):
    """A server that is launched at once and waited for later; it is ready when its ports are open."""

    ports: tuple[int, ...] = ()
    pending = False  # launched and not yet waited for

    def start(self) -> None:
        """Launch it."""
        self.dir.chmod(0o755)  # for servers that become other users
        self.launch()

    def launch(self) -> None:
        """Start it; `wait` is for later, so that several start together."""
        super().launch()
        self.pending = True

    def wait(self) -> None:
        """Return when it answers."""
        super().wait()
        self.pending = False

    def answers(self, address: str) -> bool:
        """Whether every port is open."""
        for port in self.ports:
            with self.bed.inside(self.host), socket.socket() as sock:
                sock.settimeout(1)
                if sock.connect_ex((address, port)):
                    return False
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the host."""
        for pid in _processes(self.bed, self.host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Kill every process of the host, and return when they are gone."""
        self.pending = False
        self.signal(signal.SIGKILL)
        self.proc.popen.wait(10)
        until(lambda: not _processes(self.bed, self.host), 5, f"the processes of {self.host} to end", every=0.01)

    @contextlib.contextmanager
    def otherwise(self) -> Iterator[None]:
        """Run it in another configuration, which the block's beginning has written, and then in its own one again."""
        self.restart()
        try:
            yield
        finally:
            self.configure()
            self.restart()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.launch()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it as SIGSTOP does: its ports swallow everything."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Kill it for a while."""
        self.kill()
        try:
            yield
        finally:
            self.launch()


def _processes(bed: Bed, host: str) -> list[int]:
    holder = bed.hosts[host].holder.pid
    return [pid for pid in processes_in({bed.hosts[host].inode}) if pid != holder]


class Dns(Early, Nsd):
    """nsd, both with the same serial."""

    serial = SERIAL

    def answers(self, address: str) -> bool:
        """Ask for its name."""
        return Nsd.answers(self, address)

    @contextlib.contextmanager
    def behind(self, count: int) -> Iterator[None]:
        """Serve a zone that is older by `count`."""
        self.serial = SERIAL - count
        self.configure()
        self.serial = SERIAL
        with self.otherwise():
            yield


class Directory(Early, Slapd):
    """slapd with TLS; one that has a `source` is its consumer (RFC 4533)."""

    ports = (389, 636)

    def __init__(self, bed: Bed, host: str, address: str, certificate: Issued, source: str | None = None) -> None:
        self.certificate, self.source = certificate, source
        super().__init__(bed, host, [address])

    def configure(self) -> None:
        """Write slapd.conf, and at first the entries, whose last change was long ago."""
        consumer = (
            f"syncrepl rid=001 provider=ldap://{self.source} type=refreshAndPersist retry=1,+ keepalive=1:1:1\n"
            f'  bindmethod=simple searchbase="{BASE}" binddn="cn=admin,{BASE}" credentials=example\n'
            if self.source
            else ""
        )
        (self.dir / "slapd.conf").write_text(f"""include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
pidfile {self.dir}/pid
argsfile {self.dir}/args
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload syncprov
threads 4
serverID {2 if self.source else 1}
TLSCertificateFile {self.certificate.certificate}
TLSCertificateKeyFile {self.certificate.key}
database mdb
maxsize 16777216
suffix "{BASE}"
rootdn "cn=admin,{BASE}"
rootpw example
directory {self.dir}/db
index objectClass,entryCSN,entryUUID eq
{consumer}overlay syncprov
""")
        if not (self.dir / "db").exists():
            (self.dir / "db").mkdir()
            if not self.source:
                entry = f"objectClass: organization\no: Example\ndc: example\nentryCSN: {OLD}\n"
                (self.dir / "base.ldif").write_text(f"dn: {BASE}\nobjectClass: dcObject\n{entry}")
                load: list[str | Path] = ["slapadd", "-w", "-S", "1", "-f", self.dir / "slapd.conf"]
                self.bed.run(self.host, [*load, "-l", self.dir / "base.ldif"], check=True)

    def command(self) -> list[str | Path]:
        """Keep it in the foreground; 256 notes connections and operations."""
        urls = f"ldap://{self.addresses[0]}/ ldaps://{self.addresses[0]}/"
        return ["slapd", "-f", self.dir / "slapd.conf", "-h", urls, "-d", "256"]

    def answers(self, address: str) -> bool:
        """Whether it has the base, which a consumer has once it has met its source."""
        read = ["ldapsearch", "-x", "-LLL", "-o", "nettimeout=2", "-H", f"ldap://{address}", "-s", "base", "-b", BASE]
        return Early.answers(self, address) and "dc: example" in self.ask(read)

    def change(self, number: int) -> None:
        """Make a change now."""
        entry = f"dn: o=n{number},{BASE}\nobjectClass: organization\no: n{number}\n"
        (self.dir / "change.ldif").write_text(entry)
        bind: list[str | Path] = ["-x", "-H", f"ldap://{self.addresses[0]}", "-D", f"cn=admin,{BASE}", "-w", "example"]
        self.bed.run(self.host, ["ldapadd", *bind, "-f", self.dir / "change.ldif"], check=True)

    @contextlib.contextmanager
    def certified(self, other: Issued) -> Iterator[None]:
        """Show another certificate."""
        own, self.certificate = self.certificate, other
        self.configure()
        self.certificate = own
        with self.otherwise():
            yield


class Database(Early, MariaDb):
    """MariaDB with the account of the probe and one for replicas."""

    ports = (3306,)
    patience = 40.0

    def __init__(self, bed: Bed, host: str, address: str, number: int, *options: str) -> None:
        super().__init__(bed, host, [address], number, "--log-bin=binlog", "--slave-net-timeout=2", *options)

    def configure(self) -> None:
        """Write the accounts; they come at every start, and are no part of what is replicated."""
        super().configure()
        (self.dir / "init.sql").write_text(
            f"SET sql_log_bin = 0;\nCREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT SLAVE MONITOR ON *.* TO '{USER}'@'%';\n"
            "CREATE USER IF NOT EXISTS 'repl'@'%' IDENTIFIED BY 'repl';\nGRANT REPLICATION SLAVE ON *.* TO 'repl'@'%';\n"
        )

    def answers(self, address: str) -> bool:
        """Whether its port is open, which is the last thing to be."""
        return Early.answers(self, address)

    def sql(self, *statements: str) -> list[dict[str, Any]]:
        """Return the rows of the last of some statements, the administrator's, who comes through the file system."""
        rows: Any = ()
        with (
            pymysql.connect(
                user="root", unix_socket=f"{self.dir}/sock", autocommit=True, cursorclass=pymysql.cursors.DictCursor
            ) as session,
            session.cursor() as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)
                rows = cursor.fetchall()
        return list(rows)

    def replicate(self, source: "Database") -> None:
        """Replicate."""
        self.sql(
            f"CHANGE MASTER TO MASTER_HOST='{source.addresses[0]}', MASTER_USER='repl', MASTER_PASSWORD='repl', "
            f"MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
            "START SLAVE",
        )

    def delay(self, seconds: int) -> None:
        """Replicate each change that late."""
        self.sql("STOP SLAVE", f"CHANGE MASTER TO MASTER_DELAY={seconds}", "START SLAVE")

    def until(self, what: str, value: Any) -> None:
        """Wait until a column of the replication's state has a value."""
        until(lambda: self.sql("SHOW SLAVE STATUS")[0][what] == value, 20, f"{what} = {value} on {self.host}")

    @property
    def lag(self) -> int:
        """Seconds that it is behind its source."""
        return int(self.sql("SHOW SLAVE STATUS")[0]["Seconds_Behind_Master"] or 0)

    @contextlib.contextmanager
    def not_replicating(self) -> Iterator[None]:
        """Stop the thread that carries out what has come."""
        self.sql("STOP SLAVE SQL_THREAD")
        try:
            yield
        finally:
            self.sql("START SLAVE SQL_THREAD")
            self.until("Slave_SQL_Running", "Yes")


class Postfix(Early):
    """postfix on 25 and 587, which want PROXY headers and offer STARTTLS."""

    ports = (25, 587)

    def __init__(self, bed: Bed, host: str, address: str, certificate: Issued) -> None:
        self.certificate = certificate
        super().__init__(bed, host, [address])

    def configure(self) -> None:
        """Write main.cf and master.cf."""
        for name in ("conf", "queue", "data"):
            (self.dir / name).mkdir(exist_ok=True)
        shutil.chown(self.dir / "data", "postfix")
        (self.dir / "conf" / "main.cf").write_text(f"""compatibility_level = 3.6
queue_directory = {self.dir}/queue
data_directory = {self.dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = {MAIL}
mydestination =
inet_interfaces = {self.addresses[0]}
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
maillog_file = {self.dir}/maillog
maillog_file_prefixes = {self.dir}
alias_maps =
alias_database =
local_recipient_maps =
smtpd_tls_cert_file = {self.certificate.certificate}
smtpd_tls_key_file = {self.certificate.key}
smtpd_tls_security_level = may
smtpd_upstream_proxy_protocol = haproxy
""")
        (self.dir / "conf" / "master.cf").write_text(f"""{self.addresses[0]}:25 inet n - n - - smtpd
{self.addresses[0]}:587 inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
""")

    def command(self) -> list[str | Path]:
        """Keep it in the foreground."""
        return ["postfix", "-c", self.dir / "conf", "start-fg"]

    @contextlib.contextmanager
    def certified(self, other: Issued) -> Iterator[None]:
        """Show another certificate."""
        own, self.certificate = self.certificate, other
        self.configure()
        self.certificate = own
        with self.otherwise():
            yield


class Dovecot(Early):
    """dovecot for POP3 and IMAP, in clear text and in TLS, each behind PROXY headers."""

    ports: tuple[int, ...] = (110, 143, 993, 995)

    def __init__(self, bed: Bed, host: str, address: str, certificate: Issued) -> None:
        self.certificate = certificate
        super().__init__(bed, host, [address])

    def configure(self) -> None:
        """Write dovecot.conf, and give it a place for mail."""
        (self.dir / "mail").mkdir(exist_ok=True)
        shutil.chown(self.dir / "mail", "mail", "mail")
        self._write()

    def _write(self, certificate: Issued | None = None, protocols: str = "imap pop3") -> None:
        shown = certificate or self.certificate
        listeners = "".join(
            f"service {name}-login {{\n"
            f"  inet_listener {name} {{\n    port = {plain}\n    haproxy = yes\n  }}\n"
            f"  inet_listener {name}s {{\n    port = {secure}\n    haproxy = yes\n    ssl = yes\n  }}\n}}\n"
            for name, plain, secure in (("imap", 143, 993), ("pop3", 110, 995))
            if name in protocols
        )
        text = configuration(
            self.dir, listeners, protocols=protocols, listen=self.addresses[0], trusted="10.0.0.0/24",
            password=PASSWORD, certificate=shown,
        )  # fmt: skip
        (self.dir / "dovecot.conf").write_text(text)

    def command(self) -> list[str | Path]:
        """Keep it in the foreground."""
        return ["dovecot", "-F", "-c", self.dir / "dovecot.conf"]

    @contextlib.contextmanager
    def certified(self, other: Issued) -> Iterator[None]:
        """Show another certificate."""
        self._write(other)
        with self.otherwise():
            yield

    @contextlib.contextmanager
    def without_pop3(self) -> Iterator[None]:
        """Speak IMAP alone."""
        self._write(protocols="imap")
        every, self.ports = self.ports, (143, 993)
        self.restart()
        try:
            yield
        finally:
            self.ports = every
            self.configure()
            self.restart()


class Web(Early, Nginx):
    """nginx with TLS behind PROXY headers; /healthz says 200, or 503 while it is sick."""

    ports = (80, 443)

    def __init__(self, bed: Bed, host: str, address: str, certificate: Issued) -> None:
        self.certificate = certificate
        super().__init__(bed, host, [address])

    def configure(self) -> None:
        """Write nginx.conf."""
        address = self.addresses[0]
        places = " ".join(
            f"{kind}_temp_path {self.dir}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.dir / "nginx.conf").write_text(f"""daemon off; master_process off; user root root; pid {self.dir}/pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off; {places}
  server {{
    listen {address}:80 proxy_protocol; listen {address}:443 ssl proxy_protocol;
    server_name {WEB};
    ssl_certificate {self.certificate.certificate}; ssl_certificate_key {self.certificate.key};
    location = /healthz {{ if (-f {self.dir}/sick) {{ return 503; }} return 200 "well\n"; }}
  }}
}}
""")

    def answers(self, address: str) -> bool:
        """Whether both ports are open."""
        return Early.answers(self, address)

    @contextlib.contextmanager
    def sick(self) -> Iterator[None]:
        """Answer 503."""
        (self.dir / "sick").touch()
        try:
            yield
        finally:
            (self.dir / "sick").unlink()
