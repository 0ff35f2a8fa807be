"""The http probe, and TLS, against nginx in the foreground on loopback."""

import subprocess

import pytest

from health.probes import run_once
from health.spec import HttpProbe, TcpProbe

PAGE = b"<title>It works</title>\n"
TIME = {"timeout": 5, "interval": 5}


@pytest.fixture
def page_digest(tmp_path) -> str:
    """Return what md5sum says of nginx's page."""
    (tmp_path / "page").write_bytes(PAGE)
    found = subprocess.run(["md5sum", tmp_path / "page"], capture_output=True, check=True)
    return found.stdout.split()[0].decode()


async def ask(port: int, **keys: object):
    return await run_once(HttpProbe(**TIME, **keys), "127.0.0.1", port)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, "answered 200 in "),
        ({"method": "HEAD"}, "answered 200 in "),
        ({"path": "/moved"}, "answered 302 in "),
        ({"path": "/host", "method": "POST", "body": "POST"}, "answered 200 in "),
        ({"path": "/host", "host": "www.example.net", "body": "www.example.net GET"}, "answered 200 in "),
        ({"body": "It works"}, "answered 200 in "),
        ({"status": "404", "path": "/missing"}, "answered 404 in "),
        ({"path": "/big", "body": "xxx"}, "answered 200 in "),
    ],
)
async def test_passes(nginx, leftovers, keys: dict, reason: str) -> None:
    """H10: nginx passes by status and body, for each method, with the host that is told; nothing stays open."""
    leftovers.mark()
    outcome, _ = await ask(nginx.plain, **keys)
    assert outcome.ok, outcome.reason
    assert outcome.reason.startswith(reason)
    await leftovers.check()


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"path": "/broken"}, 'answered 503 "Service Temporarily Unavailable", not 200-399'),
        ({"path": "/moved", "status": "200-299,304"}, 'answered 302 "Moved Temporarily", not 200-299,304'),
        ({"body": "It fails"}, 'answered 200, but its body lacks "It fails"'),
        ({"path": "/big", "body": "end"}, "the body is longer than the 64 KiB that a probe reads"),
        ({"body_digest": "0" * 32}, "answered 200, but its body has the digest "),
        ({"tls": "implicit"}, 'not TLS: answered "HTTP/1.1 400 Bad Request'),
    ],
)
async def test_fails(nginx, leftovers, keys: dict, reason: str) -> None:
    """H10, H13: a wrong status, body or digest fails in words."""
    leftovers.mark()
    outcome, _ = await ask(nginx.plain, **keys)
    assert not outcome.ok
    assert outcome.reason.startswith(reason)
    await leftovers.check()


async def test_digest_is_md5sums(nginx, page_digest: str) -> None:
    """H10: the digest is the MD5 sum of the body, as md5sum and keepalived's genhash print it, in either case."""
    for written in (page_digest, page_digest.upper()):
        outcome, _ = await ask(nginx.plain, body_digest=written, body="works")
        assert outcome.ok, outcome.reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("good.example.net", ""),
        ("expired.example.net", "certificate for expired.example.net expired 3 days ago"),
        ("early.example.net", "certificate for early.example.net is not valid before 2"),
        ("self.example.net", "certificate for self.example.net is self-signed, and not trusted"),
        (
            "foreign.example.net",
            'certificate for foreign.example.net is signed by "CN=Foreign Authority", which is not trusted',
        ),
        ("example.org", "certificate is for mail.example.net, *.example.net, 127.0.0.1, not example.org"),
        ("192.0.2.1", "certificate is for mail.example.net, *.example.net, 127.0.0.1, not 192.0.2.1"),
        ("127.0.0.1", ""),
    ],
)
async def test_verifies(nginx, pki, leftovers, name: str, reason: str) -> None:
    """H10, H13: over TLS the server's name is asked for by SNI, and a certificate that is not right is told in words."""
    leftovers.mark()
    keys = {"tls": "implicit", "tls_name": name, "tls_ca_file": str(pki.ca)}
    outcome, lines = await ask(nginx.tls, **keys)
    assert outcome.ok == (not reason), outcome.reason
    assert outcome.reason.startswith(reason)
    unverified, _ = await ask(nginx.tls, **keys, tls_verify=False)
    assert unverified.ok, unverified.reason
    if outcome.ok:
        assert any(line.startswith("<- TLSv1.3, certificate for mail.example.net, *.example.net, ") for line in lines)
        assert any(", verified, " in line for line in lines)
    await leftovers.check()


