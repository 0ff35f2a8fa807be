"""Real servers of Debian for the bed, in the foreground, each with its files in the bed's directory.

Every server tells which one it is: DNS by the TXT record whoami.example.net, HTTP by /whoami, LDAP by the description
of cn=whoami,dc=example,dc=net, MySQL by @@server_id. A constructor returns when the server answers, and raises
BedError with what the server wrote when it does not.
"""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tests.e2e.bed import Bed
from tests.e2e.process import BedError, EndedError, Proc, program, until

BIG_FILE = 50 * 2**20
DNS_HOSTS = 400  # h0.example.net and up, for varied load and a zone transfer of several messages
DNS_TEXTS = (400, 1000, 3600, 40000)  # txt400.example.net: an answer of somewhat more octets
LDAP_PEOPLE = 50
MYSQL_USER, MYSQL_PASSWORD = "app", "example"


def texts(size: int) -> list[str]:
    """Return TXT records of `size` octets in all, at most 200 in each: a zone transfer cannot carry one huge record."""
    return [f'txt{size}.example.net. 300 IN TXT "{start:06}{"x" * 194}"' for start in range(0, size, 200)]


def records(name: str, serial: int = 1) -> list[str]:
    """Return the zone example.net as lines of a master file, with absolute names, for the server `name`."""
    lines = [
        f"example.net. 300 IN SOA ns.example.net. hostmaster.example.net. {serial} 3600 600 86400 300",
        "example.net. 300 IN NS ns.example.net.",
        "ns.example.net. 300 IN A 192.0.2.1",
        "www.example.net. 300 IN A 192.0.2.80",
        "www.example.net. 300 IN AAAA 2001:db8::80",
        'text.example.net. 300 IN TXT "some text"',
        f'whoami.example.net. 0 IN TXT "{name}"',
    ]
    lines += [f"h{number}.example.net. 300 IN A 192.0.2.{number % 250 + 1}" for number in range(DNS_HOSTS)]
    return lines + [line for size in DNS_TEXTS for line in texts(size)]


class Server:
    """A server on one backend; `name` is what it answers when asked who it is."""

    port: ClassVar[int]
    patience: ClassVar[float] = 10.0

    def __init__(
        self, bed: Bed, host: str, addresses: Sequence[str], name: str | None = None, *, cpus: str | None = None
    ) -> None:
        self.bed, self.host, self.addresses, self.cpus = bed, host, list(addresses), cpus
        self.name = name or host
        self.dir = Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-{host}-", dir=bed.dir))
        self.configure()
        self.start()

    def configure(self) -> None:
        """Write what the server reads."""
        raise NotImplementedError

    def command(self) -> list[str | Path]:
        """Return how it is started in the foreground."""
        raise NotImplementedError

    def answers(self, address: str) -> bool:
        """Whether the server really answers on `address`, asked from its own host."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, again if it was killed, and return when it answers on every address."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it."""
        self.proc: Proc = self.bed.spawn(
            self.host, self.command(), name=f"{type(self).__name__} {self.name}", cpus=self.cpus
        )

    def wait(self) -> None:
        """Return when it answers on every address."""
        for address in self.addresses:
            try:
                until(functools.partial(self._check, address), self.patience, f"{self.name} on {address}")
            except BedError as error:
                message = f"{error}\n{self.proc.report()}"
                raise BedError(message) from error

    def _check(self, address: str) -> bool:
        if not self.proc.alive:
            message = f"{self.name} ended at its start\n{self.proc.report()}"
            raise EndedError(message)
        return self.answers(address)

    def ask(self, argv: Sequence[str | Path]) -> str:
        """Return what a client says on the server's own host, "" when it fails."""
        done = self.bed.run(self.host, argv, timeout=10)
        return "" if done.returncode else done.stdout

    def kill(self) -> None:
        """Kill it: its port is closed from now on."""
        self.proc.kill()

    def stop(self) -> None:
        """Stop it as SIGSTOP does: its port swallows everything."""
        self.proc.stop()

    def cont(self) -> None:
        """Let it go on."""
        self.proc.cont()


class Nsd(Server):
    """An authoritative server for example.net, zone transfer allowed to all."""

    port = 53
    serial = 1

    def configure(self) -> None:
        """Write the zone and nsd.conf. Without rrl-ratelimit 0 it answers 200 queries a second."""
        (self.dir / "zone").write_text("\n".join(records(self.name, self.serial)) + "\n")
        listen = "\n".join(f"  ip-address: {address}@{self.port}" for address in self.addresses)
        (self.dir / "nsd.conf").write_text(f"""server:
{listen}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{self.dir}"
  database: ""
  pidfile: ""
  zonelistfile: "{self.dir}/zone.list"
  xfrdfile: ""
  xfrdir: "{self.dir}"
  ipv4-edns-size: 4096
  ipv6-edns-size: 4096
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: "example.net"
  zonefile: "zone"
  provide-xfr: 0.0.0.0/0 NOKEY
  provide-xfr: ::/0 NOKEY
""")

    def command(self) -> list[str | Path]:
        """Run it with one server process."""
        return ["nsd", "-d", "-c", self.dir / "nsd.conf"]

    def answers(self, address: str) -> bool:
        """Ask for its name."""
        return self.name in self.ask(
            ["dig", "+short", "+tries=1", "+time=1", f"@{address}", "whoami.example.net", "TXT"]
        )


