"""The types of values that only the probes of one protocol have: hexadecimal bytes, DNS queries, HTTP statuses.

They are checked here as the user writes them in a file, with errors that say what to write instead (`mistake`).
"""

import re
from typing import Annotated, Any, Final
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field

from health.units import mistake

__all__ = [
    "RANDOM",
    "RANDOM_LENGTH",
    "Digest",
    "Hex",
    "Host",
    "Name",
    "Query",
    "Rcodes",
    "RequestPath",
    "Sql",
    "Statuses",
]

_RESERVED: Final = "!#$%&'()*+,/:;=?@[]~"  # characters with a meaning in a URL (RFC 3986, section 2.2)

RANDOM: Final = "{random}"
"""What stands in the name of a query for random letters and digits, new ones in each run."""
RANDOM_LENGTH: Final = 12  # letters and digits: 60 bits

_RCODES: Final = (
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
    "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
)  # fmt: skip
# fmt: off
_RRTYPES: Final = frozenset((
    "A", "AAAA", "AFSDB", "ANY", "CAA", "CDNSKEY", "CDS", "CERT", "CNAME", "CSYNC", "DHCID", "DNAME", "DNSKEY", "DS", "HINFO",
    "HTTPS", "KEY", "KX", "LOC", "MX", "NAPTR", "NS", "NSEC", "NSEC3", "NSEC3PARAM", "OPENPGPKEY", "PTR", "RP", "RRSIG",
    "SMIMEA", "SOA", "SPF", "SRV", "SSHFP", "SVCB", "TLSA", "TXT", "URI", "ZONEMD",
))
# fmt: on


def _hex(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        bytes.fromhex(value)
    except ValueError:
        raise mistake(f'"{value[:40]}" is not hexadecimal: write two digits a byte, "0d0a" or "0d 0a"') from None
    return value


Hex = Annotated[str, BeforeValidator(_hex)]


def _query(value: Any) -> Any:
    if not isinstance(value, str) or not value:
        return value
    name, *rest = value.split()
    rrtype = rest[0].upper() if rest else ""
    if len(rest) != 1:
        raise mistake(f'"{value[:60]}" is not a query: write a name and a type, "example.net SOA"')
    number = re.fullmatch(r"TYPE([0-9]{1,5})", rrtype, re.ASCII)
    if rrtype not in _RRTYPES and not (number and int(number[1]) <= 0xFFFF):  # noqa: PLR2004 - RFC 3597 section 5
        raise mistake(f'"{rest[0][:20]}" is not a record type: write for instance "{name[:40]} SOA"')
    asked = name.replace(RANDOM, "x" * RANDOM_LENGTH)
    labels = asked.rstrip(".").split(".") if asked != "." else []
    if len(asked.encode()) > 254 or any(not 0 < len(label.encode()) <= 63 for label in labels):  # noqa: PLR2004 - RFC 1035, 2.3.4
        raise mistake(f'"{name[:60]}" is not a domain name')
    return f"{name} {rrtype}"


def _rcodes(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _known_rcodes(value: tuple[str, ...]) -> tuple[str, ...]:
    for rcode in value:
        if rcode.upper() not in _RCODES:
            raise mistake(f'"{rcode[:20]}" is not a DNS response code: one of {", ".join(_RCODES[:6])}, …')
    if not value:
        raise mistake("rcode is empty: no answer could ever pass")
    return tuple(rcode.upper() for rcode in value)


Query = Annotated[str, BeforeValidator(_query)]
"""A name and a record type: "example.net SOA"."""

Rcodes = Annotated[tuple[str, ...], BeforeValidator(_rcodes), AfterValidator(_known_rcodes)]
"""One or more DNS response codes, in capitals."""


def _statuses(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for part in value.split(","):
        match = re.fullmatch(r"\s*([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?\s*", part, re.ASCII)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise mistake(f'"{value[:40]}" is not a list of HTTP statuses: write "200-399" or "200,204"')
    return value


def _digest(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"[0-9a-fA-F]{32}", value, re.ASCII):
        raise mistake("a body-digest is an MD5 sum of 32 hexadecimal digits, as genhash prints it")
    return value


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        strange = next((letter for letter in value if not "!" <= letter <= "~"), None)
        if strange is not None:
            raise mistake(
                f'"{value[:60]}" holds {"a blank" if strange == " " else f"U+{ord(strange):04X}"}:'
                " a request consists of visible ASCII characters only",
                hint=f'write "{quote(value, safe=_RESERVED)[:200]}"' if value.startswith("/") else None,
            )
    return value


def _host(value: Any) -> Any:
    if value == "":
        raise mistake("host is empty")
    return _visible(value)


def _request_path(value: Any) -> Any:
    if isinstance(value, str) and not value.startswith("/"):
        raise mistake(f'path = "{value[:60]}" does not begin with "/"', hint=f'write path = "/{value[:60]}"')
    return _visible(value)


Statuses = Annotated[str, BeforeValidator(_statuses)]
"""A list of HTTP statuses: "200-399" or "200,204"."""

Digest = Annotated[str, BeforeValidator(_digest)]
"""An MD5 sum of 32 hexadecimal digits."""

RequestPath = Annotated[str, Field(pattern=r"^/[\x21-\x7e]*$"), BeforeValidator(_request_path)]
"""The path of an HTTP request, in visible ASCII characters."""

Host = Annotated[str, Field(pattern=r"^[\x21-\x7e]+$"), BeforeValidator(_host)]
"""The Host header of an HTTP request, in visible ASCII characters."""


def _name(value: Any) -> Any:
    if isinstance(value, str) and (not value or "\0" in value or len(value.encode()) > _NAME):
        raise mistake(f'"{value[:60]!r}" is not a name: write 1 to {_NAME} bytes, none of them NUL')
    return value


def _sql(value: Any) -> Any:
    if not isinstance(value, str) or value == "":
        return value
    word = re.match(r"[\s(]*([A-Za-z]*)", value)
    if word is None or word[1].upper() not in _READING:
        raise mistake(f'"{value[:40]}" is not a query that reads: it begins with one of {", ".join(_READING)}')
    if "\0" in value or len(value.encode()) > _STATEMENT:
        raise mistake(f"a query has at most {_STATEMENT} bytes, none of them NUL")
    return value


_NAME: Final = 255  # bytes
_STATEMENT: Final = 4096  # bytes
_READING: Final = ("SELECT", "SHOW", "TABLE", "VALUES", "WITH")

Name = Annotated[str, BeforeValidator(_name)]
"""The name of an account or of a database."""

Sql = Annotated[str, BeforeValidator(_sql)]
"""One SQL statement that reads."""
