"""The descriptions of certificates, including unreadable ones."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.probes.certificates import describe, distrust, harmless
from tests.health.pki import Authority


def refusal(code: int, message: str = "some reason") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code = code
    error.verify_message = message
    return error


def der(path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text()[path.read_text().index("-----BEGIN") :])


def test_describe(pki) -> None:
    """H13: a certificate is described by the names that it is for and its last day."""
    assert describe(der(pki.good.certificate)).startswith(
        "certificate for mail.example.net, *.example.net, 127.0.0.1 until 2"
    )
    assert describe(None) == describe(b"") == describe(b"nonsense") == ""


def test_describe_what_breaks_a_rule(tmp_path) -> None:
    """H13: a certificate that breaks a rule, as a serial number of 0 does, is described without a warning."""
    odd = Authority(tmp_path).self_signed("odd.example.net", "-set_serial", "0")
    assert describe(der(odd.certificate)).startswith("certificate for odd.example.net until 2")


@pytest.mark.parametrize(
    ("which", "code", "words"),
    [
        ("expired", 10, "certificate for expired.example.net expired 3 days ago"),
        ("early", 9, "certificate for early.example.net is not valid before 2"),
        ("good", 10, "certificate refused: some reason"),
        ("self_signed", 18, "certificate for self.example.net is self-signed, and not trusted"),
        (
            "foreign",
            20,
            'certificate for foreign.example.net is signed by "CN=Foreign Authority", which is not trusted',
        ),
        ("good", 62, "certificate is for mail.example.net, *.example.net, 127.0.0.1, not imap.example.net"),
        ("good", 23, "certificate refused: some reason"),
    ],
)
def test_distrust(pki, which: str, code: int, words: str) -> None:
    """H13: the reason for each refusal of OpenSSL quotes the certificate."""
    chain = [der(getattr(pki, which).certificate)]
    assert distrust(refusal(code), chain, "imap.example.net").startswith(words)


def test_expired_authority(pki) -> None:
    """H13: that it is the authority's certificate which has expired is said, rather than blamed on the server's."""
    chain = [der(pki.good.certificate), der(pki.expired.certificate)]
    words = distrust(refusal(10), chain, "mail.example.net")
    assert words == "authority's certificate for expired.example.net expired 3 days ago"


@given(st.lists(st.binary(max_size=200), max_size=3), st.integers(0, 70), st.text(max_size=100))
def test_any_chain_is_harmless(chain: list[bytes], code: int, message: str) -> None:
    """S9: whatever bytes a server calls a certificate, words come of it, and they are harmless."""
    words = distrust(refusal(code, message), chain, "mail.example.net")
    assert words.startswith("certificate")
    assert words.isprintable()


@given(st.text(max_size=300))
def test_harmless(text: str) -> None:
    """S9: a name is shown without control characters and bounded."""
    assert harmless(text).isprintable()
    assert len(harmless(text)) <= 81
