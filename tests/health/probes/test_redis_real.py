"""The redis probe against Redis: a primary and its replica, which is cut off and promoted, with accounts and TLS."""

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from health.probes import run_once
from health.spec import RedisProbe
from health.state import Outcome
from tests.e2e.process import MissingError, program, until
from tests.health.databases import HOST, PASSWORD, Authority
from tests.health.redisserver import SECRET, RedisServer


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """Return a directory, removed at the end."""
    try:
        program("redis-server")
    except MissingError as error:
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))
    path = Path(tempfile.mkdtemp(prefix="steelyard-redis-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def primary(base: Path) -> Iterator[RedisServer]:
    """Run the primary, without accounts."""
    server = RedisServer(base / "primary")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def replica(base: Path, primary: RedisServer) -> Iterator[RedisServer]:
    """Run a replica of the primary that has its data."""
    server = RedisServer(base / "replica", follows=primary)
    server.start()
    until(lambda: server.link() == "up", 20, "the link")
    yield server
    server.stop()
    shutil.rmtree(server.dir)


@pytest.fixture(scope="module")
def authority(base: Path) -> Authority:
    """Return a certificate authority."""
    return Authority(base / "ca")


@pytest.fixture(scope="module")
def locked(base: Path, authority: Authority) -> Iterator[RedisServer]:
    """Run a server that wants a login, with TLS on a second port, and an account that may only PING."""
    certificate, key = authority.certificate("db.example.net")
    server = RedisServer(
        base / "locked", SECRET, f"user probe on >{PASSWORD} +ping +auth", "maxclients 20", "tls-auth-clients no",
        f"tls-cert-file {certificate}", f"tls-key-file {key}", f"tls-ca-cert-file {authority.path}", tls=True,
    )  # fmt: skip
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def secret(base: Path) -> str:
    """Return the file with the password."""
    path = base / "redis.pw"
    path.write_text(f"{PASSWORD}\n")
    return str(path)


async def ask(server: RedisServer, port: int = 0, **keys: object) -> Outcome:
    """Return what one run finds."""
    outcome, lines = await run_once(RedisProbe(**({"timeout": 5, "interval": 5} | keys)), HOST, port or server.port)
    assert PASSWORD not in "\n".join([outcome.reason, *lines])
    return outcome


async def test_roles(primary: RedisServer, replica: RedisServer) -> None:
    """H8: a master is a primary, a replica a standby, and a promoted replica a primary from the next run on."""
    servers = {"primary": primary, "standby": replica}
    found = {
        (name, role): await ask(server, role=role)
        for name, server in servers.items()
        for role in ("any", "primary", "standby")
    }
    assert {at for at, outcome in found.items() if outcome.ok and not outcome.reserve} == {
        ("primary", "any"), ("primary", "primary"), ("standby", "any"), ("standby", "standby"),
    }  # fmt: skip
    assert found["primary", "standby"].reason == "is not a standby: it is a master"
    assert found["standby", "primary"][:2] == (False, "is not a primary: it is a replica")
    assert found["standby", "primary"].standby
    assert found["standby", "standby"].lag is not None
    replica.say("REPLICAOF", "NO", "ONE")
    assert (await ask(replica, role="primary")).ok


async def test_lag(primary: RedisServer, replica: RedisServer) -> None:
    """H8: a replica that has not heard of its primary for longer than max-lag goes to reserve, and comes back."""
    assert not (await ask(replica, max_lag=3)).reserve
    primary.proc.stop()
    try:
        begun = time.monotonic()
        while not (late := await ask(replica, role="standby", max_lag=2)).reserve:
            assert time.monotonic() < begun + 10
            await asyncio.sleep(0.2)
    finally:
        primary.proc.cont()
    assert "is over max-lag (2s)" in late.reason
    assert late.lag is not None
    assert late.lag >= 3
    until(lambda: replica.link() == "up", 20, "the link")
    assert not (await ask(replica, max_lag=3)).reserve


async def test_primary_that_died(base: Path) -> None:
    """H8: when the primary dies its replica goes to reserve, so that reads go on."""
    first = RedisServer(base / "first")
    first.start()
    second = RedisServer(base / "second", follows=first)
    second.start()
    try:
        until(lambda: second.link() == "up", 20, "the link")
        first.stop()
        until(lambda: second.link() == "down", 20, "the link to end")
        outcome = await ask(second, role="standby")
        assert (outcome.ok, outcome.reserve) == (True, True)
        assert "replication is cut off: it has no connection to its primary" in outcome.reason
        assert not (await ask(second)).reserve
        assert (await ask(first)).reason == "connection refused"
    finally:
        second.stop()


async def test_login(locked: RedisServer, primary: RedisServer, secret: str, tmp_path: Path) -> None:
    """H8: the default user and another log in; a wrong password is a refused login; no password at all is our fault."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    assert (await ask(locked, password_file=secret)).ok
    assert (await ask(locked, user="probe", password_file=secret)).ok
    for keys in ({"password_file": str(wrong)}, {"user": "nobody", "password_file": secret}):
        outcome = await ask(locked, **keys)
        assert outcome.credentials_rejected
        assert outcome.reason.startswith("login refused: wrong name or password (")
    right = await ask(locked, user="probe", password_file=secret, role="primary")
    assert right.credentials_rejected
    assert "may not do this" in right.reason
    without = await ask(locked)
    assert without.reason == "could not probe: the server wants a login, and the probe has no password-file"
    needless = await ask(primary, password_file=secret)
    assert needless.reason.startswith("could not probe: the server has no password for the default user")


async def test_tls(locked: RedisServer, secret: str, authority: Authority) -> None:
    """H8: TLS from the first octet on, verified: right name, wrong name, unknown authority, not verified."""
    trust = {"tls": "implicit", "tls_ca_file": str(authority.path), "password_file": secret}
    port = locked.tls_port
    assert (await ask(locked, port, tls_name="db.example.net", **trust)).ok
    wrong = await ask(locked, port, tls_name="x.example.net", **trust)
    assert wrong.reason == "certificate is for db.example.net, not x.example.net"
    assert not (await ask(locked, port, tls="implicit", tls_name="db.example.net", password_file=secret)).ok
    assert (await ask(locked, port, tls="implicit", tls_verify=False, password_file=secret)).ok
    assert not (await ask(locked, **trust)).ok


async def test_too_many_connections(locked: RedisServer, secret: str) -> None:
    """H8: a server without a free connection is full: fit for reserve, and not dead."""
    with contextlib.ExitStack() as held:
        for _ in range(30):
            held.enter_context(socket.create_connection((HOST, locked.port)))
        outcome = await ask(locked, password_file=secret)
    assert (outcome.ok, outcome.reserve, outcome.full) == (True, True, True), outcome.reason
    assert outcome.reason.startswith("too many connections (")
    until(lambda: locked.say("PING") == "PONG", 5, "the connections to end")


async def test_stopped_server(primary: RedisServer) -> None:
    """H4: a server that hangs (SIGSTOP) ends the probe at its timeout."""
    primary.proc.stop()
    try:
        outcome = await ask(primary, timeout=0.3)
    finally:
        primary.proc.cont()
    assert (outcome.ok, outcome.reason) == (False, "no answer to PING within 0.3 s")


async def test_many_at_once(primary: RedisServer, leftovers) -> None:
    """H4, H5: runs at the same time neither mix nor leave anything open."""
    leftovers.mark()
    found = await asyncio.gather(*(ask(primary, role=role) for role in ("primary", "standby") * 4))
    assert [outcome.ok for outcome in found] == [True, False] * 4
    await leftovers.check()


async def test_transcript(locked: RedisServer, secret: str) -> None:
    """H13: the transcript shows each step, and no password."""
    _, lines = await run_once(
        RedisProbe(password_file=secret, role="primary", timeout=5, interval=5), HOST, locked.port
    )
    assert "-> AUTH ****" in lines
    assert "-> INFO replication" in lines
    assert lines[-1].startswith("pass: primary, in ")
