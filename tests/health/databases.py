"""Real MariaDB and OpenLDAP servers on loopback, in the foreground, each with its files below a directory of the test's.

A constructor returns when the server answers.  `stop` ends it by its id; what it wrote is in its directory.
"""

import datetime as dt
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pymysql
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.loopback import free_port
from tests.e2e.process import Proc, program, until
from tests.e2e.servers import MARIADB_OPTIONS, mariadb_template

if TYPE_CHECKING:
    from collections.abc import Sequence

USER, PASSWORD = "probe", "a-secret-of-the-probe"
HOST = "127.0.0.1"


class Authority:
    """A certificate authority of a test; its own certificate is in `path`, those that it issues beside it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._dir = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Authority")])
        self.path = self._write("ca", self._issue(self._name, self._key, "ca"))

    def certificate(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate for the host `name`, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        path = self._write(name, self._issue(subject, key, name))
        private = self._dir / f"{name}.key"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path, private

    def _issue(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, data: bytes) -> Path:
        path = self._dir / f"{name}.pem"
        path.write_bytes(data)
        return path


class Server:
    """A server in the foreground on one port of loopback."""

    patience: ClassVar[float] = 40.0

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.dir = directory
        self.port = free_port()

    def command(self) -> list[str]:
        """Return how it is started."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and return when it answers."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it."""
        self.proc = Proc(type(self).__name__, self.command(), self.dir / "log")

    def wait(self) -> None:
        """Return when it answers; raises with what it wrote when it does not."""
        deadline = time.monotonic() + self.patience
        while not self.answers():
            if not self.proc.alive or time.monotonic() > deadline:
                raise AssertionError(f"does not answer:\n{self.proc.report()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        self.proc.kill()


class MariaDb(Server):
    """A MariaDB with the account probe, which may see the replication, and bare, which may not; `number` is its server_id."""

    def __init__(self, directory: Path, number: int, *options: str) -> None:
        super().__init__(directory)
        self.number = number
        self.options = options
        shutil.copytree(mariadb_template(), self.dir / "data")
        (self.dir / "init.sql").write_text(
            f"SET sql_log_bin = 0;\nCREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT SLAVE MONITOR ON *.* TO '{USER}'@'%';\n"
            f"CREATE USER IF NOT EXISTS 'bare'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            "CREATE USER IF NOT EXISTS 'old'@'%' IDENTIFIED VIA mysql_old_password USING '2bb5ab9c5b0c3e4d';\n"
            "CREATE USER IF NOT EXISTS 'repl'@'%' IDENTIFIED BY 'repl';\n"
            "GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%';\n"
        )

    def command(self) -> list[str]:
        """Return how it is started, on one address, looking up no names."""
        return [
            program("mariadbd"),
            *MARIADB_OPTIONS,
            *(["--user=root"] if os.geteuid() == 0 else []),
            f"--datadir={self.dir}/data",
            f"--socket={self.dir}/sock",
            f"--pid-file={self.dir}/pid",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            f"--server-id={self.number}",
            f"--init-file={self.dir}/init.sql",
            "--skip-name-resolve",
            "--performance-schema=off",
            "--log-bin=binlog",
            "--binlog-format=ROW",
            *self.options,
        ]

    def answers(self) -> bool:
        """Log in as the administrator, once the port is open: it is the last thing to be."""
        with socket.socket() as port:
            if port.connect_ex((HOST, self.port)):
                return False
        try:
            return self.sql("SELECT @@server_id") == [{"@@server_id": self.number}]
        except pymysql.err.MySQLError:
            return False

    def connect(self, user: str = "root", password: str = "") -> "pymysql.Connection[Any]":
        """Return a session: the administrator's through the file system, others' over TCP."""
        way: dict[str, Any] = (
            {"unix_socket": f"{self.dir}/sock"} if user == "root" else {"host": HOST, "port": self.port}
        )
        return pymysql.connect(
            user=user, password=password, autocommit=True, cursorclass=pymysql.cursors.DictCursor, **way
        )

    def sql(self, *statements: str) -> list[dict[str, Any]]:
        """Return the rows of the last of some statements, the administrator's."""
        rows: Sequence[dict[str, Any]] = ()
        with self.connect() as session, session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = cursor.fetchall()
        return list(rows)

    def replicate(self, source: "MariaDb") -> None:
        """Begin to replicate from the first entry of the binary log of `source` on."""
        self.sql(
            f"CHANGE MASTER TO MASTER_HOST='{HOST}', MASTER_PORT={source.port}, MASTER_USER='repl', "
            "MASTER_PASSWORD='repl', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
            "START SLAVE",
        )

    def status(self) -> dict[str, Any]:
        """Return the state of the default connection to a source."""
        return self.sql("SHOW SLAVE STATUS")[0]

    def until(self, what: str, value: Any) -> None:
        """Wait until a column of the replication's state has a value."""
        until(lambda: self.status()[what] == value, 20, f"{what} = {value}")


