"""TLS without I/O: a session that the caller feeds with bytes and takes bytes from, and reasons for a refused session.

OpenSSL verifies the chain up to a CA of `tls-ca-file` (or the system's), its dates, and the name in the certificate (RFC
9525): the server's name, or its address if no name is known.  A chain alone proves nothing: anybody with a certificate of
that CA, for any name, could pose as the server.  The name is also sent in the handshake (SNI, RFC 6066).  OpenSSL alone
refuses; `certificates` reads the certificate only to say what is wrong with it.
"""

import functools
import os
import ssl
from typing import Any, Final

from health.probes.certificates import describe, distrust, harmless
from health.probes.words import Meaning

CHUNK: Final = 16384  # bytes of the largest TLS record's content
RECORD_TYPES: Final = (
    b"\x15\x16"  # alert and handshake: the possible first bytes of a TLS answer (RFC 8446, section 5.1)
)
_OF_THE_CLIENT: Final = "CERTIFICATE_REQUIRED"  # RFC 8446, section 6.2
_CONTEXTS = 64  # contexts that are kept: reading the system's CA certificates takes 20 ms


class Refused(Exception):  # noqa: N818 - it is the server that is in error
    """The session cannot continue; the backend is at fault, or we are if it asks for a client certificate."""

    meaning: Meaning = "dead"


class NoTrust(Exception):  # noqa: N818 - see Refused
    """The configured CA certificates cannot be used; the configuration is at fault."""


@functools.lru_cache(maxsize=_CONTEXTS)
def context(*, verify: bool, authorities: bytes | None = None) -> ssl.SSLContext:
    """Return a client context, which all sessions with the same arguments share.

    `authorities` are CA certificates in PEM form, None for those of the system.  Raises `NoTrust`.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.check_hostname = verify
    made.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if not verify:
        return made
    if authorities is None:
        made.load_default_certs()
        if not made.cert_store_stats()["x509_ca"] and not _has_directory():
            raise NoTrust("this host has no CA certificates: install ca-certificates, or set tls-ca-file")
        return made
    try:
        made.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))  # comments may contain any characters
    except ssl.SSLError:
        raise NoTrust("no certificate in PEM form") from None
    return made


def _has_directory() -> bool:
    """Return True if the system has a directory of CA certificates, which OpenSSL loads one by one when needed."""
    directory = ssl.get_default_verify_paths().capath
    try:
        return directory is not None and bool(os.listdir(directory))  # noqa: PTH208 - names alone
    except OSError:
        return False


class Session:
    """The client side of one TLS connection; `name` is sent (SNI) and, if the context verifies, expected.

    An address in place of a name is expected but not sent (RFC 6066, section 3).

    The caller passes received bytes to `feed` and sends the bytes from `take`.  It must send them before it waits.
    """

    __slots__ = ("_incoming", "_name", "_object", "_outgoing", "_verified")

    def __init__(self, trust: ssl.SSLContext, name: str | None) -> None:
        """Prepare a handshake; raises `NoTrust` if `name` is not a valid server name."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._name = name
        self._verified = trust.verify_mode == ssl.CERT_REQUIRED
        try:
            self._object = trust.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        except (ValueError, ssl.SSLError):  # UnicodeError, of IDNA, is a ValueError
            raise NoTrust(f'tls-name "{harmless(name or "")}" is not a host name') from None

    def feed(self, data: bytes) -> None:
        """Take in received bytes; b"" means the end of the stream."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def take(self) -> bytes:
        """Return the bytes that the caller must send."""
        return self._outgoing.read()

    def handshake(self) -> bool:
        """Continue the handshake; return True if it is complete.  Raises `Refused`."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLCertVerificationError as error:
            raise Refused(distrust(error, self._certificates(), self._name)) from None
        except ssl.SSLError as error:
            raise _refusal(error) from None
        return True

    def write(self, data: bytes) -> None:
        """Encrypt `data`; raises `Refused`."""
        try:
            self._object.write(data)
        except ssl.SSLError as error:
            raise _refusal(error) from None

    def read(self, size: int) -> bytes | None:
        """Return at most `size` decrypted bytes, b"" at the end, None as long as more must be fed.  Raises `Refused`."""
        try:
            return self._object.read(size)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise _refusal(error) from None

    def close(self) -> None:
        """Say that we are done (close_notify): the rest is in `take`."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            return  # it waits for the server's close_notify, which we do not need

    def describe(self) -> str:
        """Return a text with the TLS version, the certificate's names and end date, and whether it was verified."""
        verified = "verified" if self._verified else "not verified"
        return f"{self._object.version()}, {describe(self._object.getpeercert(binary_form=True))}{verified}"

    def _certificates(self) -> list[bytes]:
        """Return the certificates that OpenSSL refused, each in DER form, the server's own first."""
        # Python 3.13 and later give access to the chain of a refused handshake by a public name; older ones by this one.
        found: Any = getattr(self._object, "get_unverified_chain", None)
        if found is None:
            found = getattr(getattr(self._object, "_sslobj", None), "get_unverified_chain", None)
        if found is None:
            return []
        encoding = 2  # _ssl.ENCODING_DER
        return [one if isinstance(one, bytes) else one.public_bytes(encoding) for one in found() or ()]


def _refusal(error: ssl.SSLError) -> Refused:
    reason = error.reason or "unknown error"
    _, alert, said = reason.partition("_ALERT_")
    if not alert:
        return Refused(f"TLS failed: {reason.replace('_', ' ').lower()}")
    refused = Refused(f"the server refused TLS: {said.replace('_', ' ').lower()}")
    if said == _OF_THE_CLIENT:
        refused.meaning = "ours"  # clients have a certificate, but the probe has none
    return refused
