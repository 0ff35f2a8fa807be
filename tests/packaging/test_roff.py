"""Markdown as man(7): each construct, and no text that roff takes for a command."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipping import roff
from tests.e2e.process import program


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("# Title\n\nText.", ".PP\nText."),
        ("## A part\n\nText.", ".SH A PART\nText."),
        ("### A part of it", ".SS A part of it"),
        ("a `--long-option NAME` b", ".PP\na \\fB\\%\\-\\-long\\-option \\%NAME\\fR b"),
        ("**much** and *some*", ".PP\n\\fBmuch\\fR and \\fIsome\\fR"),
        ("see [there](page.md)", ".PP\nsee there"),
        ("see [there](https://toml.io)", ".PP\nsee there <https://toml.io>"),
        ("- one\n- two", ".IP \\(bu 2\none\n.IP \\(bu 2\ntwo"),
        ("1. one\n2. two", ".IP 1. 3\none\n.IP 2. 3\ntwo"),
        ("```sh\nls -l\n.x\n```", ".PP\n.RS 4\n.EX\nls \\-l\n\\&.x\n.EE\n.RE"),
        (".dot and 'quote", ".PP\n\\&.dot and 'quote"),
        ("a\\\\b", ".PP\na\\eb"),
        (
            "| key | type | meaning |\n|---|---|---|\n| `a` | number | why |",
            ".TP\n\\fB\\%a\\fR\ntype: number.\n.br\nwhy",
        ),
        ("| what | why |\n|---|---|\n| `a` | |", ".TP\n\\fB\\%a\\fR\n\\&"),
    ],
)
def test_each_construct(markdown, expected):
    """Headings, spans, links, lists, examples and tables have their macros."""
    assert roff.joined([roff.render(markdown)]) == expected


def test_lines_are_short_and_spans_whole():
    """Lines of text have at most 78 characters unless one word is longer, and a span stays on one line."""
    text = "word " * 40 + "`a span of several words` " + "word " * 40
    lines = roff.render(text).splitlines()
    assert max(map(len, lines)) <= 110
    assert sum("\\fB" in line for line in lines) == 1
    assert all(line.count("\\fB") == line.count("\\fR") for line in lines)


@given(st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=60))
def test_plain_text_is_never_a_command(text):
    """Whatever a paragraph or a line of an example says, no line of it begins a macro."""
    lines = [*roff.paragraph(roff.escape(text)).splitlines(), roff.protect(roff.escape(text))]
    assert not any(line.startswith((".", "'")) for line in lines)


def test_what_is_printed_is_what_was_written():
    """Groff prints the words of an example as they were: backslashes, dots, quotes and hyphens among them."""
    words = r"""a\b .c 'd -e --f \fBg\fR "h" ~i ^j `k`"""
    page = f"{roff.header('x', 1, '2026-01-31', '1')}\n.SH NAME\nx \\- y\n{roff.example(words)}\n"
    done = subprocess.run(
        [program("groff"), "-man", "-Tascii", "-P-cbou"], input=page, capture_output=True, text=True, check=True
    )
    assert words in done.stdout
