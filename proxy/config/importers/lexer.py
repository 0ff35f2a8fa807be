"""Tokens with their places: the lexer that all formats share [pure]."""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from proxy.config.diagnostics import Diagnostic


class Place(NamedTuple):
    """Where a token stands: line and column count characters from 1."""

    file: str
    line: int
    col: int = 1

    def __str__(self) -> str:
        """Return "file:line"."""
        return f"{self.file}:{self.line}"


class Token(NamedTuple):
    """A piece of a file: its kind, its text without quotes, its place."""

    kind: str
    text: str
    place: Place


class UnreadableError(Exception):
    """A file is not of its format: the message says why, `place` where."""

    def __init__(self, place: Place, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.place = place
        self.hint = hint

    def diagnostic(self, source: str = "") -> Diagnostic:
        """Return the error with its place; `source` is the line of the file."""
        return Diagnostic("error", *self.place, str(self), source[:1000], self.hint)


class Lexer:
    """Splits a text by regular expressions, one for each kind of token; the first that matches counts."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        """Prepare; the kind `skip` is dropped, and every other character that no kind matches is an error."""
        self._pattern: Final = re.compile("|".join(f"(?P<{kind}>{each})" for kind, each in kinds.items()), re.DOTALL)

    def tokens(self, file: str, text: str, line: int = 1) -> Iterator[Token]:
        """Yield the tokens of a text that begins at a line; raises `UnreadableError`."""
        at = start = 0  # start: of the line
        while at < len(text):
            found = self._pattern.match(text, at)
            place = Place(file, line, at - start + 1)
            if found is None or found.end() == at:
                if text[at] in "\"'":
                    raise UnreadableError(place, "a string is not closed")
                raise UnreadableError(place, f"{text[at]!r} is not expected here")
            if found.lastgroup != "skip":
                yield Token(str(found.lastgroup), found[0], place)
            lines = found[0].count("\n")
            if lines:
                line += lines
                start = at + found[0].rindex("\n") + 1
            at = found.end()
