"""Describes certificates: the names they are for, their end date, and why OpenSSL refused one.

OpenSSL alone decides; this module only reads the certificates that it refused.  They come from servers that may be
hostile: no certificate makes a function here raise, and its names are shown in a form that harms no terminal and no log.
"""

import datetime as dt
import ipaddress
import ssl
import warnings
from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

_TOLD = 3  # names of a certificate that a reason shows at most
_LONGEST = 80  # characters of a name that a reason shows
_DAY = 86400.0
_HOUR = 3600.0

# X509_V_ERR_… of OpenSSL's x509_vfy.h
_NOT_YET, _EXPIRED, _SELF_SIGNED, _SELF_SIGNED_ROOT = 9, 10, 18, 19
_NO_ISSUER: Final = frozenset((2, _SELF_SIGNED_ROOT, 20, 21, 27))
_OTHER_ADDRESS = 64
_OTHER_NAME: Final = frozenset((62, _OTHER_ADDRESS))


def describe(data: bytes | None) -> str:
    """Return "certificate for mail.example.net until 2026-11-22, " for a DER certificate, "" if it is unreadable."""
    held = _parsed([data] if data else [])
    return f"certificate for {_names(held[0])} until {held[0].not_valid_after_utc:%Y-%m-%d}, " if held else ""


def distrust(error: ssl.SSLCertVerificationError, chain: list[bytes], name: str | None) -> str:
    """Return why OpenSSL refused `chain` (DER form, the server's certificate first) for the server `name`."""
    plain = f"certificate refused: {harmless(error.verify_message)}"
    held = _parsed(chain)
    if not held:
        return plain
    if error.verify_code in {_EXPIRED, _NOT_YET}:
        return _about_dates(held) or plain
    about = f"certificate for {_names(held[0])} is"
    if error.verify_code == _SELF_SIGNED:
        return f"{about} self-signed, and not trusted"
    if error.verify_code in _NO_ISSUER:
        return f"{about} signed by {_issuer(held[-1])}, which is not trusted"
    if error.verify_code in _OTHER_NAME:
        aside = ", and tls-name is not set" if error.verify_code == _OTHER_ADDRESS else ""
        return f"certificate is for {_names(held[0])}, not {harmless(name or '')}{aside}"
    return plain


def harmless(text: str) -> str:
    """Return a name in a form that harms no terminal and no log."""
    shown = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text[: _LONGEST + 1])
    return f"{shown[:_LONGEST]}…" if len(shown) > _LONGEST else shown


def _about_dates(chain: list[x509.Certificate]) -> str:
    now = dt.datetime.now(dt.UTC)
    for one in chain:
        which = ("certificate for " if one is chain[0] else "authority's certificate for ") + _names(one)
        if one.not_valid_after_utc < now:
            return f"{which} expired {_ago(now - one.not_valid_after_utc)} ago"
        if one.not_valid_before_utc > now:
            return f"{which} is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def _parsed(chain: list[bytes]) -> list[x509.Certificate]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about faults of certificates that OpenSSL does not even refuse
        for data in chain:
            try:
                found.append(x509.load_der_x509_certificate(data))
            except ValueError:
                break
    return found


def _ago(span: dt.timedelta) -> str:
    seconds = span.total_seconds()
    for unit, size in (("day", _DAY), ("hour", _HOUR)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}{'s' if seconds >= 2 * size else ''}"
    return "less than an hour"


def _names(certificate: x509.Certificate) -> str:
    """Return the names that a certificate is for: its alternative names, or its subject if it has none."""
    try:
        held = [harmless(name) for name in _alternatives(certificate)]
        if not held:
            held = [harmless(str(one.value)) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except Exception:  # a hostile certificate can raise any error when it is read
        return "an unreadable name"
    more = f" and {len(held) - _TOLD} more" if len(held) > _TOLD else ""
    return ", ".join(held[:_TOLD]) + more or "nobody"


def _alternatives(certificate: x509.Certificate) -> Iterator[str]:
    try:
        value = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return
    if isinstance(value, x509.SubjectAlternativeName):
        for name in value:
            if isinstance(name, x509.DNSName):
                yield name.value
            elif isinstance(name, x509.IPAddress) and isinstance(
                name.value, (ipaddress.IPv4Address, ipaddress.IPv6Address)
            ):
                yield str(name.value)


def _issuer(certificate: x509.Certificate) -> str:
    try:
        return f'"{harmless(certificate.issuer.rfc4514_string())}"'
    except Exception:  # see _names
        return "an unreadable authority"
