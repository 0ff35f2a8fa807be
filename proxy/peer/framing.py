"""Messages on the byte stream between two hosts: a length of four octets, then so many octets of JSON [pure].

+----------------+----------------------+
| length, 32 bit | one JSON object      |
| big-endian     | UTF-8                |
+----------------+----------------------+
"""

from typing import Final

LARGEST: Final = 40 << 10
"""Octets of a message: one fits into a message between our processes."""
_HEADER: Final = 4


class FramingError(Exception):
    """The stream is not of this form; says why.  What follows in it cannot be read."""


def frame(payload: bytes) -> bytes:
    """Return a message with its length; raises ValueError if it is too large."""
    if not 0 < len(payload) <= LARGEST:
        raise ValueError(f"a message of {len(payload)} octets")
    return len(payload).to_bytes(_HEADER, "big") + payload


class Frames:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def waiting(self) -> int:
        """Octets of a message that is not whole yet: fewer than the largest message has."""
        return len(self._buffer)

    def feed(self, octets: bytes) -> list[bytes]:
        """Return the messages that are whole now; raises FramingError."""
        self._buffer += octets
        found, at = [], 0
        while len(self._buffer) - at >= _HEADER:
            length = int.from_bytes(self._buffer[at : at + _HEADER], "big")
            if not 0 < length <= LARGEST:
                raise FramingError(f"a message of {length} octets, and {LARGEST} is the most")
            if len(self._buffer) - at < _HEADER + length:
                break
            found.append(bytes(self._buffer[at + _HEADER : at + _HEADER + length]))
            at += _HEADER + length
        del self._buffer[:at]
        return found