def unbound_binary(directory: Path) -> str:
    """Return the program, a copy of it where AppArmor would deny it every file but those of its package."""
    binary = program("unbound")
    if Path("/etc/apparmor.d/usr.sbin.unbound").exists() and Path("/sys/kernel/security/apparmor").exists():
        return shutil.copy(binary, str(directory / "unbound"))
    return binary


class Unbound(Server):
    """A resolver that has example.net as local data, or forwards it to `forward_to`."""

    port = 53

    def __init__(
        self, bed: Bed, host: str, addresses: Sequence[str], name: str | None = None, forward_to: str | None = None
    ) -> None:
        self.forward_to = forward_to
        super().__init__(bed, host, addresses, name)

    def configure(self) -> None:
        """Write unbound.conf. It cannot reach any root server, and need not."""
        own = "".join(f"  local-data: '{line}'\n" for line in records(self.name) if not line.startswith("txt"))
        zone = f"  local-zone: example.net. static\n{own}"
        forward = ""
        if self.forward_to:
            zone = "  do-not-query-localhost: no\n  local-zone: example.net. transparent\n"
            zone += f"  local-data: 'whoami.example.net. 0 IN TXT \"{self.name}\"'\n"
            forward = f"forward-zone:\n  name: example.net.\n  forward-addr: {self.forward_to}\n"
        listen = "\n".join(f"  interface: {address}" for address in self.addresses)
        (self.dir / "unbound.conf").write_text(f"""server:
{listen}
  port: {self.port}
  username: ""
  chroot: ""
  directory: "{self.dir}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  do-daemonize: no
  num-threads: 1
  module-config: "iterator"
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
{zone}{forward}remote-control:
  control-enable: no
""")

    def command(self) -> list[str | Path]:
        """Run it in the foreground."""
        return [unbound_binary(self.dir), "-d", "-c", self.dir / "unbound.conf"]

    def answers(self, address: str) -> bool:
        """Ask for its name."""
        return self.name in self.ask(
            ["dig", "+short", "+tries=1", "+time=1", f"@{address}", "whoami.example.net", "TXT"]
        )


@functools.cache
def big_file() -> Path:
    """Return a file of 50 MiB of noise, made once a process and removed at its end."""
    path = _scratch() / "big"
    path.write_bytes(os.urandom(BIG_FILE))
    path.chmod(0o644)
    return path


class Nginx(Server):
    """HTTP: /small (1 KiB, keep-alive), /close (the same, then closed), /big (50 MiB), /whoami; PUT below /put/."""

    port = 80

    def configure(self) -> None:
        """Write the files and nginx.conf: one process, for root of a user namespace cannot become another user."""
        root = self.dir / "root"
        (root / "put").mkdir(parents=True)
        (root / "small").write_bytes(b"s" * 1024)
        (root / "close").write_bytes(b"c" * 1024)
        (root / "whoami").write_text(f"{self.name}\n")
        (root / "big").symlink_to(big_file())
        listen = "".join(f"listen {f'[{a}]' if ':' in a else a}:{self.port} backlog=4096; " for a in self.addresses)
        places = " ".join(
            f"{kind}_temp_path {self.dir}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (
            self.dir / "nginx.conf"
        ).write_text(f"""daemon off; master_process off; user root root; pid {self.dir}/pid; error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; server_tokens off; sendfile on; tcp_nopush on; default_type application/octet-stream;
  keepalive_requests 1000000000; keepalive_timeout 300s; client_max_body_size 0; lingering_close off;
  {places}
  server {{
    {listen}
    root {root};
    location /put/ {{ dav_methods PUT DELETE; }}
    location /close {{ keepalive_timeout 0; }}
  }}
}}
""")

    def command(self) -> list[str | Path]:
        """Run it; before it has read its file it logs to stderr too."""
        return ["nginx", "-e", "stderr", "-p", self.dir, "-c", self.dir / "nginx.conf"]

    def answers(self, address: str) -> bool:
        """Ask for its name."""
        host = f"[{address}]" if ":" in address else address
        return self.name in self.ask(["curl", "-sS", "-m", "2", "--noproxy", "*", f"http://{host}:{self.port}/whoami"])


