"""Reads the files into one annotated tree: TOML errors, includes, and the merge, in which a duplicate table is an error."""

import errno
import glob
import hashlib
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Final

from proxy.config.characters import line_ends, stranger
from proxy.config.diagnostics import Report
from proxy.config.hostfiles import distrust
from proxy.config.positions import Arr, NestingError, Source, Spot, Tab, annotate

LARGEST_FILE: Final = 8 * 1024 * 1024
MOST_FILES: Final = 1000
_OPENED: Final = "/dev/"  # files that the caller has opened (/dev/stdin, /dev/fd/63): the caller's own choice

_AT_LINE: Final = re.compile(
    r"^(?P<words>.*) \(at (?:line (?P<line>\d+), column (?P<col>\d+)|end of document)\)$", re.DOTALL
)
_TWICE: Final = re.compile(
    r"^Cannot (?:declare|mutate immutable namespace|overwrite) \((?P<path>.*?),?\)(?: twice)?$", re.DOTALL
)


class Files:
    """Reads the main file and its includes; afterwards `names` and `sha256` describe the files."""

    def __init__(self, report: Report, *, running: bool = False) -> None:
        """Prepare; `running` means that this process will obey the files, whichever user it runs as."""
        self.report = report
        self.running = running
        self.names: list[str] = []
        self.patterns: list[str] = []
        """The patterns of `include`."""
        self._digest = hashlib.sha256()
        self._seen: set[str] = set()
        self._whole = True

    @property
    def sha256(self) -> str:
        """The SHA-256 digest of all contents in the order of reading, in hexadecimal."""
        return self._digest.hexdigest()

    def load(self, path: str) -> Tab | None:
        """Return the merged tree, None after reporting a missing part; raises OSError if the main file cannot be read."""
        tree = self._parse(path, self._read(path))
        if not path.startswith(_OPENED) and (why := distrust(path, running=self.running)):
            self.report.plain("error", path, (1, 1), str(why), hint=why.hint)
        if tree is None:
            return None
        self._include(tree, tree)
        return tree if self._whole else None

    def given(self, name: str, text: str) -> Tab | None:
        """Return the tree of a text that stands in no file, None after reporting a mistake."""
        tree = self._parse(name, text.encode())
        if tree is not None:
            self._include(tree, tree)
        return tree if self._whole else None

    def _include(self, tab: Tab, into: Tab) -> None:
        patterns = tab.pop("include", None)
        if patterns is None:
            return
        spot = tab.spots["include"]
        if not isinstance(patterns, Arr):
            self._lacks(spot, 'include must be a list of paths: ["/etc/steelyard/conf.d/*.toml"]')
            return
        for pattern, place in zip(patterns, patterns.spots, strict=True):
            if not isinstance(pattern, str):
                self._lacks(place, "include must be a list of paths in quotes")
            elif not pattern.startswith("/"):
                self._lacks(
                    place,
                    f'"{pattern[:60]}" is a relative path: write it from the root, so that it means the same everywhere',
                )
            else:
                self._include_glob(pattern, place, into)

    def _include_glob(self, pattern: str, place: Spot, into: Tab) -> None:
        self.patterns.append(pattern)
        if "\0" in pattern:
            self._lacks(place, "a path must not contain a NUL character")
            return
        found = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207 - Path globs from a folder
        for name in found:
            if os.path.realpath(name) in self._seen or (name != pattern and Path(name).is_dir()):
                continue
            if len(self.names) >= MOST_FILES:
                self._lacks(place, f"more than {MOST_FILES} files")
                return
            try:
                content = self._read(name)
            except OSError as error:
                self._lacks(place, f"cannot read {name}: {error.strerror}")
                continue
            if why := distrust(name, running=self.running):
                self.report.error(place, str(why), why.hint)
            tab = self._parse(name, content)
            if tab is None:
                self._whole = False
                continue
            self._include(tab, into)
            self._merge(into, tab, "")

    def _lacks(self, spot: Spot, message: str) -> None:
        """Report why a part of the file is missing; further mistakes then cannot be found."""
        self._whole = False
        self.report.error(spot, message)

    def _merge(self, into: Tab, tab: Tab, prefix: str) -> None:
        for key, value in tab.items():
            spot = tab.spots[key]
            if key not in into:
                into.put(key, value, spot)
                continue
            known, there = into.spots[key], into[key]
            if isinstance(value, Tab) and isinstance(there, Tab) and not (spot.explicit and known.explicit):
                self._merge(there, value, f"{prefix}{key}.")
                if spot.explicit:
                    into.spots[key] = spot
                continue
            what = f"[{prefix}{key}]" if isinstance(value, Tab) else f'"{prefix}{key}"'
            line, _ = known.source.line_col(known.key[0])
            self.report.error(spot, f"{what} is already defined at {known.source.name}:{line}", at="key")

    def _parse(self, name: str, content: bytes) -> Tab | None:
        self.names.append(name)
        self._seen.add(os.path.realpath(name))
        self._digest.update(content)
        if len(content) > LARGEST_FILE:
            self.report.plain("error", name, (1, 1), f"larger than {LARGEST_FILE >> 20} MiB: not a configuration")
            return None
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            before = content[: error.start].decode().replace("\r\n", "\n")
            source = Source(name, before)
            self.report.at(
                "error", source, len(before), f"byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8"
            )
            return None
        source = Source(name, text.replace("\r\n", "\n"))
        if text.startswith("\ufeff"):
            self.report.at("error", source, 0, "the file begins with a byte order mark: save it as UTF-8 without one")
            return None
        if found := line_ends(text):
            at, words, hint = found
            self.report.at("error", source, len(text[:at].replace("\r\n", "\n")), words, hint)
            return None
        try:
            return annotate(source, tomllib.loads(text))
        except NestingError as error:
            line, col = error.args[0]
            self.report.plain("error", name, (line, col), "tables are nested too deeply", source.line(line))
        except RecursionError:
            self.report.at("error", source, 0, "lists or tables are nested too deeply")
        except ValueError as error:
            self._toml_error(source, str(error))
        return None

    def _read(self, name: str) -> bytes:
        """Return a file's contents; raises OSError.  Never blocks on a pipe in the place of the file."""
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(fd, "rb") as stream:  # noqa: PTH123 - it is open already
            if not stat.S_ISREG(os.fstat(fd).st_mode) and not name.startswith(_OPENED):
                raise OSError(errno.EINVAL, "it is not a file", name)
            os.set_blocking(fd, True)
            return stream.read(LARGEST_FILE + 1)

    def _toml_error(self, source: Source, text: str) -> None:
        match = _AT_LINE.match(text)
        if not match:
            self.report.at("error", source, 0, f"not TOML: {text[:120]}")
            return
        if match["line"]:
            line, col = int(match["line"]), int(match["col"])
        else:
            line, col = source.line_col(len(source.text.rstrip()))
        shown = source.line(line)
        strange = stranger(shown[col - 1]) if match["line"] and 0 < col <= len(shown) else None
        words, hint, start = (*strange, None) if strange else _plainer(match["words"], source, line)
        self.report.plain("error", source.name, (line, start or col), words, shown, hint=hint)


