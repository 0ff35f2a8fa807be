"""The LDAP messages that the ldap probe sends and reads: pure (RFC 4511).

ldap3 builds the requests, parses the filter and decodes BER.  Its connections are not used because they are synchronous:
each silent server would hold a thread, and one byte now and then would defeat their `receive_timeout`.  Here a message is
bytes, so that the probe waits like all others, with the same limits and without a thread.

Each run has a separate connection, so the IDs of its messages are always the same, and so are its requests.
"""

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ldap3 import ANONYMOUS, BASE, DEREF_NEVER, NO_ATTRIBUTES, SIMPLE, SUBTREE
from ldap3.core.exceptions import LDAPExceptionError
from ldap3.operation.bind import bind_operation
from ldap3.operation.extended import extended_operation
from ldap3.operation.search import search_operation
from ldap3.operation.unbind import unbind_operation
from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
from ldap3.utils.asn1 import compute_ber_size, decode_integer, decode_octet_string, decode_sequence, encode

START_TLS: Final = "1.3.6.1.4.1.1466.20037"  # RFC 4511, section 4.14
DISCONNECTION: Final = "1.3.6.1.4.1.1466.20036"  # section 4.4.1: the server ends the session, with message ID 0

BIND_RESPONSE, SEARCH_ENTRY, SEARCH_DONE, SEARCH_REFERENCE = 0x61, 0x64, 0x65, 0x73
EXTENDED_RESPONSE, INTERMEDIATE_RESPONSE = 0x78, 0x79
_RESULTS: Final = frozenset((BIND_RESPONSE, SEARCH_DONE, EXTENDED_RESPONSE))

SUCCESS, OPERATIONS_ERROR, SIZE_LIMIT_EXCEEDED, REFERRAL, NO_SUCH_OBJECT, INVALID_CREDENTIALS = 0, 1, 4, 10, 32, 49

_SEQUENCE: Final = 0x30
_INTEGER: Final = 0x02
_LENGTH_OCTETS: Final = 4  # octets of a length at most: that is 4 GiB, which no server sends
_CONTEXT: Final[dict[int, Callable[..., Any]]] = {
    3: decode_sequence,  # the referrals of a result, which ldap3's own tables know for a search only
    7: decode_octet_string,  # serverSaslCreds
    10: decode_octet_string,  # the name of an extended response
    11: decode_octet_string,  # its value
}
_CSN: Final = re.compile(
    rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.(\d{1,9}))?Z#[0-9a-fA-F]+#[0-9a-fA-F]+#[0-9a-fA-F]+", re.ASCII
)


