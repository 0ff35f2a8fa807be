"""Markdown as the macros of man(7): pure, from text to text."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PARSER: Final = MarkdownIt("commonmark").enable("table")
_WIDTH: Final = 78
_SPACE: Final = "\x00"
"""A space at which no line ends: font changes stay on one line."""


def escape(text: str) -> str:
    """Return plain text as roff prints it.  Hyphens are minus signs, so that options can be copied."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("\N{HORIZONTAL ELLIPSIS}", "...")


def bold(text: str) -> str:
    """Return text in bold, none of its words divided."""
    words = (f"\\%{escape(word)}" if word else "" for word in text.split(" "))
    return f"\\fB{' '.join(words)}\\fR"


def italic(text: str) -> str:
    """Return text in italics, which terminals underline."""
    return f"\\fI{escape(text)}\\fR"


def paragraph(text: str) -> str:
    """Return lines of running text: none too long, and none that roff takes for a macro."""
    lines = textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(protect(line.replace(_SPACE, " ")) for line in lines)


def protect(line: str) -> str:
    """Return a line that begins with no macro."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def header(name: str, section: int, date: str, version: str) -> str:
    """Return the first lines of a page.  `date` is 2026-01-31."""
    return f'.TH {escape(name.upper())} {section} "{date}" "Steelyard {escape(version)}" "Steelyard"\n.ad l'


def heading(text: str, level: int = 2) -> str:
    """Return a section's heading: `level` 2 begins a section, deeper ones parts of it."""
    return f".SH {text.upper()}" if level <= 2 else f".SS {text}"  # noqa: PLR2004 - as in Markdown


def item(tag: str, body: str) -> str:
    """Return a term, which is roff already, with its explanation."""
    return f".TP\n{protect(tag)}\n{body}" if body else f".TP\n{protect(tag)}\n\\&"


def example(text: str) -> str:
    """Return lines that are shown as they are."""
    lines = "\n".join(protect(escape(line)) for line in text.rstrip("\n").split("\n"))
    return f".PP\n.RS 4\n.EX\n{lines}\n.EE\n.RE"


def render(markdown: str) -> str:
    """Return a Markdown text, without its title, as the body of a page."""
    return "\n".join(part for part in _blocks(_PARSER.parse(markdown)) if part)


def joined(parts: Iterable[str]) -> str:
    """Return the parts of a page as one text; a heading begins a paragraph itself."""
    return re.sub(r"^(\.S[HS] .*\n)\.PP\n", r"\1", "\n".join(parts), flags=re.MULTILINE)


def _blocks(tokens: Sequence[Token]) -> Iterator[str]:
    at, lists, fresh = 0, [0], False
    while at < len(tokens):
        token = tokens[at]
        match token.type:
            case "heading_open":
                level = int(token.tag[1:])
                if level > 1:
                    yield heading(_plain(tokens[at + 1]), level)
                at += 2
            case "bullet_list_open" | "ordered_list_open":
                if len(lists) > 1:
                    yield ".RS 2"
                lists.append(1)
            case "bullet_list_close" | "ordered_list_close":
                lists.pop()
                if len(lists) > 1:
                    yield ".RE"
            case "list_item_open":
                yield ".IP \\(bu 2" if token.markup in "-*" else f".IP {lists[-1]}. 3"
                lists[-1] += 1
                fresh = True
            case "inline":
                yield _text(token, "" if fresh else _break(len(lists) > 1))
                fresh = False
            case "fence" | "code_block":
                yield example(token.content)
            case "table_open":
                end = next(place for place in range(at, len(tokens)) if tokens[place].type == "table_close")
                yield from _table(tokens[at:end])
                at = end
        at += 1


def _text(token: Token, before: str) -> str:
    """Return a paragraph; nothing for a picture, which has no text."""
    text = paragraph(_inline(token)).strip()
    return f"{before}{text}" if text else ""


def _break(inside: bool) -> str:
    return ".IP\n" if inside else ".PP\n"


def _table(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield a table as a list of terms: a terminal is too narrow for columns."""
    cells = [after for before, after in pairwise(tokens) if before.type in {"th_open", "td_open"}]
    width = sum(token.type == "th_open" for token in tokens)
    rows = [cells[start : start + width] for start in range(0, len(cells), width)]
    names = [_plain(cell) for cell in rows[0]]
    for row in rows[1:]:
        first, *middle, last = [_inline(cell) for cell in row]
        said = [f"{name}: {text}" if name else text for name, text in zip(names[1:-1], middle, strict=True) if text]
        body = "; ".join(said)
        if body and last:
            body += ".\n.br\n"
        parts = body.split("\n.br\n")
        yield item(first.replace(_SPACE, " "), "\n.br\n".join(paragraph(part) for part in [parts[0], last] if part))


def _plain(token: Token) -> str:
    return "".join(child.content for child in token.children or ())


def _inline(token: Token) -> str:
    written = []
    target = ""
    for child in token.children or ():
        match child.type:
            case "text":
                written.append(escape(child.content))
            case "code_inline":
                written.append(bold(child.content).replace(" ", _SPACE))
            case "softbreak" | "hardbreak":
                written.append(" ")
            case "strong_open":
                written.append("\\fB")
            case "em_open":
                written.append("\\fI")
            case "strong_close" | "em_close":
                written.append("\\fR")
            case "link_open":
                target = str(child.attrGet("href") or "")
            case "link_close" if re.match("https?:", target):
                written.append(f" <{escape(target)}>")
    return "".join(written)