class Slapd(Server):
    """OpenLDAP with dc=example,dc=net and three people; cn=admin may bind, and with `source` it is a consumer of that one."""

    base = "dc=example,dc=net"
    admin = f"cn=admin,{base}"

    def __init__(
        self,
        directory: Path,
        *,
        tls: tuple[Path, Path, Path] | None = None,
        source: "Slapd | None" = None,
        extra: str = "",
    ) -> None:
        super().__init__(directory)
        self.tls_port = free_port()
        (self.dir / "db").mkdir()
        certificates = ""
        if tls:
            certificate, key, authority = tls
            certificates = (
                f"TLSCertificateFile {certificate}\nTLSCertificateKeyFile {key}\nTLSCACertificateFile {authority}\n"
            )
        self._urls = f"ldap://{HOST}:{self.port}/" + (f" ldaps://{HOST}:{self.tls_port}/" if tls else "")
        consumer = (
            f"syncrepl rid=001 provider=ldap://{HOST}:{source.port} type=refreshAndPersist retry=1,+ bindmethod=simple\n"
            f'  searchbase="{self.base}" binddn="{self.admin}" credentials={PASSWORD}\n'
            if source
            else ""
        )
        (self.dir / "slapd.conf").write_text(f"""include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {self.dir}/pid
argsfile {self.dir}/args
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload syncprov
threads 4
serverID {2 if source else 1}
{certificates}{extra}
database mdb
maxsize 16777216
suffix "{self.base}"
rootdn "{self.admin}"
rootpw {PASSWORD}
directory {self.dir}/db
index objectClass,uid,entryCSN,entryUUID eq
access to attrs=contextCSN by * read
access to * by * read
{consumer}
overlay syncprov
""")
        if not source:
            self._fill()

    def _fill(self) -> None:
        entries = [
            f"dn: {self.base}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n",
            f"dn: ou=people,{self.base}\nobjectClass: organizationalUnit\nou: people\n",
            (
                f"dn: ou=elsewhere,{self.base}\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\n"
                f"ref: ldap://192.0.2.7/ou=people,{self.base}\n"
            ),
        ]
        entries += [
            f"dn: uid=p{n},ou=people,{self.base}\nobjectClass: inetOrgPerson\nuid: p{n}\ncn: Person {n}\nsn: {n}\n"
            for n in range(3)
        ]
        (self.dir / "entries.ldif").write_text("\n".join(entries))
        load = [program("slapadd"), "-w", "-S", "1", "-f", f"{self.dir}/slapd.conf", "-l", f"{self.dir}/entries.ldif"]
        subprocess.run(load, check=True, capture_output=True)

    def command(self) -> list[str]:
        """Return how it is started; -d keeps it in the foreground, and 256 notes connections and operations."""
        return [program("slapd"), "-f", f"{self.dir}/slapd.conf", "-h", self._urls, "-d", "256"]

    def answers(self) -> bool:
        """Read its root entry."""
        search = ["-x", "-LLL", "-o", "nettimeout=2", "-H", f"ldap://{HOST}:{self.port}", "-s", "base", "-b", ""]
        return subprocess.run([program("ldapsearch"), *search], capture_output=True, check=False).returncode == 0

    def context_csn(self) -> set[str]:
        """Return what its suffix says of the newest changes."""
        read = ["-x", "-LLL", "-H", f"ldap://{HOST}:{self.port}", "-s", "base", "-b", self.base, "contextCSN"]
        done = subprocess.run([program("ldapsearch"), *read], capture_output=True, text=True, check=False)
        return {line for line in done.stdout.splitlines() if line.startswith("contextCSN")}

    def add(self, name: str) -> None:
        """Add a person."""
        entry = f"dn: uid={name},ou=people,{self.base}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: x\nsn: x\n"
        bind = ["-x", "-H", f"ldap://{HOST}:{self.port}", "-D", self.admin, "-w", PASSWORD]
        subprocess.run([program("ldapadd"), *bind], input=entry, text=True, check=True, capture_output=True)


class Galera(MariaDb):
    """A node of a Galera cluster: the first one founds it; another can `join` it, starting from a copy of its files.

    The copy is taken from the first one while it is stopped, so that no state need be transferred: rsync, as root, would drop its rights
    and could not write here.
    """

    def __init__(self, directory: Path, number: int, join: "Galera | None" = None) -> None:
        super().__init__(directory, number)
        if join:
            shutil.rmtree(self.dir / "data")
            shutil.copytree(join.dir / "data", self.dir / "data")
            (self.dir / "data" / "galera.cache").unlink(missing_ok=True)
            (self.dir / "data" / "gvwstate.dat").unlink(missing_ok=True)
            (self.dir / "data").chmod(0o777)
        self.cluster_port, self.state_port, self.ist_port = free_port(), free_port(), free_port()
        members = f"{HOST}:{join.cluster_port}" if join else ""
        self.options = (
            "--wsrep-on=ON",
            "--wsrep-provider=/usr/lib/galera/libgalera_smm.so",
            "--wsrep-cluster-name=test",
            f"--wsrep-cluster-address=gcomm://{members}",
            f"--wsrep-node-address={HOST}",
            f"--wsrep-node-name=node{number}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address={HOST}:{self.state_port}",
            (
                f"--wsrep-provider-options=gmcast.listen_addr=tcp://{HOST}:{self.cluster_port};"
                f"base_host={HOST};base_port={self.cluster_port};ist.recv_addr={HOST}:{self.ist_port};gcache.size=2M;"
                "evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;evs.keepalive_period=PT0.3S;"
                "evs.inactive_check_period=PT0.2S;gcache.page_size=1M"
            ),
            "--innodb-autoinc-lock-mode=2",
        )

    def shut_down(self) -> None:
        """End it cleanly, so that it remembers its position."""
        self.sql("SHUTDOWN")
        self.proc.wait(30)

    def state(self) -> dict[str, str]:
        """Return the variables that tell its part in the cluster."""
        return {row["Variable_name"]: row["Value"] for row in self.sql("SHOW GLOBAL STATUS LIKE 'wsrep%'")}
