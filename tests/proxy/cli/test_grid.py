"""proxy.cli.grid: aligned columns."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.grid import Cell, align, paint

HEAD = [Cell("NAME"), Cell("N", right=True), Cell("SPARE"), Cell("WHY")]


def test_columns_are_aligned_and_empty_ones_left_out():
    """Columns are as wide as their widest cell, numbers stand at the right, and a column that nobody fills is gone."""
    rows = [
        HEAD,
        [Cell("a"), Cell("1", right=True), Cell(""), Cell("x y")],
        [Cell("long"), Cell("10", right=True), Cell(""), Cell("")],
    ]
    assert align(rows, coloured=False, indent="  ") == ["  NAME   N  WHY", "  a      1  x y", "  long  10"]


def test_colour_does_not_move_columns():
    """Colours take no room."""
    rows = [HEAD, [Cell("a", "red"), Cell("1", "bold", right=True), Cell(""), Cell("x", "green")]]
    bare = [line.replace("\x1b[31m", "").replace("\x1b[1m", "").replace("\x1b[32m", "").replace("\x1b[0m", "")
            for line in align(rows, coloured=True)]  # fmt: skip
    assert bare == align(rows, coloured=False)


def test_no_rows():
    """Nothing makes nothing."""
    assert align([], coloured=True) == []


@given(st.lists(st.lists(st.text(max_size=40), min_size=3, max_size=3), max_size=5), st.integers(0, 100))
def test_no_cell_can_break_the_table(texts, width):
    """S3: whatever the cells hold, there is a printable line a row at least, and no control character."""
    lines = align([[Cell(text) for text in row] for row in texts], coloured=False, width=width)
    assert len(lines) >= len(texts)
    assert all(len(line.splitlines()) <= 1 and "\x1b" not in line for line in lines)


def test_what_does_not_fit_goes_on_below():
    """A long last cell goes on in its column where that has room, and below its row where it has not; nothing is cut."""
    rows = [[Cell("NAME"), Cell("WHY")], [Cell("a"), Cell("one two three four five six seven")], [Cell("b"), Cell("x")]]
    assert align(rows, coloured=False, width=36) == [
        "NAME  WHY",
        "a     one two three four five six",
        "      seven",
        "b     x",
    ]
    rows[1][0] = Cell("a" * 30)
    assert align(rows, coloured=False, width=36)[1:3] == ["a" * 30, "    one two three four five six"]


def test_painting():
    """Only what has a colour and a text is painted, and what is painted is printable."""
    assert paint("x\x1b", "red", coloured=True) == "\x1b[31mx\\x1b\x1b[0m"
    assert paint("x", "", coloured=True) == paint("x", "red", coloured=False) == "x"
    assert paint("", "red", coloured=True) == ""
