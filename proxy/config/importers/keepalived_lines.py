"""The lines of keepalived.conf(5): includes, comments, conditionals, definitions, sequences; then statements in blocks [pure]."""

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from proxy.config.importers.ledger import Ledger, Statement
from proxy.config.importers.lexer import Lexer, Place, Token, UnreadableError

Reader = Callable[[str], Sequence[tuple[str, str]]]
"""Returns the names and texts of the files that a pattern of an absolute path means, none if there are none."""

_MOST_LINES: Final = 200_000
_LONGEST: Final = 65_536
_DEEPEST: Final = 20
_MOST_IDS: Final = 16
_INCLUDE: Final = re.compile(r"\s*(include[rmwba]?)\s+(\S.*?)\s*")
_DEFINE: Final = re.compile(r"\s*\$([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_USE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*)(?=\s|$))")
_CONDITION: Final = re.compile(r"\s*@(\^?)(\S+)(?:\s+(.*))?", re.DOTALL)
_SEQUENCE: Final = re.compile(r"\s*~SEQ(x?)\(([^()]*)\)(.*)", re.DOTALL)
_LIST: Final = re.compile(r"\s*~LST\(([^()]*)\)(.*)", re.DOTALL)
_LEXER: Final = Lexer(
    {
        "skip": r"[ \t\r\f\v]+|[!#][^\n]*",
        "line": r"\n",
        "open": r"\{",
        "close": r"\}",
        "word": r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\$\{[^{}\s]*\}|\\.|[^\s"'{}!#\\])+""",
    }
)
_PIECE: Final = re.compile(r"""("(?:[^"\\]|\\.)*")|('[^']*')|(\\.)|([^"'\\]+)""", re.DOTALL)


class Lines:
    """Expands the lines of one file and its includes for one configuration id ("" for none)."""

    def __init__(self, reader: Reader, ledger: Ledger, identity: str = "") -> None:
        """Prepare."""
        self._reader = reader
        self._ledger = ledger
        self._identity = identity
        self._defined: dict[str, str] = {}
        self._lines = 0
        self.identities: list[str] = []
        """The ids that conditional lines have named."""

    def statements(self, file: str, text: str) -> tuple[Statement, ...]:
        """Return the statements of a file; raises `UnreadableError`."""
        return _Tree(self._file(file, text, 0)).block(0)

    def _file(self, file: str, text: str, depth: int) -> Iterator[Token]:
        if depth > _DEEPEST:
            raise UnreadableError(Place(file, 1), f"files include each other more than {_DEEPEST} times")
        for number, line in _joined(text):
            place = Place(file, number)
            include = _INCLUDE.fullmatch(line)
            if include:
                yield from self._include(include[1], include[2], place, depth)
            else:
                self._defined["_PWD"] = posixpath.dirname(file)
                yield from self._line(line, place, 0)

    def _include(self, word: str, pattern: str, place: Place, depth: int) -> Iterator[Token]:
        pattern = pattern.strip("\"'")
        found = self._reader(posixpath.join(posixpath.dirname(place.file), pattern))
        statement = Statement((Token("word", word, place), Token("word", pattern, place)))
        if not found:
            self._ledger.left(statement, "there is no such file, or it cannot be read")
        else:
            self._ledger.carried(statement)
        for name, text in found:
            yield from self._file(name, text, depth + 1)

    def _line(self, line: str, place: Place, depth: int) -> Iterator[Token]:
        """Yield the tokens of a line after its conditional, definition, sequence or parameters are replaced."""
        self._lines += 1
        if depth > 2 * _DEEPEST or len(line) > _LONGEST or self._lines > _MOST_LINES:
            raise UnreadableError(place, "this line becomes too long: definitions that contain each other?")
        condition = _CONDITION.fullmatch(line)
        if condition:
            if condition[2] not in self.identities and len(self.identities) < _MOST_IDS:
                self.identities.append(condition[2])
            if (condition[2] == self._identity) != bool(condition[1]):
                yield from self._line(condition[3] or "", place, depth + 1)
            return
        define = _DEFINE.fullmatch(line)
        if define:
            self._defined[define[1]] = define[2].strip(" \t\r")
            return
        for several in (self._sequence(line, place), self._list(line, place)):
            if several is not None:
                values, rest = several
                for value in values:
                    self._defined.update(value)
                    yield from self._line(rest, place, depth + 1)
                return
        used = _USE.search(line.partition("#")[0])
        if used and (used[1] or used[2]) in self._known():
            replaced = _USE.sub(lambda each: self._known().get(each[1] or each[2], each[0]), line)
            for each in replaced.split("\n"):
                yield from self._line(each, place, depth + 1)
            return
        yield from _LEXER.tokens(place.file, line + "\n", place.line)

    def _known(self) -> dict[str, str]:
        return {"_INSTANCE": self._identity, "_HASH": "\\#", "_BANG": "\\!", **self._defined}

    def _sequence(self, line: str, place: Place) -> tuple[list[dict[str, str]], str] | None:
        found = _SEQUENCE.fullmatch(line)
        if found is None:
            return None
        name, *bounds = (part.strip() for part in found[2].split(","))
        try:
            numbers = [int(each, 0) for each in bounds]
        except ValueError:
            raise UnreadableError(place, "~SEQ needs numbers: ~SEQ(var, start, step, end)") from None
        if not 1 <= len(numbers) <= 3:  # noqa: PLR2004 - start, step and end
            raise UnreadableError(place, "~SEQ needs a name and one to three numbers: ~SEQ(var, start, step, end)")
        end = numbers[-1]
        start = numbers[0] if len(numbers) > 1 else 1 if end > 0 else -1
        step = numbers[1] if len(numbers) == 3 else 1 if end >= start else -1  # noqa: PLR2004 - as above
        if step == 0 or abs(end - start) // abs(step) > _MOST_LINES:
            raise UnreadableError(place, "~SEQ never ends, or makes too many lines")
        values = range(start, end + (1 if step > 0 else -1), step)
        return [{name: f"{value:x}" if found[1] else str(value)} for value in values], found[3].lstrip()

    def _list(self, line: str, place: Place) -> tuple[list[dict[str, str]], str] | None:
        found = _LIST.fullmatch(line)
        if found is None:
            return None
        parts = [part.strip() for part in re.findall(r"\s*(\{[^{}]*\}|[^,{}]+)\s*(?:,|$)", found[1])]
        if len(parts) < 2:  # noqa: PLR2004 - a name and a value
            raise UnreadableError(place, "~LST needs a name and values: ~LST(var, value, value)")
        names, *rows = ([each.strip() for each in part.strip("{}").split(",")] for part in parts)
        return [dict(zip(names, row, strict=False)) for row in rows], found[2].lstrip()


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number; a line that ends with a backslash continues, a definition of several lines stays so."""
    pending, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        first = first or number
        if line.endswith("\\") and not line.endswith("\\\\"):
            several = _DEFINE.match(pending or line) or _CONDITION.match(pending or line)
            pending += line[:-1] + ("\n" if several else " ")
            if len(pending) > _LONGEST:
                break
            continue
        yield first, pending + line
        pending, first = "", 0
    if pending:
        yield first, pending


def unquoted(text: str) -> str:
    """Return a word without its quotes; backslashes keep their meaning inside double quotes only."""
    return "".join(
        double[1:-1].replace('\\"', '"') if double else single[1:-1] if single else escaped[1:] if escaped else plain
        for double, single, escaped, plain in _PIECE.findall(text)
    )


class _Tree:
    """Builds statements from tokens: a line is a statement, `{` opens its block, also at the beginning of the next line."""

    def __init__(self, tokens: Iterator[Token]) -> None:
        self._tokens = tokens
        self._last = Place("", 1)

    def block(self, depth: int, opened: Place | None = None) -> tuple[Statement, ...]:
        found: list[Statement] = []
        words: list[Token] = []

        def end() -> None:
            if words:
                found.append(Statement(tuple(words)))
                words.clear()

        for token in self._tokens:
            self._last = token.place
            if token.kind == "word":
                words.append(token._replace(text=unquoted(token.text)))
            elif token.kind == "line":
                end()
            elif token.kind == "open":
                if depth >= _DEEPEST:
                    raise UnreadableError(token.place, "blocks are nested too deeply")
                if not words and found and found[-1].block is None:  # the brace has a line of its own
                    words.extend(found.pop().words)
                if not words:
                    raise UnreadableError(token.place, "a block without a name")
                head = tuple(words)
                words.clear()
                found.append(Statement(head, self.block(depth + 1, token.place)))
            elif opened is None:
                raise UnreadableError(token.place, 'this "}" closes nothing')
            else:
                end()
                return tuple(found)
        end()
        if opened is not None:
            raise UnreadableError(opened, 'this "{" is never closed')
        return tuple(found)
