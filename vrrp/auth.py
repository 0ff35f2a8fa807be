"""Signed adverts: keepalived's HMAC extension (draft-cassen-vrrp-auth-hmac, keepalived 2.4.2 and later) (V21).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |   Type (1)    |    Key id     |           Reserved            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                 Time (seconds since 1970, UTC)                |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |    Time (1/65536 seconds)     |            Counter            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             HMAC-SHA256, its first 16 octets                  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The trailer follows the advert.  The HMAC covers a pseudo-header of 20 octets (IP version, VRRP version, VRID, 0, the
source address), the advert with a checksum of 0, and the trailer with an HMAC of 0.  Time and counter are one number of
64 bits, which grows with each advert; all copies of an advert carry the same number.

A receiver demands that the number grows, and does not compare it with its own clock, like keepalived's `anti_replay
monotonic`: a step of a clock then moves no address (V16).  There is one exception, for a keepalived sender whose clock
steps back: if the highest number lies in our future, a number of the present is accepted.

The first signed advert of a sender without a stored number counts, however old it is: a receiver cannot know better.
"""

import hmac
import struct
from collections.abc import Mapping
from typing import Final, Literal

from vrrp.packet import TRAILER_LENGTH, TRAILER_TYPE, Drop, IPAddress, trailer_of

Mode = Literal["off", "receive-only", "permissive", "enforce"]
"""Receive-only accepts adverts without a trailer and sends none, permissive signs as well, enforce refuses them."""

KEY_LENGTHS: Final = range(32, 65)
"""The number of octets that a key may have."""
MAC_LENGTH: Final = 16

_HEAD = struct.Struct("!BBxxQ")
_ALL = (1 << 64) - 1
_MAX_SENDERS = 64
_LEAST_WINDOW = 5.0  # s, keepalived's
_INTERVALS = 3  # advert intervals that the window has at least


def decode_key(text: bytes) -> bytes:
    """Return the key that a key file holds: "hex:" and digits, else the text itself, without the end of its line.

    Raises ValueError; its text does not show the key.
    """
    text = text.rstrip(b"\r\n")
    key = text
    if text.startswith(b"hex:"):
        try:
            key = bytes.fromhex(text[4:].decode("ascii"))
        except ValueError:
            raise ValueError('only hexadecimal digits may follow "hex:"') from None
    elif b"\0" in key:
        raise ValueError('a key that is not text must be written as "hex:" and its digits')
    if len(key) not in KEY_LENGTHS:
        raise ValueError(f"the key has {len(key)} octets: it must have {KEY_LENGTHS[0]} to {KEY_LENGTHS[-1]}")
    return key


def number_at(wall: float) -> int:
    """Return the number of a moment by the wall clock (seconds since 1970): seconds, 1/65536 of them, counter 0."""
    return int(wall * 65536) << 16 & _ALL


def number_after(last: int, elapsed: float) -> int:
    """Return a number above all that a process may have used which wrote down `last`, and died within `elapsed` seconds."""
    return (last + (int(elapsed * 65536) + 1 << 16)) & _ALL


class Signer:
    """Makes the trailers of one router, for the lifetime of the process."""

    __slots__ = ("_id", "_key", "number")

    def __init__(self, key_id: int, key: bytes, number: int = 0) -> None:
        """Sign with `key`; `number` is the highest that this host used before."""
        self._id, self._key = key_id, key
        self.number = number
        """The last number that was used; the runner stores it."""

    def trailer(self, message: bytes, source: IPAddress, wall: float) -> bytes:
        """Return the trailer of an advert of `packet.build`, the same for all its destinations.

        Its number is that of the wall clock, or the next one after the last where the clock has not moved on.
        """
        now = number_at(wall)
        self.number = now if _after(now, self.number) else (self.number + 1) & _ALL
        head = _HEAD.pack(TRAILER_TYPE, self._id, self.number)
        return head + _mac(self._key, message, head, source)


class Verifier:
    """Checks the trailers that one router receives."""

    __slots__ = ("_keys", "_required", "_seen", "_window")

    def __init__(
        self,
        keys: Mapping[int, bytes],
        *,
        required: bool = True,
        advert_interval: float = 1.0,
        seen: Mapping[IPAddress, int] | None = None,
    ) -> None:
        """Accept any of `keys`, by id; `seen` is what another `Verifier` of this host knew before."""
        self._keys = dict(keys)
        self._required = required
        self._window = int(max(_LEAST_WINDOW, _INTERVALS * advert_interval) * (1 << 32))
        self._seen = dict(seen or {})

    @property
    def seen(self) -> Mapping[IPAddress, int]:
        """The highest number of each sender; the runner stores it."""
        return self._seen

    def check(self, data: bytes, source: IPAddress, wall: float) -> Drop | None:
        """Return why a parsed advert does not count, None if it does.

        `data` is the payload that `packet.parse` accepted.  Check the peer first: only signed adverts take memory here.
        """
        trailer = trailer_of(data, source.version)
        if not trailer:
            return Drop("auth_missing", "no signature") if self._required else None
        _, key_id, number = _HEAD.unpack_from(trailer)
        if key_id not in self._keys:
            return Drop("auth_key", f"unknown key id {key_id}")
        message, head, mac = data[:-TRAILER_LENGTH], trailer[:-MAC_LENGTH], trailer[-MAC_LENGTH:]
        # A key without a configured id has its place in the list as id, and the peer's list may have another order.
        keys = dict.fromkeys([self._keys[key_id], *self._keys.values()])
        if not any(hmac.compare_digest(_mac(key, message, head, source), mac) for key in keys):
            return Drop("auth_mac", "wrong signature")
        return self._note(source, number, number_at(wall))

    def _note(self, source: IPAddress, number: int, now: int) -> Drop | None:
        """Store a sender's number, or return why it does not count."""
        highest = self._seen.pop(source, None)
        if highest is None and len(self._seen) >= _MAX_SENDERS:
            del self._seen[next(iter(self._seen))]  # the sender whose last advert is the oldest
        if highest is None or _after(number, highest) or self._begins_anew(number, highest, now):
            self._seen[source] = number
            return None
        self._seen[source] = highest
        return Drop("auth_replay", f"number {number:x} is not above {highest:x}")

    def _begins_anew(self, number: int, highest: int, now: int) -> bool:
        return _distance(highest, now) > self._window and abs(_distance(number, now)) <= self._window


def _distance(number: int, other: int) -> int:
    """Return how far a number is after another one, negative if it is before (RFC 1982: the seconds overflow in 2106)."""
    ahead = (number - other) & _ALL
    return ahead if ahead < 1 << 63 else ahead - _ALL - 1


def _after(number: int, other: int) -> bool:
    return _distance(number, other) > 0


def _mac(key: bytes, message: bytes, head: bytes, source: IPAddress) -> bytes:
    pseudo = bytes((source.version, message[0] >> 4, message[1], 0)) + source.packed.ljust(16, b"\0")
    covered = pseudo + message[:6] + b"\0\0" + message[8:] + head + bytes(MAC_LENGTH)
    return hmac.digest(key, covered, "sha256")[:MAC_LENGTH]
