"""proxy.dashboard.tail: the last events, and the line of keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard import tail
from proxy.dashboard.rows import View
from proxy.dashboard.text import UNICODE, length, plain
from proxy.words import printable
from tests.proxy.dashboard.lively import NOW, events


def test_the_newest_is_first():
    """Events stand in columns, the newest first, and no more than there is room for."""
    lines = [plain(line) for line in tail.events(events(NOW), 2, NOW, 120, UNICODE)]
    assert [line.split()[1:4] for line in lines] == [
        ["vrrp", "inside", "priority"],
        ["verdict", "smtp/10.0.0.51", "up"],
    ]
    assert lines[0].index("priority") == lines[1].index("up ->")


def test_an_old_event_has_its_day():
    """An event of another day says which, and the columns stay aligned."""
    lines = [plain(line) for line in tail.events(events(NOW), 7, NOW, 120, UNICODE)]
    assert len({line.index(line.split("  ")[-1].strip()) for line in lines}) == 1
    assert lines[-1].split()[0].count("-") == 1


@given(st.lists(st.dictionaries(st.sampled_from(["at", "kind", "subject", "text", "level"]),
                                st.none() | st.floats() | st.integers() | st.text() | st.lists(st.text()))))  # fmt: skip
def test_any_event_can_be_drawn(found):
    """What is no event is a line of its words, never an error, a further line or a wider one."""
    lines = tail.events(found, 5, NOW, 60, UNICODE)
    assert len(lines) == min(5, len(found))
    assert all(length(line) <= 60 and printable(plain(line)) == plain(line) for line in lines)


@pytest.mark.parametrize(("screen", "lines"), [(10, 0), (24, 4), (40, 8), (60, 14)])
def test_room_for_events(screen, lines):
    """A larger screen shows more events; a tiny one has none."""
    assert tail.room(screen) == lines


@pytest.mark.parametrize("cells", [10, 40, 80, 200])
def test_keys_fit(cells):
    """The line of keys has what there is room for, and always whether anything can be changed."""
    for writable, detail in ((True, False), (False, False), (True, True)):
        line = tail.keys(View(), cells, UNICODE, writable=writable, detail=detail)
        assert length(line) <= cells
        if cells >= 40:
            assert ("read-write" if writable else "read-only") in plain(line)


def test_why_there_are_no_events():
    """The line above the events says why there are none, and is as wide as the screen."""
    assert length(tail.heading(80, UNICODE, silent="(403) ")) == 80
    assert "(403)" in plain(tail.heading(80, UNICODE, silent="(403) "))
    assert length(tail.heading(20, UNICODE, silent="(403) ")) <= 20
