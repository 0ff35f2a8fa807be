"""Words for people: numbers with their nouns, and texts of strangers made harmless [pure]."""

import re
from typing import Final

# C0, DEL, C1, the line separators, the marks that turn the direction of text around, and lone surrogates.
_HARMFUL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def counted(number: int, one: str, many: str = "") -> str:
    """Return "1 service" or "2 services"; `many` is the plural where it is not `one` with an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - what fits two digits


def printable(text: str) -> str:
    """Return the text with each character that would move a cursor, break a line or hide text as an escape."""
    return _HARMFUL.sub(_escape, text)
