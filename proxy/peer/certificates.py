"""Makes what `steelyard pair init` writes: a key and a certificate that signs itself.

The certificate says who it is for people; the other host knows it by its octets.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE: Final = dt.timedelta(days=36500)
"""A pinned certificate ends when another one takes its place: a date would only cut the link on some night."""
EARLIER: Final = dt.timedelta(days=2)
"""Its beginning lies back so far that the other host's clock may be wrong."""


@dataclass(frozen=True, slots=True)
class Made:
    """PEM texts: `secret` is the key with the certificate, for this host alone; `public` the certificate."""

    secret: bytes
    public: bytes


def make(node: str, now: dt.datetime) -> Made:
    """Return a new key on P-256 and its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"steelyard {node}"[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Made(secret + public, public)


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 digest of a certificate in the form that people compare."""
    return hashlib.sha256(der).digest().hex(":").upper()