async def test_host_is_the_name(nginx, pki) -> None:
    """Without tls-name the host of the request is asked for by SNI and expected in the certificate."""
    keys = {"tls": "implicit", "tls_ca_file": str(pki.ca), "path": "/host"}
    outcome, _ = await ask(nginx.tls, **keys, host="good.example.net:443", body=":443 GET good.example.net")
    assert outcome.ok, outcome.reason
    outcome, _ = await ask(nginx.tls, **keys, host="www.example.org")
    assert outcome.reason.endswith(", not www.example.org")


async def test_without_a_name(nginx, pki) -> None:
    """S9: without any name the authority and the server's address are verified."""
    outcome, lines = await ask(nginx.tls, tls="implicit", tls_ca_file=str(pki.ca))
    assert outcome.ok, outcome.reason
    assert any(", verified, " in line for line in lines)
    outcome, _ = await ask(nginx.tls, tls="implicit")  # the system's authorities do not know ours
    assert 'is signed by "CN=Example Authority", which is not trusted' in outcome.reason


async def test_a_renewed_authority_is_read(nginx, pki, tmp_path) -> None:
    """A CA file that changes is read again; a missing one and one that holds nothing are this host's fault."""
    held = tmp_path / "ca.pem"
    keys = {"tls": "implicit", "tls_name": "mail.example.net", "tls_ca_file": str(held)}
    outcome, _ = await ask(nginx.tls, **keys)
    assert outcome.reason == f"could not probe: tls-ca-file {held} is missing"
    held.write_text("nothing\n")
    outcome, _ = await ask(nginx.tls, **keys)
    assert outcome.reason == f"could not probe: tls-ca-file {held} holds no certificate in PEM form"
    held.write_bytes(pki.self_signed.certificate.read_bytes())
    outcome, _ = await ask(nginx.tls, **keys)
    assert "is not trusted" in outcome.reason
    held.write_bytes(pki.ca.read_bytes())
    outcome, _ = await ask(nginx.tls, **keys)
    assert outcome.ok, outcome.reason


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_proxy_header(nginx, version: str) -> None:
    """T22, H10: a server that expects a PROXY header gets one, and fails the probe without it."""
    outcome, lines = await ask(nginx.proxied, send_proxy=version)
    assert outcome.ok, outcome.reason
    assert lines[2].startswith("-> PROXY ")
    outcome, _ = await ask(nginx.proxied)
    assert not outcome.ok


async def test_tcp_in_tls(nginx, pki, leftovers) -> None:
    """H10: a tcp probe does a TLS handshake and, if configured, sends and expects a text over TLS."""
    leftovers.mark()
    trust = {**TIME, "tls": "implicit", "tls_ca_file": str(pki.ca), "tls_name": "mail.example.net"}
    outcome, lines = await run_once(TcpProbe(**trust), "127.0.0.1", nginx.tls)
    assert outcome.reason.startswith("connected over TLS in ")
    assert lines[2] == "-> TLS handshake for mail.example.net"
    spec = TcpProbe(**trust, send="GET / HTTP/1.0\r\n\r\n", expect="It works")
    outcome, _ = await run_once(spec, "127.0.0.1", nginx.tls)
    assert outcome.reason.startswith("answered as expected over TLS in ")
    await leftovers.check()


async def test_cancelled_at_each_await(nginx, pki, leftovers, cancelled_at) -> None:
    """H4: cancelled at any of its waits, in the TLS handshake or after, a run leaves nothing behind."""
    leftovers.mark()
    spec = HttpProbe(**TIME, tls="implicit", tls_ca_file=str(pki.ca), tls_name="mail.example.net", body="works")
    assert await cancelled_at(lambda: run_once(spec, "127.0.0.1", nginx.tls), leftovers) >= 3
