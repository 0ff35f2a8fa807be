"""TLS 1.3 between the two hosts, each of which accepts exactly one certificate: the other's.

OpenSSL proves that the peer has the key of its certificate; `is_peer` compares the certificate octet by octet.  Names,
dates of authorities and revocation play no part.
"""

import contextlib
import datetime as dt
import os
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from proxy.peer.certificates import make

LARGEST: Final = 64 << 10
"""Octets of a file with a certificate."""


class PairCertificateError(Exception):
    """A certificate or key cannot be used; says why."""


def der(pem: bytes) -> bytes:
    """Return the one certificate of a PEM text as DER; raises PairCertificateError."""
    return _certificate(pem).public_bytes(Encoding.DER)


def public(pem: bytes) -> bytes:
    """Return the one certificate of a PEM text, without its key; raises PairCertificateError."""
    return _certificate(pem).public_bytes(Encoding.PEM)


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise PairCertificateError("it has no certificate in PEM form") from None
    if len(found) != 1:
        raise PairCertificateError(f"it has {len(found)} certificates, and one is needed")
    return found[0]


def check(own: bytes, peer: bytes) -> None:
    """Raise PairCertificateError unless `own` is a certificate with its key, and `peer` is another certificate."""
    certificate = _certificate(own)
    try:
        key = load_pem_private_key(own, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise PairCertificateError("certificate: it has no private key without a password in PEM form") from None
    if key.public_key() != certificate.public_key():
        raise PairCertificateError("certificate: its private key is another certificate's")
    try:
        other = der(peer)
    except PairCertificateError as error:
        raise PairCertificateError(f"peer-certificate: {error}") from None
    if other == der(own):
        raise PairCertificateError("peer-certificate: it is this host's own: copy that of the other host")
    if b"PRIVATE KEY" in peer:
        raise PairCertificateError("peer-certificate: it has a private key, which belongs on the other host alone")


def context(own: bytes, peer: bytes, *, server: bool) -> ssl.SSLContext:
    """Return the context of one side, from PEM texts that `check` has accepted."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False  # the whole certificate is compared
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    made.load_verify_locations(
        cadata=public(peer).decode("ascii")
    )  # without what stands around it, in whatever letters
    made.options |= ssl.OP_NO_TICKET
    if server:
        made.num_tickets = 0
    _load(made, own)
    return made


def is_peer(connection: ssl.SSLObject | ssl.SSLSocket, peer: bytes) -> bool:
    """Returns True if the other side has shown exactly this certificate (PEM)."""
    return connection.getpeercert(binary_form=True) == der(peer)


def _load(made: ssl.SSLContext, own: bytes) -> None:
    """Load certificate and key, which OpenSSL takes from a file alone: one in memory, that nobody else can open."""
    fd = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        os.write(fd, own)
        made.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def load_all() -> None:
    """Import what would else be imported by the first connection: it may lie where only root can read."""
    certificate = make("localhost", dt.datetime.now(dt.UTC))
    with contextlib.suppress(PairCertificateError):
        check(certificate.secret, certificate.public)
    context(certificate.secret, certificate.public, server=True)
    "localhost".encode("idna")


def read(path: str) -> bytes:
    """Return the contents of a file with a certificate; raises OSError or PairCertificateError."""
    with Path(path).open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise PairCertificateError(f"{path}: larger than {LARGEST >> 10} KiB")
    return content
