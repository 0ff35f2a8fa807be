"""Adds the place of each key and value to tomllib's data, by a small scan of the same text.

The scan runs only over text that tomllib has accepted, so it need not check the TOML. `Tab` and `Arr` are the parsed tables
and arrays. They have the places of their members, and keep them when tables are merged or a node's value is chosen. So an
error in the effective configuration still points at the characters that caused it, in whichever file they are.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, Final

MOST_NESTING: Final = 40
"""The most levels of nested tables and arrays; the schema needs 6."""

_BLANK: Final = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9][^\s,\]}#]*|[^\s,\]}#]+")
_STRINGS: Final = (
    re.compile(r'"""(?:[^\\"]|\\.|"(?!""))*"{3,5}', re.DOTALL),
    re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^"\\]|\\.)*"'),
    re.compile(r"'[^']*'"),
)


class NestingError(Exception):
    """Tables or arrays are nested more deeply than any configuration needs."""


@dataclass(slots=True)
class Source:
    """The name and text of one file; its line breaks are single newlines."""

    name: str
    text: str
    _starts: list[int] = field(default_factory=list)

    def line_col(self, offset: int) -> tuple[int, int]:
        """Return line and column, both from 1, of a character."""
        if not self._starts:
            self._starts = [0, *(match.end() for match in re.finditer("\n", self.text))]
        offset = min(max(offset, 0), len(self.text))
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """Return one line's text, without its break."""
        self.line_col(0)
        if not 1 <= number <= len(self._starts):
            return ""
        end = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[self._starts[number - 1] : end]


@dataclass(frozen=True, slots=True)
class Spot:
    """The place of a member: the spans (start, end) of its key and of its value."""

    source: Source
    key: tuple[int, int]
    value: tuple[int, int]
    explicit: bool = True
    """False for a table that exists only because the file names a table inside it."""


class Tab(dict[str, Any]):
    """A table with the places of its members."""

    def __init__(self, here: Spot) -> None:
        super().__init__()
        self.here = here
        self.spots: dict[str, Spot] = {}

    def put(self, key: str, value: Any, spot: Spot) -> None:
        """Set a member and its place."""
        self[key] = value
        self.spots[key] = spot

    def copy(self) -> "Tab":
        """Return a shallow copy, including the places."""
        twin = Tab(self.here)
        twin.update(self)
        twin.spots.update(self.spots)
        return twin


class Arr(list[Any]):
    """An array with the places of its elements."""

    def __init__(self, here: Spot) -> None:
        super().__init__()
        self.here = here
        self.spots: list[Spot] = []

    def put(self, value: Any, spot: Spot) -> None:
        """Append an element and its place."""
        self.append(value)
        self.spots.append(spot)


Path = tuple[str | int, ...]


