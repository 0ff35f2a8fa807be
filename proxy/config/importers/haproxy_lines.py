"""The lines of HAProxy's configuration: words with quotes and escapes, in sections [pure]."""

import re
from typing import Final

from proxy.config.importers.ledger import Statement
from proxy.config.importers.lexer import Lexer, Token, UnreadableError

SECTIONS: Final = frozenset(
    ("global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist", "mailers", "program", "http-errors",
     "ring", "cache", "log-forward", "fcgi-app", "crt-store", "traces", "acme", "log-profile")
)  # fmt: skip
_LEXER: Final = Lexer(
    {
        "skip": r"(?:[ \t\r\f\v]|\\\n)+|\#[^\n]*",
        "line": r"\n",
        "word": r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\\[^\n]|[^\s"'\\\#])+""",
    }
)
_PIECE: Final = re.compile(r"""("(?:[^"\\]|\\.)*")|('[^']*')|((?:\\x[0-9A-Fa-f]{2}|\\.|[^"'\\])+)""", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_PLAIN: Final = {"r": "\r", "n": "\n", "t": "\t"}


def unquoted(text: str) -> str:
    """Return a word without quotes and escapes; in single quotes nothing has a meaning."""
    return "".join(
        _escaped(double[1:-1]) if double else single[1:-1] if single else _escaped(plain)
        for double, single, plain in _PIECE.findall(text)
    )


def _escaped(text: str) -> str:
    return _ESCAPE.sub(
        lambda found: chr(int(found[1][1:], 16)) if len(found[1]) > 1 else _PLAIN.get(found[1], found[1]), text
    )


def sections(file: str, text: str) -> list[Statement]:
    """Return the sections of a file, each with its lines as a block; raises `UnreadableError`."""
    found: list[Statement] = []
    head: tuple[Token, ...] = ()
    block: list[Statement] = []
    words: list[Token] = []

    def close() -> None:
        if head:
            found.append(Statement(head, tuple(block)))
            block.clear()

    for token in [*_LEXER.tokens(file, text + "\n")]:
        if token.kind == "word":
            words.append(token._replace(text=unquoted(token.text)))
            continue
        if not words:
            continue
        if words[0].text in SECTIONS:
            close()
            head = tuple(words)
        elif words[0].text.startswith("."):
            pass  # conditions are not evaluated: all their lines are read
        elif not head:
            hint = f"a file of HAProxy begins with a section such as {', '.join(sorted(SECTIONS)[:4])}"
            raise UnreadableError(words[0].place, f'"{words[0].text[:40]}" stands in no section', hint)
        else:
            block.append(Statement(tuple(words)))
        words.clear()
    close()
    return found
