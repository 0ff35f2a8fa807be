"""Signed adverts: an HMAC-SHA256 trailer with key id and sequence, and a window against replay (V21).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                        Magic "SyHm"                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                           Key id                              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     Sequence (8 octets)                       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             HMAC-SHA256 (32 octets) over source,              |
    |       destination, the advert, magic, key id, sequence        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

It follows the advert, whose own checksum does not cover it.  The first key signs and all are accepted, so a key is
rolled over in three steps, each on both hosts: add the new one behind, swap, drop the old one.  Signing is switched on at
the active host first: a host without keys ignores trailers, a host with keys refuses adverts without.

What the window cannot know: a verifier that has just begun and has no stored `highest` takes the first signed packet of
a sender for new, however old it is.  A sender whose sequence went backwards (clock set back, nothing stored, restarted)
is refused until it is above what it was.
"""

import hashlib
import hmac
import struct
from collections.abc import Mapping, Sequence

from vrrp.packet import TRAILER_LENGTH, TRAILER_MAGIC, Drop, IPAddress

_HEAD = struct.Struct("!4s4sQ")
_WINDOW = 64
"""So many sequence numbers below the highest may still arrive, each once: packets overtake one another."""
_MAX_SENDERS = 64
_MIN_KEY = 16


class Signer:
    """Appends trailers; one a router and life of the process."""

    __slots__ = ("_id", "_key", "sequence")

    def __init__(self, keys: Sequence[bytes], sequence: int) -> None:
        """Sign with the first of `keys`, from `sequence` on: it must be above any that this host used before.

        The shell passes the larger of the wall clock in microseconds and what it stored (`sequence`) before.
        Raises ValueError for a key of less than 16 octets.
        """
        self._id, self._key = next(iter(_by_id(keys).items()))
        self.sequence = sequence
        """The next one, for whoever stores it."""

    def sign(self, message: bytes, source: IPAddress, destination: IPAddress) -> bytes:
        """Return the message of `packet.build` with its trailer."""
        signed = message + _HEAD.pack(TRAILER_MAGIC, self._id, self.sequence)
        self.sequence += 1
        return signed + _mac(self._key, signed, source, destination)


class Verifier:
    """Checks trailers; one a router."""

    __slots__ = ("_keys", "_seen")

    def __init__(self, keys: Sequence[bytes], highest: Mapping[IPAddress, int] | None = None) -> None:
        """Accept any of `keys`; `highest` is what another `Verifier` of this host knew before.

        Raises ValueError for a key of less than 16 octets.
        """
        self._keys = _by_id(keys)
        every = (1 << _WINDOW) - 1
        self._seen = {source: (sequence, every) for source, sequence in (highest or {}).items()}

    @property
    def highest(self) -> dict[IPAddress, int]:
        """The highest sequence of each sender, for whoever stores it."""
        return {source: sequence for source, (sequence, _) in self._seen.items()}

    def verify(self, data: bytes, source: IPAddress, destination: IPAddress) -> bytes | Drop:
        """Return the message without its trailer, for `packet.parse`, or why it does not count.

        Call it after the peer has been checked: only signed packets take memory here.
        """
        start = len(data) - TRAILER_LENGTH
        if start < 0 or not data.startswith(TRAILER_MAGIC, start):
            return Drop("auth_missing", "no trailer")
        _, key_id, sequence = _HEAD.unpack_from(data, start)
        key = self._keys.get(key_id)
        if key is None:
            return Drop("auth_key", f"unknown key {key_id.hex()}")
        end = start + _HEAD.size
        if not hmac.compare_digest(_mac(key, data[:end], source, destination), data[end:]):
            return Drop("auth_mac", "wrong signature")
        return self._note(source, sequence) or data[:start]

    def _note(self, source: IPAddress, sequence: int) -> Drop | None:
        """Enter a sequence into the sender's window (RFC 6479 has the idea), or say why it does not count."""
        if source not in self._seen and len(self._seen) >= _MAX_SENDERS:
            return Drop("auth_senders", f"{_MAX_SENDERS} senders are known already")
        highest, window = self._seen.get(source, (sequence - 1, 0))
        ahead = sequence - highest
        if ahead > 0:  # the highest sequence is the lowest bit
            # A longer way than the window leaves nothing of it; never shift by a number from the wire.
            moved = (window << ahead) & ((1 << _WINDOW) - 1) if ahead < _WINDOW else 0
            self._seen[source] = sequence, moved | 1
            return None
        if -ahead >= _WINDOW or window >> -ahead & 1:
            return Drop("auth_replay", f"sequence {sequence} after {highest}")
        self._seen[source] = highest, window | 1 << -ahead
        return None


def _by_id(keys: Sequence[bytes]) -> dict[bytes, bytes]:
    if not keys or any(len(key) < _MIN_KEY for key in keys):
        raise ValueError(f"signing needs keys of {_MIN_KEY} octets or more")
    return {hashlib.sha256(b"steelyard vrrp key id\0" + key).digest()[:4]: key for key in keys}


def _mac(key: bytes, signed: bytes, source: IPAddress, destination: IPAddress) -> bytes:
    return hmac.digest(key, b"steelyard vrrp\0" + source.packed + destination.packed + signed, "sha256")
