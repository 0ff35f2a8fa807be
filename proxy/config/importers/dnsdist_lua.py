"""The calls in a configuration of dnsdist in Lua: constants are read, nothing is executed [pure]."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.config.importers.ledger import Statement
from proxy.config.importers.lexer import Lexer, Place, Token, UnreadableError

_DEEPEST: Final = 50
_SHOWN: Final = 60
_LEXER: Final = Lexer(
    {
        "skip": r"[ \t\r\n\f\v;]+|--\[\[.*?\]\]|--[^\n]*",
        "string": r"""\"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\[\[.*?\]\]""",
        "number": r"0[xX][0-9A-Fa-f]+|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?",
        "name": r"[A-Za-z_][A-Za-z0-9_]*",
        "sign": r"\.\.\.?|[=~<>]=|::|[-+*/%^\#&|~<>=(){}\[\]:,.]",
    }
)
_OPENING: Final = frozenset(("function", "if", "for", "while", "do", "repeat"))
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\n": "\n"}


@dataclass(frozen=True, slots=True)
class Name:
    """A name whose value is not known: a constant of dnsdist, or what only running the file would tell."""

    text: str


@dataclass(slots=True)
class Table:
    """A table constructor: its list part, and its keys with the places of their names."""

    items: list[Any] = field(default_factory=list)
    keys: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Token] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """A call, as a statement or as a value; `methods` are the calls of methods on its result."""

    name: str
    place: Place
    args: list[Any]
    methods: list["Call"] = field(default_factory=list)
    end: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """The keys of all tables among the arguments."""
        return {key: value for arg in self.args if isinstance(arg, Table) for key, value in arg.keys.items()}

    @property
    def statement(self) -> Statement:
        """The call as a statement: its arguments are words, the keys of its tables are the statements of its block."""
        words = [Token("name", self.name, self.place)]
        block: list[Statement] = []
        for arg in self.args:
            if isinstance(arg, Table) and arg.keys:
                for key, token in arg.places.items():
                    block.append(
                        Statement((token._replace(text=key), Token("value", shown(arg.keys[key]), token.place)))
                    )
            else:
                words.append(Token("value", shown(arg), self.place))
        return Statement(tuple(words), tuple(block) or None)


class NotConstantError(Exception):
    """An expression whose value only running the file would tell."""


