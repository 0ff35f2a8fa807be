"""Finds characters that a file must not contain, and reports each at its place in clearer words than a TOML parser.

TOML demands LF or CRLF at the end of a line, and ASCII outside of strings and comments.  A value may contain any character
as an escape, but a control character would end a line of a protocol, of the log or of a command's output.
"""

import re
import unicodedata
from typing import Any, Final

from proxy.config.diagnostics import Report
from proxy.config.positions import Arr, Spot, Tab

FREE_TEXT: Final = frozenset({"send", "expect", "body", "lag-query"})
"""Keys whose values may contain any character."""

_LONE_RETURN: Final = re.compile(r"\r(?!\n)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_QUOTES: Final = "“”„‟‘’‚‛«»"  # noqa: RUF001 - the quotes of word processors


def line_ends(text: str) -> tuple[int, str, str] | None:
    """Return the offset of the first lone carriage return, the message and the hint, None if there is none."""
    found = _LONE_RETURN.search(text)
    if found is None:
        return None
    return found.start(), "a lone carriage return does not end a line in TOML", "save the file with Unix line ends (LF)"


def stranger(letter: str) -> tuple[str, str] | None:
    """Return the message and the hint for a character that TOML did not expect, None for visible ASCII."""
    if letter in _QUOTES:
        return f"{letter} is a typographic quote", 'write strings in plain quotes: "10.0.0.1"'
    if letter.isascii() and letter.isprintable():
        return None
    name = unicodedata.name(letter, "a control character").lower()
    shown = f"{letter} (U+{ord(letter):04X})" if letter.isprintable() else f"U+{ord(letter):04X} ({name})"
    if _CONTROL.match(letter):
        return f"{shown} is not allowed in a file", "delete it"
    hint = "a name or key without quotes consists of ASCII letters, digits, hyphens and underscores"
    return f"{shown} is not allowed here", hint


def check_values(tree: Tab, report: Report) -> None:
    """Report every value with a control character, except those of the keys in `FREE_TEXT`."""
    for key, value in tree.items():
        _check(key, value, tree.spots[key], report)


def _check(key: str, value: Any, spot: Spot, report: Report) -> None:
    if isinstance(value, Tab):
        check_values(value, report)
    elif isinstance(value, Arr):
        for one, place in zip(value, value.spots, strict=True):
            _check(key, one, place, report)
    elif isinstance(value, str) and key not in FREE_TEXT and (found := _CONTROL.search(value)):
        report.error(spot, f"{key} contains a control character (U+{ord(found[0]):04X})", "remove it")