class _Scan:
    """Scans the text once and fills `spots` by path."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.at = 0
        self.spots: dict[Path, Spot] = {}
        self.counts: dict[Path, int] = {}

    def run(self) -> None:
        prefix: Path = ()
        while True:
            self.skip_blank()
            if self.at >= len(self.text):
                return
            if self.text.startswith("[[", self.at):
                self.at += 2
                prefix = self.header(many=True)
                self.at += 2
            elif self.text[self.at] == "[":
                self.at += 1
                prefix = self.header(many=False)
                self.at += 1
            else:
                self.pair(prefix)

    def skip_blank(self) -> None:
        match = _BLANK.match(self.text, self.at)
        if match:
            self.at = match.end()

    def skip_space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        if match:
            self.at = match.end()

    def token(self, pattern: re.Pattern[str]) -> tuple[int, int]:
        match = pattern.match(self.text, self.at)
        if not match or match.end() == self.at:
            raise AssertionError(f"scan lost at offset {self.at}")
        self.at = match.end()
        return match.span()

    def key(self) -> list[tuple[str, tuple[int, int]]]:
        """Read a dotted key: the names and their spans."""
        parts: list[tuple[str, tuple[int, int]]] = []
        while True:
            self.skip_space()
            if self.text[self.at] in "\"'":
                span = self.string()
                parts.append((_unquote(self.text[span[0] : span[1]]), span))
            else:
                span = self.token(_BARE_KEY)
                parts.append((self.text[span[0] : span[1]], span))
            self.skip_space()
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def header(self, *, many: bool) -> Path:
        parts = self.key()
        whole = (parts[0][1][0], parts[-1][1][1])
        path: Path = ()
        for index, (name, span) in enumerate(parts):
            path = (*path, name)
            last = index == len(parts) - 1
            if last and many:
                self.counts[path] = self.counts.get(path, 0) + 1
                self.spots.setdefault(path, Spot(self.source, span, whole))
                path = (*path, self.counts[path] - 1)
                self.spots[path] = Spot(self.source, span, whole)
            elif last:
                known = self.spots.get(path)
                if known is None or not known.explicit:
                    self.spots[path] = Spot(self.source, span, whole)
            else:
                self.spots.setdefault(path, Spot(self.source, span, whole, explicit=False))
                if path in self.counts:  # a table below the latest element of an array of tables
                    path = (*path, self.counts[path] - 1)
            self.limit(path)
        return path

    def limit(self, path: Path) -> None:
        if len(path) > MOST_NESTING:
            raise NestingError(self.source.line_col(self.at))

    def pair(self, prefix: Path) -> None:
        parts = self.key()
        path = prefix
        for name, span in parts[:-1]:
            path = (*path, name)
            self.spots.setdefault(path, Spot(self.source, span, span, explicit=False))
        name, span = parts[-1]
        path = (*path, name)
        self.limit(path)
        self.at += 1  # =
        self.skip_space()
        start = self.at
        self.value(path)
        self.spots[path] = Spot(self.source, span, (start, self.at))

    def string(self) -> tuple[int, int]:
        for pattern in _STRINGS:
            match = pattern.match(self.text, self.at)
            if match:
                self.at = match.end()
                return match.span()
        raise AssertionError(f"scan lost in a string at offset {self.at}")

    def value(self, path: Path) -> None:
        self.limit(path)
        first = self.text[self.at]
        if first in "\"'":
            self.string()
        elif first == "[":
            self.array(path)
        elif first == "{":
            self.inline_table(path)
        else:
            self.token(_SCALAR)

    def array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while True:
            self.skip_blank()
            if self.text[self.at] == "]":
                self.at += 1
                return
            start = self.at
            self.value((*path, index))
            span = (start, self.at)
            self.spots[(*path, index)] = Spot(self.source, span, span)
            index += 1
            self.skip_blank()
            if self.text[self.at] == ",":
                self.at += 1

    def inline_table(self, path: Path) -> None:
        self.at += 1
        while True:
            self.skip_blank()
            if self.text[self.at] == "}":
                self.at += 1
                return
            self.pair(path)
            self.skip_blank()
            if self.text[self.at] == ",":
                self.at += 1


_ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def _unquote(text: str) -> str:
    """Return the name of a quoted key."""
    if text[0] == "'":
        return text[1:-1]

    def replace(match: re.Match[str]) -> str:
        escape = match[1]
        return _ESCAPES[escape] if escape in _ESCAPES else chr(int(escape[1:], 16))

    return re.sub(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", replace, text[1:-1])


def annotate(source: Source, data: dict[str, Any]) -> Tab:
    """Return tomllib's `data` with the place of each member; raises `NestingError`."""
    scan = _Scan(source)
    scan.run()
    top = Spot(source, (0, 0), (0, 0))
    return _table(data, (), scan.spots, top)


def _table(data: dict[str, Any], path: Path, spots: dict[Path, Spot], here: Spot) -> Tab:
    tab = Tab(here)
    for name, value in data.items():
        spot = spots.get((*path, name), here)
        tab.put(name, _value(value, (*path, name), spots, spot), spot)
    return tab


def _value(value: Any, path: Path, spots: dict[Path, Spot], here: Spot) -> Any:
    if isinstance(value, dict):
        return _table(value, path, spots, here)
    if isinstance(value, list):
        array = Arr(here)
        for index, element in enumerate(value):
            spot = spots.get((*path, index), here)
            array.put(_value(element, (*path, index), spots, spot), spot)
        return array
    return value
