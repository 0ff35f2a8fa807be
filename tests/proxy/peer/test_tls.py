"""TLS between two hosts: each accepts exactly one certificate."""

import contextlib
import datetime as dt
import ssl

import pytest

from proxy.peer import tls
from proxy.peer.certificates import make

NOW = dt.datetime.now(dt.UTC)
OURS, THEIRS, STRANGE = (make(name, NOW) for name in ("lb1", "lb2", "lb2"))


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both sides after a handshake in memory; raises ssl.SSLError."""
    to_server, from_server, to_client, from_client = (ssl.MemoryBIO() for _ in range(4))
    sides = (
        client.wrap_bio(to_client, from_client),
        server.wrap_bio(to_server, from_server, server_side=True),
    )
    for _ in range(4):
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            to_server.write(from_client.read())
            to_client.write(from_server.read())
    return sides[1], sides[0]


def test_the_right_certificates():
    """Two hosts with each other's certificates speak TLS 1.3, and each has the other's certificate before it."""
    server, client = handshake(
        tls.context(OURS.secret, THEIRS.public, server=True), tls.context(THEIRS.secret, OURS.public, server=False)
    )
    assert server.version() == client.version() == "TLSv1.3"
    assert tls.is_peer(server, THEIRS.public)
    assert tls.is_peer(client, OURS.public)
    assert not tls.is_peer(client, STRANGE.public)


@pytest.mark.parametrize("wrong", ["client", "server"])
def test_another_certificate(wrong):
    """A certificate of the same name that is not the pinned one is refused, whichever side shows it."""
    ours = STRANGE if wrong == "server" else OURS
    theirs = STRANGE if wrong == "client" else THEIRS
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(
            tls.context(ours.secret, THEIRS.public, server=True), tls.context(theirs.secret, OURS.public, server=False)
        )


def test_no_certificate():
    """A client without a certificate is refused."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(tls.context(OURS.secret, THEIRS.public, server=True), client)


def test_an_older_protocol():
    """A client that speaks only TLS 1.2 is refused."""
    client = tls.context(THEIRS.secret, OURS.public, server=False)
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(tls.context(OURS.secret, THEIRS.public, server=True), client)


@pytest.mark.parametrize(
    ("own", "peer", "why"),
    [
        (OURS.public, THEIRS.public, "no private key"),
        (OURS.secret.replace(OURS.public, THEIRS.public), THEIRS.public, "another certificate's"),
        (OURS.secret, OURS.public, "this host's own"),
        (OURS.secret, THEIRS.secret, "private key, which belongs on the other host"),
        (OURS.secret, b"nothing", "peer-certificate: it has no certificate"),
        (OURS.secret, THEIRS.public + STRANGE.public, "it has 2 certificates"),
        (b"", THEIRS.public, "no certificate in PEM form"),
    ],
)
def test_what_cannot_be_used(own, peer, why):
    """Files that cannot work are refused beforehand, each with its reason."""
    tls.check(OURS.secret, THEIRS.public)
    with pytest.raises(tls.PairCertificateError, match=why):
        tls.check(own, peer)


def test_a_large_file(tmp_path):
    """A file larger than any certificate is not read as a whole."""
    path = tmp_path / "large.pem"
    path.write_bytes(b"x" * (tls.LARGEST + 1))
    with pytest.raises(tls.PairCertificateError, match="larger than 64 KiB"):
        tls.read(str(path))
    path.write_bytes(OURS.public)
    assert tls.read(str(path)) == OURS.public


def test_words_around_a_certificate():
    """A file may have words of people around the certificate, in any letters."""
    peer = "für lb2\n".encode() + THEIRS.public
    tls.check(OURS.secret, peer)
    tls.context(OURS.secret, peer, server=True)