class Malformed(Exception):  # noqa: N818 - named for what it says
    """The bytes are not an LDAP message; the text says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """The end of an operation: `kind` is the response's tag, `code` its result code, `name` an extended response's OID."""

    ident: int
    kind: int
    code: int
    text: bytes = b""
    referrals: tuple[bytes, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry that a search found; the names of the attributes are in lower case."""

    ident: int
    dn: bytes
    attributes: dict[str, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Aside:
    """Another message of a search: a reference to another server (not followed) or a progress message."""

    ident: int
    uris: tuple[bytes, ...] = ()


def _request(ident: int, kind: str, operation: Any) -> bytes:
    message = LDAPMessage()
    message["messageID"] = MessageID(ident)
    message["protocolOp"] = ProtocolOp().setComponentByName(kind, operation)
    return bytes(encode(message))


def bind(ident: int, name: str = "", password: bytes = b"") -> bytes:
    """Return a simple bind, anonymous without a name.

    A name needs a password: without one the bind would be unauthenticated (RFC 4513, section 5.1.2).  The password is sent
    unchanged, without the preparation of RFC 4013, as OpenLDAP's own tools send it.
    """
    if not name:
        return _request(ident, "bindRequest", bind_operation(3, ANONYMOUS))
    return _request(ident, "bindRequest", bind_operation(3, SIMPLE, name, password))


def start_tls(ident: int) -> bytes:
    """Return the request to start TLS."""
    return _request(ident, "extendedReq", extended_operation(START_TLS))


def unbind(ident: int) -> bytes:
    """Return the request that ends the session."""
    return _request(ident, "unbindRequest", unbind_operation())


def search(ident: int, base: str, condition: str, attributes: tuple[str, ...], *, below: bool, most: int) -> bytes:
    """Return a search of `base` or, with `below`, of its subtree, for at most `most` entries (0: any number).

    The search does not follow aliases.  Raises ValueError if `condition` is not a filter (RFC 4515).
    """
    scope = SUBTREE if below else BASE
    try:
        operation = search_operation(
            base, condition, scope, DEREF_NEVER, attributes or (NO_ATTRIBUTES,), most, 0, False, True, True
        )
    except (LDAPExceptionError, ValueError, IndexError) as error:
        raise ValueError(f'"{condition[:60]}" is not an LDAP filter: {error}') from None
    return _request(ident, "searchRequest", operation)


def size(data: bytes | bytearray) -> int | None:
    """Return the size in bytes of the message at the start of `data`, None if `data` is too short to know.

    Raises `Malformed`.
    """
    if data and data[0] != _SEQUENCE:
        raise Malformed("it does not begin as an LDAP message")
    if len(data) < 2:  # noqa: PLR2004 - a tag and a length
        return None
    octets = data[1] & 0x7F if data[1] & 0x80 else 0
    if octets > _LENGTH_OCTETS or data[1] == 0x80:  # noqa: PLR2004 - the indefinite form, forbidden by section 5.1
        raise Malformed("its length is not valid in LDAP")
    if len(data) < 2 + octets:
        return None
    length, offset = compute_ber_size(data[: 2 + octets])
    return int(length + offset)


def read(data: bytes) -> Result | Entry | Aside:
    """Return the message in `data`, which is exactly one; raises `Malformed`."""
    try:
        return _read(data)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Malformed(f"{type(error).__name__} while reading {len(data)} bytes") from None


def _read(data: bytes) -> Result | Entry | Aside:
    _, at = compute_ber_size(data)
    if data[at] != _INTEGER:
        raise Malformed("it has no message ID")
    length, offset = compute_ber_size(data[at : at + 10])
    ident = int(decode_integer(data, at + offset, at + offset + length))
    at += offset + length
    kind = data[at]
    length, offset = compute_ber_size(data[at : at + 10])
    if at + offset + length > len(data):
        raise Malformed("its parts are longer than the whole")
    parts = decode_sequence(data, at + offset, at + offset + length, _CONTEXT)
    if kind in _RESULTS:
        return _result(ident, kind, parts)
    if kind == SEARCH_ENTRY:
        attributes = {
            bytes(name).decode("ascii", "replace").lower(): tuple(bytes(value[3]) for value in values)
            for (*_, name), (*_, values) in (attribute[3] for attribute in parts[1][3])
        }
        return Entry(ident, bytes(parts[0][3]), attributes)
    if kind == SEARCH_REFERENCE:
        return Aside(ident, tuple(bytes(part[3]) for part in parts))
    if kind == INTERMEDIATE_RESPONSE:
        return Aside(ident)
    raise Malformed(f"it is not an answer (tag {kind:#04x})")


def _result(ident: int, kind: int, parts: list[tuple[int, bool, int, Any]]) -> Result:
    code, text = int(parts[0][3]), bytes(parts[2][3])
    rest = {tag: value for kind_of, _, tag, value in parts[3:] if kind_of == 2}  # noqa: PLR2004 - context-specific
    referrals = tuple(bytes(part[3]) for part in rest.get(3, ()))
    return Result(ident, kind, code, text, referrals, bytes(rest.get(10, b"")).decode("ascii", "replace"))


def csn_time(value: bytes) -> float:
    """Return the Unix time of a change sequence number, "20261122184512.123456Z#000000#001#000000"; raises `Malformed`."""
    match = _CSN.fullmatch(value)
    try:
        # Not by strptime: Python imports its module at the first use, when this process may no longer be able to read it.
        moment = dt.datetime(*map(int, match.groups()[:6] if match else ()), tzinfo=dt.UTC)  # type: ignore[arg-type, misc]
    except (TypeError, ValueError):
        raise Malformed("its contextCSN is not a time with its counters") from None
    fraction = (match and match[7]) or b"0"
    return moment.timestamp() + float(f"0.{fraction.decode()}")
