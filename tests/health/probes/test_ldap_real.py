"""The ldap probe against OpenLDAP with TLS, and a second one that follows it by syncrepl."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from health.probes import run_once
from health.spec import LdapProbe
from health.state import Outcome
from tests.e2e.process import MissingError, program, until
from tests.health.databases import HOST, PASSWORD, Authority, Slapd

BASE = Slapd.base


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """Return a directory, removed at the end."""
    try:
        for name in ("slapd", "slapadd", "ldapsearch"):
            program(name)
    except MissingError as error:
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))
    path = Path(tempfile.mkdtemp(prefix="steelyard-ldap-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def authority(base: Path) -> Authority:
    """Return a certificate authority."""
    return Authority(base / "ca")


@pytest.fixture(scope="module")
def provider(base: Path, authority: Authority) -> Iterator[Slapd]:
    """Run a directory with TLS."""
    certificate, key = authority.certificate("ldap.example.net")
    server = Slapd(base / "provider", tls=(certificate, key, authority.path))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def consumer(base: Path, provider: Slapd) -> Iterator[Slapd]:
    """Run a directory that follows the first one."""
    server = Slapd(base / "consumer", source=provider)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def strict(base: Path) -> Iterator[Slapd]:
    """Run a directory that takes no anonymous bind and no simple one without TLS."""
    server = Slapd(base / "strict", extra="disallow bind_anon\nsecurity simple_bind=128\n")
    server.patience = 3.0
    server.launch()
    until(lambda: socket.create_connection((HOST, server.port)).close() is None, 10, "slapd to listen")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def secret(base: Path) -> str:
    """Return the file with the password."""
    path = base / "ldap.pw"
    path.write_text(f"{PASSWORD}\n")
    return str(path)


async def ask(server: Slapd, port: int | None = None, **keys: object) -> Outcome:
    """Return what one run finds."""
    outcome, lines = await run_once(LdapProbe(**({"timeout": 5, "interval": 5} | keys)), HOST, port or server.port)
    assert PASSWORD not in "\n".join([outcome.reason, *lines])
    return outcome


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, ""),
        ({"base": BASE}, ""),
        ({"base": ""}, ""),
        ({"base": BASE, "filter": "(uid=p*)", "min_entries": 3}, ""),
        ({"base": BASE, "filter": "(&(uid=p1)(objectClass=inetOrgPerson))", "min_entries": 1}, ""),
        ({"base": BASE, "min_entries": 1}, ""),
        ({"base": BASE, "min_entries": 4}, ""),
        ({"base": f"uid=p0,ou=people,{BASE}", "filter": "(uid=p0)", "min_entries": 1}, ""),
        ({"base": BASE, "filter": "(uid=none)", "min_entries": 1}, "found 0 of 1 entry wanted"),
        ({"base": BASE, "filter": "(uid=p*)", "min_entries": 4}, "found 3 of 4 entries wanted, and 1 reference"),
        ({"base": f"ou=none,{BASE}"}, "the search was refused: no such entry (result 32)"),
        ({"base": "dc=example,dc=com"}, "the search was refused: no such entry (result 32)"),
        ({"base": "nonsense"}, "could not probe: the search was refused: not a DN (result 34"),
        ({"base": f"ou=elsewhere,{BASE}"}, 'the search was answered with a referral to "ldap://192.0.2.7/ou=people'),
    ],
)
async def test_search(provider: Slapd, keys: dict[str, object], reason: str) -> None:
    """H9, H13: base and subtree, filter and count, what is not there, and references, which are not followed."""
    outcome = await ask(provider, **keys)
    assert outcome.ok == (not reason), outcome.reason
    assert outcome.reason.startswith(reason)


async def test_simple_bind(provider: Slapd, secret: str, tmp_path: Path) -> None:
    """H9: the right password binds, a wrong one and an unknown name are refused logins."""
    assert (await ask(provider, bind_dn=Slapd.admin, password_file=secret)).ok
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    for keys in (
        {"bind_dn": Slapd.admin, "password_file": str(wrong)},
        {"bind_dn": f"cn=x,{BASE}", "password_file": secret},
    ):
        outcome = await ask(provider, **keys)
        assert (outcome.ok, outcome.credentials_rejected) == (False, True)
        assert outcome.reason == "the bind was refused: wrong name or password (result 49)"


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_tls(provider: Slapd, authority: Authority, secret: str, tls: str) -> None:
    """H9: StartTLS and LDAPS, verified: right name, wrong name, unknown authority, not verified."""
    port = provider.tls_port if tls == "implicit" else provider.port
    trust = {"tls": tls, "tls_ca_file": str(authority.path)}
    keys = {"bind_dn": Slapd.admin, "password_file": secret, "base": BASE}
    outcome = await ask(provider, port, tls_name="ldap.example.net", **trust, **keys)
    assert outcome.ok, outcome.reason
    wrong = await ask(provider, port, tls_name="x.example.net", **trust, **keys)
    assert wrong.reason == "certificate is for ldap.example.net, not x.example.net"
    unknown = await ask(provider, port, tls=tls, tls_name="ldap.example.net", **keys)
    assert "not trusted" in unknown.reason
    assert (await ask(provider, port, tls=tls, tls_verify=False, **keys)).ok


async def test_tls_where_there_is_none(provider: Slapd, consumer: Slapd) -> None:
    """H9, H13: StartTLS of a server without it, LDAPS on a clear port and the other way round fail in words."""
    refused = await ask(consumer, tls="starttls")
    assert refused.reason.startswith("StartTLS was refused: a protocol error (result 2: ")
    clear = await ask(provider, tls="implicit", timeout=1)
    assert not clear.ok
    assert not (await ask(provider, provider.tls_port, timeout=1)).ok


async def test_strict_server(strict: Slapd, secret: str) -> None:
    """H9, H13: a server that takes no anonymous bind, or no password in clear, says so, and is not dead for that."""
    anonymous = await ask(strict)
    refused = "could not probe: the bind was refused"
    assert anonymous.reason.startswith(f"{refused}: does not allow this kind of bind (inappropriate")
    simple = await ask(strict, bind_dn=Slapd.admin, password_file=secret)
    assert simple.reason.startswith(f"{refused}: requires TLS first (confidentiality required)")
    assert not simple.credentials_rejected


async def test_context_csn(provider: Slapd, consumer: Slapd) -> None:
    """H9: the newest change is read from both; a consumer that is stopped stays behind until it follows again."""
    keys = {"base": BASE, "max_lag": 60}

    async def times() -> list[float | None]:
        return [(await ask(server, **keys)).value for server in (provider, consumer)]

    until(lambda: provider.context_csn() == consumer.context_csn(), 20, "the consumer to follow")
    first, same = await times()
    assert first is not None
    assert first == same
    consumer.stop()
    provider.add("late")
    newer = (await ask(provider, **keys)).value
    assert newer is not None
    assert newer > first
    consumer.start()
    until(lambda: provider.context_csn() == consumer.context_csn(), 20, "the consumer to follow")
    assert await times() == [newer, newer]


async def test_context_csn_below_the_suffix(provider: Slapd) -> None:
    """H9, H13: an entry below the suffix has no contextCSN, and the reason says so."""
    outcome = await ask(provider, base=f"ou=people,{BASE}", max_lag=60)
    assert outcome.reason.startswith("no contextCSN at the base: it is not the suffix")


async def test_clean_unbind(provider: Slapd) -> None:
    """H9: each run ends with an unbind, in the server's own log, also one that found too little."""
    log = provider.dir / "log"
    before = log.stat().st_size
    await ask(provider, base=BASE)
    await ask(provider, base=BASE, filter="(uid=none)", min_entries=1)

    def told() -> str:
        with log.open() as text:
            text.seek(before)
            return text.read()

    until(lambda: told().count(" UNBIND") >= 2, 5, "two unbinds in the log")
    assert "connection lost" not in told()


async def test_stopped_server(provider: Slapd) -> None:
    """H4: a server that hangs (SIGSTOP) ends the probe at its timeout."""
    provider.proc.stop()
    try:
        outcome = await ask(provider, timeout=0.3)
    finally:
        provider.proc.cont()
    assert (outcome.ok, outcome.reason) == (False, "the answer to the bind did not come within 0.3 s")


async def test_killed_server(base: Path) -> None:
    """H3: a server that is gone is a closed port, at once."""
    server = Slapd(base / "killed")
    server.start()
    assert (await ask(server)).ok
    server.stop()
    assert (await ask(server)).reason == "connection refused"