def _plainer(words: str, source: Source, line: int) -> tuple[str, str, int | None]:
    """Return tomllib's message in clearer words, a hint, and a better column if there is one."""
    shown = source.line(line)
    start = len(shown) - len(shown.lstrip()) + 1
    twice = _TWICE.match(words)
    if twice:
        names = re.findall(r"'((?:[^'\\]|\\.)*)'", twice["path"])
        path = ".".join(names)
        pattern = r"^[ \t]*\[[ \t]*" + r"[ \t]*\.[ \t]*".join(re.escape(part) for part in names) + r"[ \t]*\]"
        first = re.search(pattern, source.text, re.MULTILINE)
        where = source.line_col(first.start())[0] if first else 0
        known = f" at line {where}" if 0 < where < line else ""
        return f"[{path}] is already defined{known}", "", start
    if words == "Cannot overwrite a value":
        return "this key is already set above", "", start
    hints: dict[str, tuple[str, str]] = {
        "Invalid value": ("not a TOML value", 'write strings in quotes: "10.0.0.1", "2s"'),
        "Unescaped '\\' in a string": ("a backslash in a string must be doubled", "or use single quotes: 'a\\b'"),
        "Unclosed inline table": (
            "a { is not closed",
            "TOML forbids line breaks and a trailing comma inside { }: use [table] lines",
        ),
        "Unclosed array": ("a [ is not closed, or a comma is missing", ""),
        "Expected '=' after a key in a key/value pair": ('"=" is missing after the key', ""),
        "Expected newline or end of document after a statement": (
            "something follows a complete value",
            "write one key = value on each line",
        ),
        "Invalid initial character for a key part": ("a key is expected here", _inline_hint(source, line)),
        "Expected ']' at the end of a table declaration": ('"]" is missing after the name of the table', ""),
        "Illegal character '\\n'": ("a string is not closed", ""),
        "Unterminated string": ("a string is not closed", ""),
    }
    bare = re.search(r"[=\[,][ \t]*([A-Za-z0-9][^\s\"',\]}#]*)", shown)
    if bare and words in {"Invalid value", "Expected newline or end of document after a statement", "Unclosed array"}:
        word = bare[1][:60]
        if word.casefold() in {"yes", "no", "on", "off", "true", "false"} and word not in {"true", "false"}:
            return f"{word} is not a TOML value", "write true or false", bare.start(1) + 1
        if not re.fullmatch(r"[0-9]+|true|false", word, re.ASCII):
            return f"{word} is not a TOML value", f'write it in quotes: "{word}"', bare.start(1) + 1
    if words in hints:
        return (*hints[words], None)
    return words[:1].lower() + words[1:200], "", None


def _inline_hint(source: Source, line: int) -> str:
    text = source.line(line)
    if text.count("{") > text.count("}"):
        return "TOML forbids line breaks and a trailing comma inside { }: use a separate [table]"
    if "{" in text:
        return "TOML forbids a trailing comma inside { }"
    return ""
