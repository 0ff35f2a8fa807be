"""The TLS session without I/O: fed by hand, against OpenSSL's own server and against nonsense."""

import asyncio
import contextlib
import socket
import ssl

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from health.probes import run_once, tls
from health.spec import DnsProbe, TcpProbe
from tests.health.hostile import in_tls


class Server:
    """A server in memory."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def answer(self, data: bytes) -> bytes:
        """Go on with the handshake; returns what is to be sent."""
        self.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.do_handshake()
        return self.outgoing.read()


def trust(pki) -> ssl.SSLContext:
    return tls.context(verify=True, authorities=pki.ca.read_bytes())


def shaken(session: tls.Session, server: Server) -> None:
    for _ in range(10):
        if session.handshake():
            tickets = server.answer(session.take())
            if tickets:
                session.feed(tickets)
            return
        session.feed(server.answer(session.take()))
    raise AssertionError("the handshake did not end")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_session(pki, version: ssl.TLSVersion) -> None:
    """A session of either version carries bytes both ways, and its end is an end of the stream."""
    context = pki.server()
    context.maximum_version = version
    session, server = tls.Session(trust(pki), "mail.example.net"), Server(context)
    shaken(session, server)
    session.write(b"ping")
    server.incoming.write(session.take())
    assert server.object.read(100) == b"ping"
    assert session.read(100) is None
    server.object.write(b"pong")
    session.feed(server.outgoing.read())
    assert (session.read(2), session.read(100), session.read(100)) == (b"po", b"ng", None)
    with contextlib.suppress(ssl.SSLError):
        server.object.unwrap()
    session.feed(server.outgoing.read())
    assert session.read(100) == b""
    assert session.describe().endswith(", verified")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("which", "name", "words"),
    [
        ("expired", "expired.example.net", "expired 3 days ago"),
        ("self_signed", "self.example.net", "self-signed"),
        ("good", "mail.example.org", "not mail.example.org"),
        ("foreign", "foreign.example.net", "not trusted"),
    ],
)
def test_refused(pki, version: ssl.TLSVersion, which: str, name: str, words: str) -> None:
    """H13: in either version a certificate that is not right ends the handshake in words, with an alert to send."""
    context = pki.server(which)
    context.maximum_version = version
    session = tls.Session(trust(pki), name)
    with pytest.raises(tls.Refused, match=words):
        shaken(session, Server(context))
    assert session.take()


def test_cut_off(pki) -> None:
    """A stream that ends without close_notify is an end, in the handshake a refusal."""
    session, server = tls.Session(trust(pki), "127.0.0.1"), Server(pki.server())
    session.handshake()
    session.feed(b"")
    with pytest.raises(tls.Refused, match="TLS failed: unexpected eof"):
        session.handshake()
    session = tls.Session(trust(pki), "127.0.0.1")
    shaken(session, server)
    session.feed(b"")
    assert session.read(100) == b""


def test_alerts_are_in_words(pki) -> None:
    """H13: the reason names a server's alert."""
    session = tls.Session(trust(pki), "mail.example.net")
    session.handshake()
    session.feed(b"\x15\x03\x03\x00\x02\x02\x28")
    with pytest.raises(tls.Refused, match="the server refused TLS: handshake failure"):
        session.handshake()


@pytest.mark.parametrize("name", ["", ".example.net", "x" * 300])
def test_impossible_names(pki, name: str) -> None:
    """A tls-name that can be no host's is the configuration's fault, not the backend's."""
    with pytest.raises(tls.NoTrust, match="is not a host name"):
        tls.Session(trust(pki), name)


def test_contexts_are_shared(pki) -> None:
    """H5: authorities are loaded once for all probes, and again when they have changed."""
    assert trust(pki) is trust(pki)
    more = b"# \xc3\x89tat\n" + pki.ca.read_bytes()
    assert tls.context(verify=True, authorities=more) is not trust(pki)
    assert tls.context(verify=False).verify_mode == ssl.CERT_NONE