def shown(value: Any) -> str:
    """Return a value as a note shows it."""
    match value:
        case Call():
            return f"{value.name}({', '.join(map(shown, value.args[:4]))})"[:_SHOWN]
        case Table():
            return f"{{{', '.join(map(shown, value.items[:4]))}}}"[:_SHOWN]
        case Name():
            return value.text
        case bool() | None:
            return {True: "true", False: "false", None: "nil"}[value]
        case float():
            return f"{value:.15g}"
    return str(value)[:_SHOWN]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A statement that is not a call with constants."""

    statement: Statement
    why: str


class Lua:
    """Reads the statements of one file."""

    def __init__(self, file: str, text: str, variables: dict[str, Any] | None = None) -> None:
        """Prepare; `variables` are those of the files before, and are added to."""
        self._tokens = list(_LEXER.tokens(file, text))
        self._at = 0
        self._end = Token("end", "", Place(file, text.count("\n") + 1))
        self.variables: dict[str, Any] = {} if variables is None else variables

    def statements(self) -> Iterator[Call | Skipped]:
        """Yield each call, and each other statement as skipped; raises `UnreadableError`."""
        while self._next().kind != "end":
            start = self._at
            try:
                found = self._statement()
            except NotConstantError as why:
                found = Skipped(self._skipped(start), str(why))
            if found is not None:
                yield found
            if self._at == start:
                self._at += 1  # whatever it is

    # -- tokens

    def _next(self, ahead: int = 0) -> Token:
        return self._tokens[self._at + ahead] if self._at + ahead < len(self._tokens) else self._end

    def _take(self, text: str = "") -> Token:
        token = self._next()
        if text and (token.text != text or token.kind == "string"):
            raise NotConstantError(f'"{text}" is missing' if token.kind != "end" else "the file ends here")
        self._at += 1
        return token

    def _is(self, text: str, ahead: int = 0) -> bool:
        token = self._next(ahead)
        return token.text == text and token.kind in {"sign", "name"}

    def _skipped(self, start: int) -> Statement:
        """Pass over the rest of a statement: to its `end`, or to the end of its line outside of brackets."""
        self._at = start
        first = self._next()
        if first.text == "local":
            self._at += 1
        depth = blocks = 0
        opened: list[Token] = []
        line = first.place.line
        while (token := self._next()).kind != "end":
            if self._at > start and depth == blocks == 0 and token.place.line > line:
                break
            if token.kind == "sign" and token.text in "({[":
                depth += 1
                opened.append(token)
            elif token.kind == "sign" and token.text in ")}]":
                depth = max(0, depth - 1)
                if opened:
                    opened.pop()
            elif token.kind == "name" and token.text in _OPENING and not (token.text == "do" and self._loop(start)):
                blocks += 1
            elif token.kind == "name" and token.text in {"end", "until"} and blocks:
                blocks -= 1
            line = token.place.line + token.text.count("\n")
            self._at += 1
        if opened:
            raise UnreadableError(opened[-1].place, f'this "{opened[-1].text}" is never closed')
        words = [token for token in self._tokens[start : self._at] if token.place.line == first.place.line]
        return Statement(tuple(words[:12]) or (first,))

    def _loop(self, start: int) -> bool:
        """Return True if the `do` at hand belongs to a `for` or `while` of the same statement."""
        depth = 0
        for token in self._tokens[start : self._at]:
            if token.kind == "name" and token.text in {"for", "while"}:
                depth += 1
            elif token.kind == "name" and token.text == "do" and depth:
                depth -= 1
        return depth > 0

    # -- statements

    def _statement(self) -> Call | Skipped | None:
        token = self._next()
        if token.kind != "name" or token.text in _OPENING or token.text in {"return", "break", "end", "goto"}:
            raise NotConstantError("only calls are read, nothing is executed")
        ahead = 1 if token.text == "local" else 0
        if self._next(ahead).kind == "name" and self._is("=", ahead + 1):
            self._at += ahead
            return self._assignment()
        found = self._suffixed(0)
        if not isinstance(found, Call):
            raise NotConstantError("only calls are read, nothing is executed")
        return found

    def _assignment(self) -> Call | None:
        name = self._take()
        self._take("=")
        self.variables[name.text] = Name(name.text)
        value = self._expression(0)
        self.variables[name.text] = value
        return value if isinstance(value, Call) else None

    # -- expressions

    def _expression(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise UnreadableError(self._next().place, "nested too deeply")
        value = self._operand(depth)
        while self._is(".."):
            self._take()
            other = self._operand(depth)
            if not all(isinstance(each, str | float) for each in (value, other)):
                raise NotConstantError("this value is not known without running the file")
            value = shown(value) + shown(other)
        follows = self._next()
        if follows.kind == "sign" and follows.text in {"+", "-", "*", "/", "%", "==", "~=", "<", ">", "<=", ">="}:
            raise NotConstantError("this value is not known without running the file")
        if follows.kind == "name" and follows.text in {"and", "or"}:
            raise NotConstantError("this value is not known without running the file")
        return value

    def _operand(self, depth: int) -> Any:
        token = self._next()
        if token.kind == "string":
            self._take()
            return _string(token.text)
        if token.kind == "number" or (token.text == "-" and self._next(1).kind == "number"):
            sign = -1.0 if token.kind == "sign" else 1.0
            self._at += token.kind == "sign"
            text = self._take().text
            return sign * (float(int(text, 16)) if text[:2] in {"0x", "0X"} else float(text))
        if token.text == "{" and token.kind == "sign":
            return self._table(depth + 1)
        if token.kind == "name" and token.text in {"true", "false", "nil"}:
            self._take()
            return {"true": True, "false": False, "nil": None}[token.text]
        if token.kind == "name" and token.text not in {*_OPENING, "not"}:
            return self._suffixed(depth + 1)
        raise NotConstantError("this value is not known without running the file")

    def _suffixed(self, depth: int) -> Any:
        """Return a name with everything behind it: dots, a call, calls of methods."""
        if depth > _DEEPEST:
            raise UnreadableError(self._next().place, "nested too deeply")
        token = self._take()
        text = token.text
        while self._is(".") and self._next(1).kind == "name":
            self._take()
            text += f".{self._take().text}"
        value: Any = self.variables.get(text, Name(text))
        while True:
            follows = self._next()
            if self._calls(follows):
                value = Call(text, token.place, self._args(depth))
            elif self._is(":") and self._next(1).kind == "name":
                self._take()
                method = self._take()
                made = Call(method.text, method.place, self._args(depth))
                if not isinstance(value, Call):
                    value = Call(text, token.place, [])
                value.methods.append(made)
            else:
                return value

    @staticmethod
    def _calls(token: Token) -> bool:
        return token.kind == "string" or (token.kind == "sign" and token.text in {"(", "{"})

    def _args(self, depth: int) -> list[Any]:
        token = self._next()
        if token.kind == "string":
            self._take()
            return [_string(token.text)]
        if self._is("{"):
            return [self._table(depth + 1)]
        opened = self._take("(")
        found: list[Any] = []
        while not self._is(")"):
            self._closes(opened)
            found.append(self._expression(depth + 1))
            if not self._is(")"):
                self._closes(opened)
                self._take(",")
        self._take(")")
        return found

    def _closes(self, opened: Token) -> None:
        if self._next().kind == "end":
            raise UnreadableError(opened.place, f'this "{opened.text}" is never closed')

    def _table(self, depth: int) -> Table:
        opened = self._take("{")
        found = Table()
        while not self._is("}"):
            self._closes(opened)
            token = self._next()
            if token.kind == "name" and self._is("=", 1):
                self._at += 2
                found.keys[token.text], found.places[token.text] = self._expression(depth), token
            elif self._is("[") and self._next(1).kind == "string" and self._is("]", 2) and self._is("=", 3):
                key = _string(self._next(1).text)
                self._at += 4
                found.keys[key], found.places[key] = self._expression(depth), token
            else:
                found.items.append(self._expression(depth))
            if not self._is("}"):
                self._closes(opened)
                if not (self._is(",")):
                    raise UnreadableError(
                        self._next().place, f'"," or "}}" is missing before "{self._next().text[:20]}"'
                    )
                self._take()
        self._take("}")
        return found


def _string(text: str) -> str:
    if text.startswith("[["):
        return text[2:-2]
    return re.sub(
        r"\\(x[0-9A-Fa-f]{2}|[0-9]{1,3}|.)",
        lambda found: (
            chr(int(found[1][1:], 16))
            if found[1][0] == "x" and len(found[1]) > 1
            else chr(int(found[1]))
            if found[1].isdecimal()
            else _ESCAPES.get(found[1], found[1])
        ),
        text[1:-1],
        flags=re.DOTALL,
    )
