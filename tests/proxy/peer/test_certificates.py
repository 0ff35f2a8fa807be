"""The certificates that `steelyard pair init` makes."""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.peer.certificates import fingerprint, make
from proxy.peer.tls import der

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def test_what_is_made():
    """A certificate names its host, is valid from two days ago for a lifetime, and no two are equal."""
    made, other = make("lb1", NOW), make("lb1", NOW)
    certificate = x509.load_pem_x509_certificate(made.public)
    assert certificate.subject.rfc4514_string() == "CN=steelyard lb1"
    assert certificate.not_valid_before_utc == NOW - dt.timedelta(days=2)
    assert certificate.not_valid_after_utc.year > 2100
    assert made.public != other.public
    assert b"PRIVATE KEY" in made.secret
    assert b"PRIVATE KEY" not in made.public
    assert make("x" * 64, NOW).public


def test_the_fingerprint():
    """A fingerprint has the form that `openssl x509 -fingerprint -sha256` prints."""
    made = make("lb1", NOW)
    expected = x509.load_pem_x509_certificate(made.public).fingerprint(SHA256())
    assert fingerprint(der(made.public)) == expected.hex(":").upper()
