"""proxy.dashboard.drawing: what of a line has changed."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard.drawing import changes
from proxy.dashboard.text import Segment, width


def line(*texts):
    """Return a line of plain segments."""
    return tuple(Segment(text) for text in texts)


def test_only_the_cells_that_differ():
    """A figure that changed is drawn alone; two that stand close to each other are drawn as one."""
    assert changes(line("name ", "12 ", "x"), line("name ", "13 ", "x")) == [(5, 8)]
    assert changes(line("a" * 20, "1", "b" * 20, "2"), line("a" * 20, "3", "b" * 20, "4")) == [(20, 21), (41, 42)]
    assert changes(line("1", "near", "2"), line("3", "near", "4")) == [(0, 6)]
    assert changes(line("same"), line("same")) == []
    assert changes((Segment("a", "good"),), (Segment("a", "bad"),)) == [(0, 1)]


def test_what_moved_is_drawn_to_the_end():
    """If a segment has another width, or there are others, all behind it is drawn."""
    assert changes(line("a", "bb", "c"), line("a", "b", "c"))[0][0] == 1
    assert changes(line("a", "bb", "c"), line("a", "b", "c"))[-1][1] > 1000
    assert changes(line("a"), line("a", "b"))[-1][1] > 1000


TEXTS = st.lists(st.text("ab ", max_size=12), max_size=8)


@given(TEXTS, TEXTS)
def test_every_difference_is_drawn(old, new):
    """Where two lines differ in a cell, that cell is in one of the runs; the runs do not overlap."""
    runs = changes(line(*old), line(*new))
    before, after = "".join(old), "".join(new)
    for at in range(max(width(before), width(after))):
        if before[at : at + 1] != after[at : at + 1]:
            assert any(start <= at < end for start, end in runs)
    assert all(first[1] <= second[0] for first, second in pairwise(runs))