@functools.cache
def _scratch() -> Path:
    path = Path(tempfile.mkdtemp(prefix="bed-shared-"))
    path.chmod(0o755)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


MARIADB_OPTIONS = ("--no-defaults", "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M")


@functools.cache
def mariadb_template() -> Path:
    """Return the files of an empty MariaDB, made once a process; a server starts from a copy."""
    path = _scratch() / "mariadb"
    made = subprocess.run(
        [
            program("mariadb-install-db"),
            *MARIADB_OPTIONS,
            f"--datadir={path}",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ]
        + (["--user=root"] if os.geteuid() == 0 else []),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if made.returncode:
        message = f"mariadb-install-db: exit {made.returncode}\n{made.stdout}{made.stderr}"
        raise BedError(message)
    return path


class MariaDb(Server):
    """A small MariaDB, whose user app (password example) may do everything; @@server_id is `number`."""

    port = 3306
    patience = 30.0

    def __init__(
        self, bed: Bed, host: str, addresses: Sequence[str], number: int = 1, *options: str, cpus: str | None = None
    ) -> None:
        self.number = number
        self.options = options
        super().__init__(bed, host, addresses, cpus=cpus)

    def configure(self) -> None:
        """Copy the template; the accounts come at every start."""
        shutil.copytree(mariadb_template(), self.dir / "data")
        (self.dir / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{MYSQL_USER}'@'%' IDENTIFIED BY '{MYSQL_PASSWORD}';\n"
            f"GRANT ALL ON *.* TO '{MYSQL_USER}'@'%';\n"
        )

    def command(self) -> list[str | Path]:
        """Bind the addresses alone; names of clients are not looked up."""
        return [
            "mariadbd",
            *MARIADB_OPTIONS,
            *(["--user=root"] if os.geteuid() == 0 else []),
            f"--datadir={self.dir}/data",
            f"--socket={self.dir}/sock",
            f"--pid-file={self.dir}/pid",
            f"--bind-address={','.join(self.addresses)}",
            f"--port={self.port}",
            f"--server-id={self.number}",
            f"--init-file={self.dir}/init.sql",
            "--skip-name-resolve",
            "--performance-schema=off",
            "--max-connections=500",
            *self.options,
        ]

    def answers(self, address: str) -> bool:
        """Log in and ask for the number."""
        login = ["mariadb", "--no-defaults", f"-h{address}", f"-P{self.port}", f"-u{MYSQL_USER}", f"-p{MYSQL_PASSWORD}"]
        return self.ask([*login, "-N", "-e", "select @@server_id"]).strip() == str(self.number)


class Slapd(Server):
    """OpenLDAP with dc=example,dc=net: cn=whoami and uid=p0 to p49 below ou=people; cn=admin may bind with "example"."""

    port = 389

    def configure(self) -> None:
        """Write slapd.conf and load the entries."""
        (self.dir / "db").mkdir()
        (self.dir / "slapd.conf").write_text(f"""include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {self.dir}/pid
argsfile {self.dir}/args
modulepath /usr/lib/ldap
moduleload back_mdb
threads 4
database mdb
maxsize 16777216
suffix "dc=example,dc=net"
rootdn "cn=admin,dc=example,dc=net"
rootpw example
directory {self.dir}/db
index objectClass,uid eq
""")
        base = "dc=example,dc=net"
        entries = [
            f"dn: {base}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n",
            f"dn: cn=whoami,{base}\nobjectClass: organizationalRole\ncn: whoami\ndescription: {self.name}\n",
            f"dn: ou=people,{base}\nobjectClass: organizationalUnit\nou: people\n",
        ]
        entries += [
            f"dn: uid=p{n},ou=people,{base}\nobjectClass: inetOrgPerson\nuid: p{n}\ncn: Person {n}\nsn: {n}\n"
            for n in range(LDAP_PEOPLE)
        ]
        (self.dir / "entries.ldif").write_text("\n".join(entries))
        load: list[str | Path] = ["slapadd", "-q", "-f", self.dir / "slapd.conf", "-l", self.dir / "entries.ldif"]
        self.bed.run(self.host, load, check=True)

    def command(self) -> list[str | Path]:
        """Keep it in the foreground, which -d does at every level."""
        urls = " ".join(f"ldap://{f'[{a}]' if ':' in a else a}:{self.port}/" for a in self.addresses)
        return ["slapd", "-f", self.dir / "slapd.conf", "-h", urls, "-d", "0"]

    def answers(self, address: str) -> bool:
        """Search for its name."""
        url = f"ldap://{f'[{address}]' if ':' in address else address}:{self.port}"
        search = ["ldapsearch", "-x", "-LLL", "-o", "nettimeout=2", "-H", url, "-b", "cn=whoami,dc=example,dc=net"]
        return f"description: {self.name}\n" in self.ask(search)
