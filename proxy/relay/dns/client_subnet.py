r"""EDNS Client Subnet (RFC 7871): add the client's network to a query, and remove it from the answer.

    OPT record (RFC 6891):  | 0 | type 41 | class: payload size | ext. RCODE, version, flags (4) | length | options |
    the option:             | code 8 | length | family | source prefix | scope prefix | address, as octets it takes |

Laws:
- The rest of a query stays unchanged, octet for octet.  A query that cannot be read with certainty stays unchanged.
- A query that names a subnet keeps it, even an empty one: the client wants it so (section 7.1.2).
- A signed query (TSIG, SIG(0)) stays unchanged: its signature would become invalid.
- The answer only gets shorter, so it never exceeds the size that the client accepts.
"""

import struct
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from proxy.relay.dns.message import (
    FIXED,
    HEADER,
    OPCODE,
    OPT,
    POINTER,
    RCODE,
    SERVFAIL,
    Message,
    Record,
    question_end,
    walk,
)

PREFIX4: Final = 24
PREFIX6: Final = 56
"""Bits of the client's address in the option, as section 11.1 advises."""

RECORD: Final = 1
OPTION: Final = 2
"""The addition to a query: an OPT record, or an option in its own OPT record."""

_SUBNET: Final = 8
_SIGNATURES: Final = frozenset({24, 250})  # SIG(0), TSIG
_ADDRESSES: Final = frozenset({1, 28})  # A, AAAA: only the owner's name can hold a compression pointer
_PLAIN_SIZE: Final = 512  # octets that a client without EDNS accepts (RFC 1035, section 4.2.1)
_LARGEST: Final = 65507


@lru_cache(8192)
def option(host: str) -> bytes:
    """Return the option that names a client's network."""
    address = ip_address(host.partition("%")[0])
    family, prefix = (1, PREFIX4) if address.version == 4 else (2, PREFIX6)  # noqa: PLR2004 - the version of IP
    network = address.packed[: prefix // 8]
    return struct.pack("!HHHBB", _SUBNET, 4 + len(network), family, prefix, 0) + network


def add(message: bytes, end: int, host: str) -> tuple[bytes, int] | None:
    """Return (the query with its client's subnet, the kind of addition); None if the query must stay unchanged.

    `end` is where the question section ends.
    """
    records = walk(message, end) if end > HEADER and not message[2] & OPCODE else None
    if records is None or any(one.kind in _SIGNATURES for one in records):
        return None
    own = option(host)
    if len(message) + 1 + FIXED.size + len(own) > _LARGEST:
        return None
    opts = [one for one in records if one.kind == OPT]
    if not opts:
        return _add_record(message, records[-1].end if records else end, own)
    if opts == records[-1:]:
        return _add_option(message, opts[0], own)
    return None


def _add_record(message: bytes, last: int, own: bytes) -> tuple[bytes, int] | None:
    count = int.from_bytes(message[10:12], "big") + 1
    if count > 0xFFFF:  # noqa: PLR2004 - two octets
        return None
    record = b"\0" + FIXED.pack(OPT, _PLAIN_SIZE, 0, len(own)) + own
    return message[:10] + count.to_bytes(2, "big") + message[HEADER:last] + record + message[last:], RECORD


def _add_option(message: bytes, opt: Record, own: bytes) -> tuple[bytes, int] | None:
    options = _options(message, opt)
    if not opt.additional or message[opt.start] or options is None or any(code == _SUBNET for code, _ in options):
        return None
    length = (opt.end - opt.data + len(own)).to_bytes(2, "big")
    return message[: opt.data - 2] + length + message[opt.data : opt.end] + own + message[opt.end :], OPTION


def undo(reply: Message, gained: int) -> bytearray:
    """Return the answer without the addition to its query; unchanged if it cannot be removed with certainty."""
    message = bytearray(reply)
    records = walk(message, question_end(message, len(message)))
    if records is None:
        return message
    found = [at for at, one in enumerate(records) if one.kind == OPT and one.additional]
    if len(found) != 1:
        return message
    opt = records[found[0]]
    if message[opt.start] or not all(_movable(message, one, opt.start) for one in records[found[0] + 1 :]):
        return message
    if gained == RECORD:
        if message[opt.data - 6]:  # an extended RCODE, which would mean another error without its upper bits
            message[3] = message[3] & ~RCODE | SERVFAIL
        message[10:12] = (int.from_bytes(message[10:12], "big") - 1).to_bytes(2, "big")
        del message[opt.start : opt.end]
        return message
    options = _options(message, opt)
    if options is None:
        return message
    kept = b"".join(whole for code, whole in options if code != _SUBNET)
    message[opt.data - 2 : opt.end] = len(kept).to_bytes(2, "big") + kept
    return message


def _options(message: Message, opt: Record) -> list[tuple[int, bytes]] | None:
    """Return (code, complete option) for each option of an OPT record; None if they do not fill it exactly."""
    found: list[tuple[int, bytes]] = []
    at = opt.data
    while at < opt.end:
        if at + 4 > opt.end:
            return None
        code, length = struct.unpack_from("!HH", message, at)
        if at + 4 + length > opt.end:
            return None
        found.append((code, bytes(message[at : at + 4 + length])))
        at += 4 + length
    return found


def _movable(message: Message, record: Record, before: int) -> bool:
    """Return True if a record may move up: it has no compression pointer to an offset from `before` on."""
    if record.kind not in _ADDRESSES:
        return False
    at = record.start
    while message[at] and message[at] < POINTER:
        at += message[at] + 1
    return not message[at] or int.from_bytes(message[at : at + 2], "big") & 0x3FFF < before
