r"""EDNS Client Subnet (RFC 7871): tell a backend the network that a query came from, and take it out of the answer again.

    OPT record (RFC 6891):  | 0 | type 41 | class: payload size | ext. RCODE, version, flags (4) | length | options |
    the option:             | code 8 | length | family | source prefix | scope prefix | address, as octets it takes |

Laws:
- What a query holds besides stays as it is, octet for octet; what cannot be read for certain is not touched at all.
- A query that names a subnet itself keeps it, the empty one too: that is its client's wish (section 7.1.2).
- A signed query (TSIG, SIG(0)) is not touched: its signature would no longer hold.
- The answer loses what the query had gained: it only gets shorter, so it never exceeds what its client can take.
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
"""Bits of the client's address that are told, as section 11.1 advises."""

RECORD: Final = 1
OPTION: Final = 2
"""What a query gained: an OPT record, or an option in its own."""

_SUBNET: Final = 8
_SIGNATURES: Final = frozenset({24, 250})  # SIG(0), TSIG
_ADDRESSES: Final = frozenset({1, 28})  # A, AAAA: the only data of theirs that could point anywhere is the owner's name
_PLAIN_SIZE: Final = 512  # what a client without EDNS takes (RFC 1035, section 4.2.1)
_LARGEST: Final = 65507


@lru_cache(8192)
def option(host: str) -> bytes:
    """Return the option that tells a client's network."""
    address = ip_address(host.partition("%")[0])
    family, prefix = (1, PREFIX4) if address.version == 4 else (2, PREFIX6)  # noqa: PLR2004 - the version of IP
    network = address.packed[: prefix // 8]
    return struct.pack("!HHHBB", _SUBNET, 4 + len(network), family, prefix, 0) + network


def add(message: bytes, end: int, host: str) -> tuple[bytes, int] | None:
    """Return (the query with its client's subnet, what it gained); None if it is to go as it is.

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
    """Return the answer to a query that gained this, without it; the same octets where nothing can be taken out for certain."""
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
        if message[opt.data - 6]:  # an extended RCODE, which would say another thing without its upper bits
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
    """Return (code, the whole option) for each option of an OPT record; None if they do not fill it exactly."""
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
    """Whether a record may move up: it points at nothing behind `before`."""
    if record.kind not in _ADDRESSES:
        return False
    at = record.start
    while message[at] and message[at] < POINTER:
        at += message[at] + 1
    return not message[at] or int.from_bytes(message[at : at + 2], "big") & 0x3FFF < before
