"""The lines of keepalived.conf: comments, quotes, blocks, conditionals, definitions, sequences, includes."""

import pytest

from proxy.config.importers.keepalived_lines import Lines, unquoted
from proxy.config.importers.ledger import Ledger
from proxy.config.importers.lexer import UnreadableError


def tree(text, identity="", files=None):
    """Return statements as nested lists."""

    def plain(statement):
        words = [word.text for word in statement.words]
        return words if statement.block is None else [*words, [plain(each) for each in statement.block]]

    reader = Lines(lambda pattern: (files or {}).get(pattern, []), Ledger(), identity)
    return [plain(each) for each in reader.statements("/etc/keepalived/keepalived.conf", text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a b # c\n! d\ne ! f", [["a", "b"], ["e"]]),
        ('a "b c" \'d e\'', [["a", "b c", "d e"]]),
        ('a x"b c"y', [["a", "xb cy"]]),
        ("a {\n b\n}\nc {\n}", [["a", [["b"]]], ["c", []]]),
        ("a { b c }", [["a", [["b", "c"]]]]),
        ("a\n{\n b\n}", [["a", [["b"]]]]),
        ("a b \\\n c", [["a", "b", "c"]]),
        ("a\r\nb\r\n", [["a"], ["b"]]),
        ("$X=1 2\na $X b${X}c ${Y}", [["a", "1", "2", "b1", "2c", "${Y}"]]),
        ("$X=10.${Y}\n$Y=0\na ${X}.1\n$Y=1\na ${X}.1", [["a", "10.0.1"], ["a", "10.1.1"]]),
        ("$I= \\\n a $N { \\\n b \\\n }\n$N=1\n$I\n$N=2\n$I", [["a", "1", [["b"]]], ["a", "2", [["b"]]]]),
        ("~SEQ(i, 1, 3) a $i", [["a", "1"], ["a", "2"], ["a", "3"]]),
        ("~SEQ(i, 5, -2, 1) a $i", [["a", "5"], ["a", "3"], ["a", "1"]]),
        ("$A= \\\n a ${i} { \\\n b \\\n }\n~SEQ(i, 1, 2) $A", [["a", "1", [["b"]]], ["a", "2", [["b"]]]]),
        ("~SEQ(i, 2) a $i", [["a", "1"], ["a", "2"]]),
        ("~SEQx(i, 0x90, 0x10, 0xa0) a ::${i}", [["a", "::90"], ["a", "::a0"]]),
        ("~LST(i, x, y) a $i", [["a", "x"], ["a", "y"]]),
        ("~LST({i, j}, {1, 2}, {3, 4}) a $i.${j}", [["a", "$i.2"], ["a", "$i.4"]]),
        ("~SEQ(i, 1, 2) ~SEQ(j, 1, 2) $i $j", [["1", "1"], ["1", "2"], ["2", "1"], ["2", "2"]]),
        ("a ${_PWD}/x ${_HASH}b", [["a", "/etc/keepalived/x", "#b"]]),
    ],
)  # fmt: skip
def test_statements(text, found):
    """A line is a statement, braces open and close blocks, and what stands for something else is replaced."""
    assert tree(text) == found


@pytest.mark.parametrize(
    ("identity", "found"), [("main", [["x", "1"], ["z"]]), ("other", [["y"], ["z"]]), ("", [["y"], ["z"]])]
)
def test_conditional_lines(identity, found):
    """A line with @id counts for that id, one with @^id for all others."""
    assert tree("@main x 1\n@^main y\nz", identity) == found


def test_the_ids_are_known():
    """The reader tells which ids the lines name, those of includes too."""
    lines = Lines(lambda _: [("/b", "@low y")], Ledger())
    lines.statements("/a", "@high x\ninclude b")
    assert lines.identities == ["high", "low"]


def test_includes_are_relative_to_their_file():
    """An include is read from beside its file, with its own name in the places."""
    files = {
        "/etc/keepalived/d/*.conf": [("/etc/keepalived/d/a.conf", "x\ninclude b.conf")],
        "/etc/keepalived/d/b.conf": [("/b", "y")],
    }
    assert tree("include d/*.conf\nz", files=files) == [["x"], ["y"], ["z"]]
    ledger = Ledger()
    found = Lines(lambda _: [("/b.conf", "\n\nbad")], ledger).statements("/a.conf", "include b.conf")
    assert str(found[0].place) == "/b.conf:3"


def test_an_include_that_is_not_there_is_told():
    """A missing include is left out with its place."""
    ledger = Ledger()
    Lines(lambda _: [], ledger).statements("/a.conf", "\ninclude nosuch.conf")
    assert str(ledger.notes[0]).startswith("/a.conf:2: include nosuch.conf: not carried over: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a {\n b", 1),
        ("}", 1),
        ("\n{\n}", 2),
        ('x\na "b', 2),
        ("~SEQ(i, a) x", 1),
        ("~LST(i) x", 1),
        ("~SEQ(i, 1, 2, 3, 4) x", 1),
    ],
)
def test_what_is_not_of_the_format_is_an_error_at_its_line(text, line):
    """Braces and quotes that do not match and wrong sequences are errors."""
    with pytest.raises(UnreadableError) as error:
        tree(text)
    assert error.value.place.line == line


def test_quotes():
    """Quotes may stand within a word; backslashes protect."""
    assert unquoted("a\"b c\"'d'\\!") == "ab cd!"
