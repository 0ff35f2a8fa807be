"""The words and sections of HAProxy's configuration."""

import pytest

from proxy.config.importers.haproxy_lines import sections
from proxy.config.importers.lexer import UnreadableError


def words(line):
    """Return the words of a line."""
    (section,) = sections("f", f"global\n{line}")
    return [[word.text for word in each.words] for each in section.block]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a b # c", [["a", "b"]]),
        (r"a b\ c \# d", [["a", "b c", "#", "d"]]),
        (r'a "b c\"" d', [["a", 'b c"', "d"]]),
        (r"a 'b\r c'", [["a", r"b\r c"]]),
        (r"a GET\ /\r\nx\x41", [["a", "GET /\r\nxA"]]),
        ("a \\\n b", [["a", "b"]]),
        (".if x\na\n.endif", [["a"]]),
    ],
)
def test_words(line, found):
    """Words end at blanks unless these are quoted or escaped; conditions are passed over."""
    assert words(line) == found


def test_sections_have_their_lines_and_places():
    """A section is a statement with its lines as block, each at its place."""
    one, two = sections("f", "frontend a b\n x\n\nbackend c\n")
    assert ([word.text for word in one.words], one.block[0].place.line) == (["frontend", "a", "b"], 2)
    assert two.block == ()


@pytest.mark.parametrize(("text", "line"), [("x y", 1), ("global\n a 'b", 2), ('global\n\n a "b', 3)])
def test_what_is_not_of_the_format(text, line):
    """A line in no section and a quote without end are errors at their place."""
    with pytest.raises(UnreadableError) as error:
        sections("f", text)
    assert error.value.place.line == line
