"""Tokens know where they stand."""

import pytest

from proxy.config.importers.lexer import Lexer, Place, Token, UnreadableError

LEXER = Lexer({"skip": r"[ \t\n]+", "string": r'"[^"]*"', "word": r"[a-z]+"})


def test_tokens_have_lines_and_columns():
    """Each token has its kind, its text and the line and column of its first character."""
    assert list(LEXER.tokens("f", 'a\n  bc "x\ny" d')) == [
        Token("word", "a", Place("f", 1, 1)),
        Token("word", "bc", Place("f", 2, 3)),
        Token("string", '"x\ny"', Place("f", 2, 6)),
        Token("word", "d", Place("f", 3, 4)),
    ]


def test_a_text_may_begin_at_any_line():
    """The lines of a piece of a file count from where the piece stands."""
    assert [token.place.line for token in LEXER.tokens("f", "a\nb", 7)] == [7, 8]


@pytest.mark.parametrize(("text", "place", "words"), [("a\n ?", (2, 2), "'?' is not"), ('ab "c', (1, 4), "not closed")])
def test_what_no_kind_matches_is_an_error_at_its_place(text, place, words):
    """A character without a kind and a string without an end are errors with line and column."""
    with pytest.raises(UnreadableError, match=words) as error:
        list(LEXER.tokens("f", text))
    assert error.value.place[1:] == place
    assert str(error.value.diagnostic(text.split("\n")[place[0] - 1])).startswith(f"f:{place[0]}:{place[1]}: error: ")
