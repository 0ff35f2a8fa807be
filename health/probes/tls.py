"""TLS without I/O: a session fed from the wire and emptied to it, and words for why one is refused.

What is verified: the chain up to an authority of `tls-ca-file` (or the system's), its dates, and whom the certificate is
for (RFC 9525): the name, or the server's address where no name is known.  A chain alone proves nothing: whoever has a
certificate of that authority, for any name, could pose as the server.  A name also goes into the handshake (SNI, RFC 6066).
OpenSSL says what it refuses; the certificate itself is read (`certificates`) only to tell what was wrong with it.
"""

import functools
import os
import ssl
from typing import Any, Final

from health.probes.certificates import describe, distrust, harmless
from health.probes.words import Meaning

CHUNK: Final = 16384  # bytes of the largest TLS record's content
RECORD_TYPES: Final = (
    b"\x15\x16"  # alert and handshake: what the first byte of any TLS answer is (RFC 8446, section 5.1)
)
_OF_THE_CLIENT: Final = "CERTIFICATE_REQUIRED"  # RFC 8446, section 6.2
_CONTEXTS = 64  # kinds of trust that are kept loaded: the system's authorities take 20 ms to read


class Refused(Exception):  # noqa: N818 - it is the server that is in error
    """The session cannot go on, in words: the backend's fault, or ours where it wants a certificate of the probe."""

    meaning: Meaning = "dead"


class NoTrust(Exception):  # noqa: N818 - see Refused
    """What this host was told to trust cannot be used, in words: the configuration's fault."""


@functools.lru_cache(maxsize=_CONTEXTS)
def context(*, verify: bool, authorities: bytes | None = None) -> ssl.SSLContext:
    """Return a client's context, shared by all sessions of that kind.

    `authorities` are certificates in PEM form, None for those of the system.  Raises `NoTrust` in words.
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
        made.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))  # comments may have any letters
    except ssl.SSLError:
        raise NoTrust("no certificate in PEM form") from None
    return made


def _has_directory() -> bool:
    """Return True if the system has a directory of authorities, from which OpenSSL loads one when it needs it."""
    directory = ssl.get_default_verify_paths().capath
    try:
        return directory is not None and bool(os.listdir(directory))  # noqa: PTH208 - names alone
    except OSError:
        return False


class Session:
    """One TLS connection of a client; `name` is whom to ask for (SNI) and, where the context verifies, to expect.

    An address may stand in place of a name: it is expected and not asked for (RFC 6066, section 3).

    Bytes of the wire go in by `feed` and come out of `take`; what does is to be sent before anything is waited for.
    """

    __slots__ = ("_incoming", "_name", "_object", "_outgoing", "_verified")

    def __init__(self, trust: ssl.SSLContext, name: str | None) -> None:
        """Prepare a handshake; raises `NoTrust` where `name` can be no server's."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._name = name
        self._verified = trust.verify_mode == ssl.CERT_REQUIRED
        try:
            self._object = trust.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        except (ValueError, ssl.SSLError):  # UnicodeError, of IDNA, is a ValueError
            raise NoTrust(f'tls-name "{harmless(name or "")}" is not a host name') from None

    def feed(self, data: bytes) -> None:
        """Take in bytes of the wire; b"" is its end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def take(self) -> bytes:
        """Return the bytes that are to be sent."""
        return self._outgoing.read()

    def handshake(self) -> bool:
        """Go on with the handshake; whether it is done.  Raises `Refused` in words."""
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
            return  # it waits for the server's own, which we need not hear

    def describe(self) -> str:
        """Return the version, whom the certificate is for, until when, and whether that was verified; in words."""
        verified = "verified" if self._verified else "not verified"
        return f"{self._object.version()}, {describe(self._object.getpeercert(binary_form=True))}{verified}"

    def _certificates(self) -> list[bytes]:
        """Return what the server sent and OpenSSL refused, each in DER form; the server's own first."""
        # Python gives access to the chain of a refused handshake by a public name from 3.13 on, by this one before.
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
        refused.meaning = "ours"  # clients have one, which the probe lacks
    return refused
