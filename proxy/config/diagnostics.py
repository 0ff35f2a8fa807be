"""Errors and warnings about a file: one `Diagnostic` each, collected by a `Report`, shown with its line and a caret."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from proxy.config.positions import Source, Spot
from proxy.words import counted

MOST_DIAGNOSTICS: Final = 500
_WIDTH: Final = 100

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake or warning. `line` and `col` count characters from 1; `length` is the length of the caret."""

    severity: Severity
    file: str
    line: int
    col: int
    message: str
    source: str = ""
    hint: str = ""
    length: int = 1
    of_host: bool = False
    """Whether it depends on the host: a warning that `check --host` makes an error."""

    def __str__(self) -> str:
        """Return the diagnostic for an editor or a person: place and message, the line, a caret, the hint."""
        text = f"{_printable(self.file)}:{self.line}:{self.col}: {self.severity}: {_printable(self.message)}"
        if self.source:
            line, start, length = _window(self.source, self.col - 1, self.length)
            pad = "".join("\t" if char == "\t" else " " for char in line[:start])
            text += f"\n    {_printable(line)}\n    {pad}{'^' * length}"
        if self.hint:
            text += f"\n    {_printable(self.hint)}"
        return text

    @property
    def text(self) -> str:
        """The message and the hint alone, for a value that does not come from a file."""
        return _printable(f"{self.message}: {self.hint}" if self.hint else self.message)

    def as_dict(self) -> dict[str, Any]:
        """Return the diagnostic for `--json`."""
        return {key: value for key, value in asdict(self).items() if key != "of_host"}

    def on_its_host(self) -> "Diagnostic":
        """Return the diagnostic as a check of the host that the file is for has it."""
        return replace(self, severity="error") if self.of_host else self


def _printable(text: str) -> str:
    """Return the text without characters that could control a terminal, except tabs (S3)."""
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _window(line: str, start: int, length: int) -> tuple[str, int, int]:
    """Cut a long line around the caret; return the shown text, the start of the caret in it and its length."""
    line = line.rstrip()
    start = min(start, len(line))
    if len(line) > _WIDTH:
        left = max(0, min(start - _WIDTH // 4, len(line) - _WIDTH))
        head = "…" if left else ""
        tail = "…" if left + _WIDTH < len(line) else ""
        line = head + line[left : left + _WIDTH] + tail
        start = start - left + len(head)
    return line, start, max(1, min(length, len(line) - start))


class ConfigError(Exception):
    """The configuration is wrong: `diagnostics` lists all mistakes with their places."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(str(diagnostic) for diagnostic in self.diagnostics))


class Report:
    """Collects diagnostics; drops duplicates for the same place."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], Diagnostic] = {}
        self._order: dict[str, int] = {}
        self.errors = 0
        self.dropped = 0

    def add(
        self, severity: Severity, spot: Spot, message: str, hint: str = "", *, at: Literal["key", "value"] = "value"
    ) -> None:
        """Report a diagnostic about a member of a table or list; the caret is under its key or its value."""
        start, end = spot.key if at == "key" else spot.value
        self.at(severity, spot.source, start, message, hint, length=end - start)

    def error(self, spot: Spot, message: str, hint: str = "", *, at: Literal["key", "value"] = "value") -> None:
        """Report a mistake."""
        self.add("error", spot, message, hint, at=at)

    def warn(
        self,
        spot: Spot,
        message: str,
        hint: str = "",
        *,
        at: Literal["key", "value"] = "value",
        of_host: bool = False,
    ) -> None:
        """Report a setting that is legal but unwise; with `of_host` it is an error of `check --host`."""
        start, end = spot.key if at == "key" else spot.value
        self.at("warning", spot.source, start, message, hint, length=end - start, of_host=of_host)

    def at(
        self,
        severity: Severity,
        source: Source,
        offset: int,
        message: str,
        hint: str = "",
        *,
        length: int = 1,
        of_host: bool = False,
    ) -> None:
        """Report a diagnostic about a character of a file."""
        line, col = source.line_col(offset)
        text = source.line(line)
        self.plain(severity, source.name, (line, col), message, text, hint=hint, length=length, of_host=of_host)

    def plain(
        self,
        severity: Severity,
        file: str,
        place: tuple[int, int],
        message: str,
        text: str = "",
        *,
        hint: str = "",
        length: int = 1,
        of_host: bool = False,
    ) -> None:
        """Report a diagnostic at a given line and column."""
        self._order.setdefault(file, len(self._order))
        key = (file, *place, message)
        if key in self._found:
            return
        if severity == "error":
            self.errors += 1
        if len(self._found) >= MOST_DIAGNOSTICS:
            self.dropped += 1
            return
        self._found[key] = Diagnostic(severity, file, *place, message, text, hint, max(1, length), of_host)

    def leave_out(self, count: int) -> None:
        """Count further errors without showing them."""
        self.errors += count
        self.dropped += count

    def sorted(self) -> list[Diagnostic]:
        """Return all diagnostics in the order of the files and their lines."""
        found = sorted(self._found.values(), key=lambda each: (self._order[each.file], each.line, each.col))
        if self.dropped:
            last = found[-1]
            found.append(
                Diagnostic(
                    "error", last.file, last.line, last.col, f"{counted(self.dropped, 'more is', 'more are')} not shown"
                )
            )
        return found


def closest(word: str, words: Iterable[str]) -> str | None:
    """Return the word that the user probably meant, None if no word is similar."""
    known = sorted(set(words))
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(word[:64].casefold().replace("_", "-"), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return "did you mean …?", "" if no word is similar."""
    near = closest(word, words)
    return f'did you mean "{near}"?' if near else ""


def listed(words: Sequence[str], joint: str = "or") -> str:
    """Return `"a", "b" or "c"`."""
    quoted = [f'"{word}"' for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {joint} {quoted[-1]}"
