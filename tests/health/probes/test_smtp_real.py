"""The smtp probe against postfix in the foreground on loopback."""

import pytest

from health.probes import run_once
from health.spec import SmtpProbe
from tests.health.probes.conftest import NAME

TIME = {"timeout": 5, "interval": 5}


async def ask(port: int, **keys: object):
    return await run_once(SmtpProbe(**TIME, **keys), "127.0.0.1", port)


async def test_clear_text(postfix, leftovers) -> None:
    """H10: postfix passes with its greeting, EHLO and QUIT, each line in the transcript, and nothing stays open."""
    leftovers.mark()
    outcome, lines = await ask(postfix.smtp, helo="lb1.example.net")
    assert outcome.ok, outcome.reason
    assert outcome.reason.startswith("answered EHLO in ")
    assert lines[2:4] == [f'<- "220 {NAME} ESMTP Postfix"', "-> EHLO lb1.example.net"]
    assert lines[-4:-1] == ["-> QUIT", '<- "221 2.0.0 Bye"', "-> close"]
    await leftovers.check()


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_in_tls(postfix, pki, leftovers, tls: str) -> None:
    """H10: postfix passes by STARTTLS and by smtps when its certificate is the right one, and fails in words when not."""
    leftovers.mark()
    port = postfix.smtp if tls == "starttls" else postfix.smtps
    keys = {"tls": tls, "tls_ca_file": str(pki.ca)}
    outcome, lines = await ask(port, **keys, tls_name=NAME)
    assert outcome.ok, outcome.reason
    assert outcome.reason.startswith("answered EHLO over TLS in ")
    assert sum(line.startswith("-> EHLO ") for line in lines) == (2 if tls == "starttls" else 1)
    outcome, _ = await ask(port, **keys, tls_name="imap.example.org")
    assert outcome.reason == f"certificate is for {NAME}, *.example.net, 127.0.0.1, not imap.example.org"
    outcome, _ = await ask(port, **keys, tls_name="imap.example.org", tls_verify=False)
    assert outcome.ok, outcome.reason
    await leftovers.check()


async def test_no_starttls(postfix, pki) -> None:
    """H10, H13: a server that offers no STARTTLS, or speaks no TLS where it is to, fails in words."""
    outcome, lines = await ask(postfix.plain, tls="starttls")
    assert (outcome.ok, outcome.reason) == (False, "does not offer STARTTLS")
    assert lines[-3:-1] == ["-> QUIT", "-> close"]
    outcome, _ = await ask(postfix.plain, tls="implicit")
    greeting, complaint = (
        f'"220 {NAME} ESMTP Postfix',
        '"554 5.5.0 Error: SMTP protocol synch',
    )  # the second from 3.9 on
    assert outcome.reason.startswith((f"not TLS: answered {greeting}", f"not TLS: answered {complaint}"))
    outcome, _ = await ask(postfix.smtps)
    assert (outcome.ok, outcome.reason) == (False, "the greeting did not come within 5 s")


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("listener", ["proxied", "postscreen"])
async def test_proxy_header(postfix, listener: str, version: str) -> None:
    """T22, H10: smtpd and postscreen take our PROXY header of either version, and no greeting comes without."""
    outcome, lines = await ask(getattr(postfix, listener), send_proxy=version)
    assert outcome.ok, outcome.reason
    assert lines[2].startswith("-> PROXY ")


async def test_without_proxy_header(postfix) -> None:
    """H13: if a server waits for a PROXY header that does not come, the reason is the missing greeting."""
    outcome, _ = await run_once(SmtpProbe(timeout=0.3), "127.0.0.1", postfix.proxied)
    assert (outcome.ok, outcome.reason) == (False, "the greeting did not come within 0.3 s")


async def test_refused_helo(postfix) -> None:
    """H10, H13: a server that refuses our name is not dead: the run says so in the server's words, and leaves with QUIT."""
    outcome, lines = await ask(postfix.smtp, helo="\t")
    assert not outcome.ok
    assert outcome.reason == 'could not probe: the answer to EHLO was "501 Syntax: EHLO hostname", not 250'
    assert lines[-3:-1] == ["-> QUIT", "-> close"]


async def test_cancelled_at_each_await(postfix, pki, leftovers, cancelled_at) -> None:
    """H4: cancelled at any of its waits, before, in and after STARTTLS, a run leaves nothing behind."""
    leftovers.mark()
    spec = SmtpProbe(**TIME, tls="starttls", tls_ca_file=str(pki.ca), tls_name=NAME)
    assert await cancelled_at(lambda: run_once(spec, "127.0.0.1", postfix.smtp), leftovers) >= 7
