"""proxy.dashboard.text: lines of styled text whose width is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard.text import (
    ASCII,
    UNICODE,
    Segment,
    clipped,
    fit,
    flow,
    length,
    milliseconds,
    plain,
    quantity,
    segment,
    spark,
    spread,
    width,
    wrapped,
)


@given(st.text(), st.integers(0, 40), st.booleans())
def test_a_fitted_text_has_its_width(text, cells, right):
    """Whatever a text has in it, it fills exactly its cells, and nothing in it moves a cursor."""
    found = fit(text, cells, right=right)
    assert width(found) == cells
    assert not any(char in found for char in "\x1b\n\r\t\x07\u202e")


@given(st.lists(st.text(), max_size=6), st.integers(1, 60))
def test_a_clipped_line_is_never_wider(texts, cells):
    """A line of any texts is cut to the width of the screen."""
    assert length(clipped([segment(text) for text in texts], cells)) <= cells


@given(st.text(), st.integers(4, 60), st.integers(1, 4))
def test_wrapped_lines_are_bounded(text, cells, most):
    """A text of any length takes no more lines, and none of them more cells, than it is given."""
    found = wrapped(text, cells, most)
    assert len(found) <= most
    assert all(width(line) <= cells for line in found)


def test_a_text_that_fits_is_wrapped_whole():
    """No word is lost while there are lines enough; the rest is marked as cut."""
    assert wrapped("no answer within 1 s", 10, 3) == ["no answer", "within 1 s"]
    assert wrapped("no answer within 1 s", 10, 1) == ["no answer…"]
    assert wrapped("", 10, 1) == []


def test_markup_stays_text():
    """What looks like markup is shown as it is."""
    assert plain([segment("[bold]x[/bold]")]) == "[bold]x[/bold]"


def test_control_characters_are_replaced():
    """A text of a hostile server can neither steer the terminal nor hide anything."""
    assert segment("a\x1b[2Jb\u202e").text == "a\\x1b[2Jb\\u202e"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.01, "<0.1"), (0.4, "0.4"), (5, "5"), (9.96, "10"), (812.4, "812"), (999.6, "1.0k"), (8400, "8.4k"),
     (123_456, "123k"), (7.1e6, "7.1M"), (1e18, ">1P")],
)  # fmt: skip
def test_quantities(number, text):
    """A number takes five characters at most, and what is not nothing is not shown as nothing."""
    assert quantity(number) == text


@given(st.floats(0, 1e18))
def test_quantities_are_short(number):
    """No number is wider than its column."""
    assert len(quantity(number)) <= 5


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.41, "0.41"), (0.999, "1.0"), (4.14, "4.1"), (12.4, "12"), (999.7, "1.0s"), (12_000, "12s")],
)
def test_milliseconds(value, text):
    """A time is milliseconds unless it says that it is seconds."""
    assert milliseconds(value) == text


def test_a_curve_begins_at_zero():
    """The height of a curve is its value, measured from nothing: a rate that hardly moves is a straight line."""
    assert spark([0, 1, 50, 100], 6, UNICODE) == "  ▁▂▅█"
    assert spark([99, 100], 2, UNICODE) == "██"
    assert spark([0, 0], 2, ASCII) == "__"
    assert spark([], 3, UNICODE) == "   "


def test_a_line_with_two_edges():
    """One part stands at each edge, and the left one is cut first."""
    assert plain(spread([Segment("left")], [Segment("right")], 12)) == "left   right"
    assert plain(spread([Segment("left" * 5)], [Segment("right")], 12)) == "leftl… right"


def test_chunks_flow():
    """A chunk that finds no room begins a further line."""
    chunks = [[Segment("one")], [], [Segment("two")], [Segment("three")]]
    assert [plain(line) for line in flow(chunks, 12, 2)] == ["one   two", "  three"]