def test_a_host_that_trusts_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """H13: if this host has no CA certificates, the reason says so: the server is not at fault."""
    tls.context.cache_clear()
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(tls.NoTrust, match="this host has no CA certificates: install ca-certificates"):
        tls.context(verify=True)


async def test_without_a_name_the_address_counts(tcp_server, pki) -> None:
    """H10, S9: without tls-name the certificate must be for the server's address: any other one of the same authority fails."""
    keys = {"tls": "implicit", "tls_ca_file": str(pki.ca)}
    _, port = await tcp_server(in_tls(pki.server(), lambda reader, _: reader.read(-1)))
    outcome, _ = await run_once(TcpProbe(**keys), "127.0.0.1", port)
    assert outcome.ok, outcome.reason
    _, port = await tcp_server(in_tls(pki.server(), lambda reader, _: reader.read(-1)), host="127.0.0.2")
    outcome, _ = await run_once(TcpProbe(**keys), "127.0.0.2", port)
    assert outcome.reason == (
        "certificate is for mail.example.net, *.example.net, 127.0.0.1, not 127.0.0.2, and tls-name is not set"
    )
    outcome, _ = await run_once(TcpProbe(**keys, tls_verify=False), "127.0.0.2", port)
    assert outcome.ok, outcome.reason


async def test_dns_over_tls(tcp_server, pki, leftovers) -> None:
    """H7: a dns probe over TCP uses TLS if that is configured (RFC 7858)."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        reply = dns.message.make_response(dns.message.from_wire(await reader.readexactly(size))).to_wire()
        writer.write(len(reply).to_bytes(2, "big") + reply)
        await reader.read(-1)

    _, port = await tcp_server(in_tls(pki.server(), talk))
    leftovers.mark()
    trust = {"tls": "implicit", "tls_name": "mail.example.net", "tls_ca_file": str(pki.ca)}
    outcome, _ = await run_once(DnsProbe(transport="tcp", **trust), "127.0.0.1", port)
    assert outcome.ok, outcome.reason
    await leftovers.check()


async def test_hangs_up_in_tls(pki) -> None:
    """A probe leaves TLS with close_notify (RFC 8446, section 6.1), so that servers do not log a connection cut off."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> bytes:
            peer, _ = listener.accept()
            with pki.server().wrap_socket(peer, server_side=True, suppress_ragged_eofs=False) as opened:
                return opened.recv(100)  # raises where the end of the stream comes without close_notify

        served = asyncio.get_running_loop().run_in_executor(None, serve)
        trust = {"tls": "implicit", "tls_name": "mail.example.net", "tls_ca_file": str(pki.ca)}
        outcome, _ = await run_once(TcpProbe(timeout=2, **trust), *listener.getsockname())
        assert outcome.ok, outcome.reason
        assert await served == b""


@settings(max_examples=100)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=4), st.booleans())
def test_any_bytes_are_harmless(pieces: list[bytes], prefixed: bool) -> None:
    """S9: whatever is fed, a session goes on or is refused in words."""
    session = tls.Session(tls.context(verify=False), "mail.example.net")
    refusals = []
    try:
        for piece in pieces:
            assert not session.handshake()
            session.take()
            session.feed(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece if prefixed else piece)
        session.handshake()
    except tls.Refused as refused:
        refusals.append(str(refused))
    assert all(refusal.isprintable() for refusal in refusals)


def test_certificate_of_the_client(pki) -> None:
    """H8: a server that wants a certificate of its clients is not dead because the probe has none."""
    context = pki.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(pki.ca)
    session, server = tls.Session(trust(pki), "mail.example.net"), Server(context)
    assert not session.handshake()
    session.feed(server.answer(session.take()))
    assert session.handshake()
    with pytest.raises(ssl.SSLError):
        server.answer(session.take())
    session.feed(server.outgoing.read())
    with pytest.raises(tls.Refused, match="the server refused TLS: certificate required") as refused:
        session.read(100)
    assert refused.value.meaning == "ours"
