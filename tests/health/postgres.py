"""Real PostgreSQL servers on loopback, in the foreground: a primary and standbys that follow it."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.process import MissingError, program, until
from tests.health.databases import HOST, PASSWORD, USER, Server

_OWNER = "postgres"  # as root: the server refuses to run as root


def binary(name: str) -> str:
    """Return the path of a program of PostgreSQL's newest version here; raises MissingError."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    if not found:
        raise MissingError(f"{name} is not installed (tests/packages.txt: postgresql)")
    return str(found[-1])


def _as_owner(*command: str) -> list[str]:
    if os.geteuid():
        return list(command)
    # A change of the user clears the death signal that Proc has set: setpriv sets it again.
    return [
        program("setpriv"),
        "--pdeathsig=KILL",
        f"--reuid={_OWNER}",
        f"--regid={_OWNER}",
        "--clear-groups",
        *command,
    ]


class Postgres(Server):
    """A PostgreSQL with the account probe, which logs in by SCRAM, and others by way of login; `options` are settings."""

    def __init__(self, directory: Path, *options: str, follows: "Postgres | None" = None) -> None:
        super().__init__(directory)
        self.options = options
        if not os.geteuid():
            shutil.chown(self.dir, _OWNER, _OWNER)
        data = self.dir / "data"
        if follows is None:
            self._run(
                binary("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"
            )
            (data / "pg_hba.conf").write_text(
                f"local all all trust\nhost replication all {HOST}/32 trust\n"
                f"hostssl all secure {HOST}/32 scram-sha-256\nhostnossl all secure {HOST}/32 reject\n"
                f"host all clear {HOST}/32 password\nhost all old {HOST}/32 md5\nhost all strange {HOST}/32 gss\n"
                f"host all trusted {HOST}/32 trust\nhost all all {HOST}/32 scram-sha-256\n"
            )
        else:
            source = [f"--host={HOST}", f"--port={follows.port}", "--username=postgres", "--checkpoint=fast", "-R"]
            self._run(binary("pg_basebackup"), "-D", str(data), *source)
        self.first = follows is None

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(_as_owner(*command), check=True, capture_output=True, cwd="/")

    def command(self) -> list[str]:
        """Return how it is started: without a promise to the disk, which the tests do not need."""
        settings = (f"port={self.port}", f"listen_addresses={HOST}", f"unix_socket_directories={self.dir}")
        quick = ("fsync=off", "shared_buffers=8MB", "max_connections=12", "wal_receiver_status_interval=1s",
                 "wal_retrieve_retry_interval=200ms", "autovacuum=off")  # fmt: skip
        given = [part for setting in (*settings, *quick, *self.options) for part in ("-c", setting)]
        return _as_owner(binary("postgres"), "-D", str(self.dir / "data"), *given)

    def answers(self) -> bool:
        """Ask it as the administrator once its port is open, and make the accounts at the first time."""
        with socket.socket() as port:
            if port.connect_ex((HOST, self.port)):
                return False
        try:
            self.sql("SELECT 1")
        except subprocess.CalledProcessError:
            return False
        if self.first:
            self.first = False
            for name in (USER, "clear", "secure", "strange", "trusted"):
                self.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
            self.sql(f"SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD '{PASSWORD}'")
            self.sql("CREATE DATABASE app")
            self.sql("CREATE TABLE t (id int, words text); INSERT INTO t VALUES (1, 'one'); GRANT SELECT ON t TO public",
                     database="app")  # fmt: skip
        return True

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Return the rows of the administrator's statement as psql prints them, unaligned."""
        way = [f"--host={self.dir}", f"--port={self.port}", "--username=postgres", f"--dbname={database}"]
        asked = [program("psql"), *way, "-v", "ON_ERROR_STOP=1", "-qAtX", "-c", statement]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()

    @contextlib.contextmanager
    def crowded(self) -> Iterator[None]:
        """Hold all connections that others than the administrator may have."""
        way = [f"--host={self.dir}", f"--port={self.port}", "--username=trusted", "--dbname=app", "-qAtX"]
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        held = [subprocess.Popen([program("psql"), *way], **quiet) for _ in range(14)]
        try:
            busy = "SELECT count(*) >= 9 FROM pg_stat_activity WHERE usename = 'trusted'"
            until(lambda: self.sql(busy) == "t", 10, "the connections")
            yield
        finally:
            for one in held:
                one.communicate()

    def caught_up(self, source: "Postgres") -> bool:
        """Whether it has replayed all that `source` has written."""
        at = source.sql("SELECT pg_current_wal_lsn()")
        return self.sql(f"SELECT pg_last_wal_replay_lsn() >= '{at}'") == "t"
