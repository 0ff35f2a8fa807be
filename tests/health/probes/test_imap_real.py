"""The imap probe against dovecot in the foreground on loopback."""

import logging
from pathlib import Path

import pytest

from health.probes import run_once
from health.spec import ImapProbe
from tests.health.launch import PASSWORD
from tests.health.probes.conftest import NAME

TIME = {"timeout": 10, "interval": 10}


async def ask(port: int, **keys: object):
    return await run_once(ImapProbe(**TIME, **keys), "127.0.0.1", port)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    """Return a file with the right password."""
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


async def test_greeting(dovecot, leftovers) -> None:
    """H10: dovecot passes with its greeting and a clean logout, and nothing stays open."""
    leftovers.mark()
    outcome, lines = await ask(dovecot.imap)
    assert outcome.ok, outcome.reason
    assert outcome.reason.startswith("greeted in ")
    assert "-> a1 LOGOUT" in lines
    assert lines[-2] == "-> close"
    await leftovers.check()


@pytest.mark.parametrize("tls", ["off", "starttls", "implicit"])
async def test_login(dovecot, pki, password, leftovers, tls: str) -> None:
    """H10: dovecot passes with a login, in clear text, by STARTTLS and in implicit TLS."""
    leftovers.mark()
    trust = {} if tls == "off" else {"tls": tls, "tls_ca_file": str(pki.ca), "tls_name": NAME}
    port = dovecot.imaps if tls == "implicit" else dovecot.imap
    outcome, lines = await ask(port, **trust, user="probe", password_file=str(password))
    assert outcome.ok, outcome.reason
    assert outcome.reason.startswith("logged in over TLS in " if trust else "logged in in ")
    assert "LOGIN probe ****" in "\n".join(lines)
    assert PASSWORD not in "\n".join(lines)
    await leftovers.check()


async def test_refused_login(dovecot, password, leftovers, caplog) -> None:
    """H10, S6: the reason names a refused login, and the password is in neither reason, transcript nor log."""
    password.write_text("hunter2-and-more")
    leftovers.mark()
    with caplog.at_level(logging.DEBUG):
        outcome, lines = await ask(dovecot.imap, user="probe", password_file=str(password))
    assert (outcome.ok, outcome.credentials_rejected) == (False, True)
    assert outcome.reason.startswith('login refused: the answer to LOGIN was "')
    assert lines[-3].endswith("LOGOUT")
    assert "hunter2" not in "\n".join(lines) + outcome.reason + caplog.text
    await leftovers.check()


async def test_missing_password_file(dovecot, tmp_path) -> None:
    """H10: without its password a probe is not run, and the server is not blamed."""
    missing = tmp_path / "missing"
    outcome, _ = await ask(dovecot.imap, user="probe", password_file=str(missing))
    assert outcome.reason.startswith("could not probe: password file")
    assert not outcome.credentials_rejected


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_certificate_of_another(dovecot, pki, password, tls: str) -> None:
    """H10, S6: a server whose certificate is for another name never gets to see the password."""
    keys = {"user": "probe", "password_file": str(password), "tls": tls, "tls_ca_file": str(pki.ca)}
    port = dovecot.imaps if tls == "implicit" else dovecot.imap
    outcome, lines = await ask(port, **keys, tls_name="mail.example.org")
    assert outcome.reason == f"certificate is for {NAME}, *.example.net, 127.0.0.1, not mail.example.org"
    assert not any("****" in line for line in lines)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_proxy_header(dovecot, version: str) -> None:
    """T22, H10: dovecot takes our PROXY header of either version, and does not greet without."""
    outcome, lines = await ask(dovecot.imap_proxied, send_proxy=version)
    assert outcome.ok, outcome.reason
    assert lines[2].startswith("-> PROXY ")
    outcome, _ = await run_once(ImapProbe(timeout=0.3), "127.0.0.1", dovecot.imap_proxied)
    assert outcome.reason == "the greeting did not come within 0.3 s"


async def test_cancelled_at_each_await(dovecot, pki, password, leftovers, cancelled_at) -> None:
    """H4: cancelled at any of its waits, before, in and after STARTTLS and login, a run leaves nothing behind."""
    leftovers.mark()
    trust = {"tls": "starttls", "tls_ca_file": str(pki.ca), "tls_name": NAME}
    spec = ImapProbe(**TIME, **trust, user="probe", password_file=str(password))
    assert await cancelled_at(lambda: run_once(spec, "127.0.0.1", dovecot.imap), leftovers) >= 7


async def test_password_that_needs_a_literal(dovecot, password) -> None:
    """H10, S6: a password that no quoted string can carry goes as a literal, and is masked all the same."""
    password.write_text("gehe\u00efm")
    outcome, lines = await ask(dovecot.imap, user="probe", password_file=str(password))
    assert outcome.credentials_rejected
    assert "-> a1 LOGIN probe {…}" in lines
    assert "gehe" not in "\n".join(lines)


async def test_implicit_tls_behind_proxy(dovecot, pki) -> None:
    """T22, H10: the PROXY header goes before the TLS handshake, as dovecot's imaps wants it."""
    trust = {"tls": "implicit", "tls_ca_file": str(pki.ca), "tls_name": NAME}
    outcome, _ = await ask(dovecot.imaps_proxied, **trust, send_proxy="v2")
    assert outcome.ok, outcome.reason
