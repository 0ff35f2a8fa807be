"""proxy.dashboard.table: columns for a width, and lines in them."""

import pytest

from proxy.dashboard import table
from proxy.dashboard.rows import Row, View, rows
from proxy.dashboard.text import ASCII, UNICODE, length, plain
from tests.proxy.dashboard.lively import NOW

HOSTILE = "220 \x1b]0;owned\x07\x1b[2J\r\nforged line\u202e [red]x[/red]"


def drawn(scene, cells, glyphs=UNICODE):
    """Return the list as text."""
    cols = table.columns(scene.status, cells, glyphs, scene.taken)
    found = rows(scene.status, View(), scene.history, 1000)
    return [table.heading(cols), *(line for row in found for line in table.lines(row, cols, scene.history))]


@pytest.mark.parametrize("cells", [1, 20, 40, 60, 79, 80, 100, 109, 110, 119, 120, 159, 160, 199, 200, 300])
def test_nothing_is_wider_than_the_screen(scene, cells):
    """At every width each line fits, and the name and state of each row are there from 30 cells on."""
    lines = drawn(scene, cells)
    assert max(map(length, lines)) <= cells
    if cells >= 30:
        shown = [plain(line) for line in lines]
        assert any("smtp" in line and "down" in line for line in shown)


@pytest.mark.parametrize("cells", [80, 120, 200])
def test_columns_stand_below_their_headings(scene, cells):
    """A right-aligned figure ends where its heading ends."""
    lines = [plain(line) for line in drawn(scene, cells)]
    for head in ("OPEN", "P99ms", "ERR/s"):
        end = lines[0].index(head) + len(head)
        for line in lines[1:]:
            if "● up" in line:
                assert line[end - 1] != " "
                assert line[end : end + 1].strip() == ""


def test_a_narrow_screen(scene):
    """At 80 cells what is not simply up has its reason below it, with its age."""
    lines = [plain(line) for line in drawn(scene, 80)]
    at = next(at for at, line in enumerate(lines) if "10.0.0.12 " in line and "down" in line)
    assert lines[at + 1] == "      1m35s: no answer within 1 s (3 failures in a row)"
    assert not any("NOERROR" in line for line in lines)


def test_a_wide_screen(scene):
    """At 200 cells every reason stands in its row, with since when, and how long ago the probe ended."""
    line = next(line for line in map(plain, drawn(scene, 200)) if "10.0.0.12 " in line)
    assert line.split()[-12:] == [
        "1m35s",
        "1s",
        "no",
        "answer",
        "within",
        "1",
        "s",
        "(3",
        "failures",
        "in",
        "a",
        "row)",
    ]


def test_what_is_below_is_what_is_counted(scene):
    """The height of a row is the number of its lines, at every width."""
    for cells in (40, 80, 120, 200):
        cols = table.columns(scene.status, cells, UNICODE, scene.taken)
        for row in rows(scene.status, View(), scene.history, 1000):
            assert table.height(row, cols) == len(table.lines(row, cols, scene.history))


def test_a_slow_start_shows_both_weights(scene, make):
    """A weight that is lower than configured is shown before the configured one."""
    one = make.backend("a", "up", weight=10, effective_weight=2.5)
    cols = table.columns(scene.status, 80, UNICODE, NOW)
    service = make.status(one)["services"][0]
    assert "2.5/10" in plain(table.lines(Row(service, one), cols, scene.history)[0])


def test_hostile_text_stays_text(scene, make):
    """Neither a name nor a reason can steer the terminal, add a line or colour anything."""
    one = make.backend(HOSTILE, "down", reason=HOSTILE, admin="drain", admin_by=HOSTILE, admin_reason=HOSTILE)
    scene.status = make.status(one, state="degraded")
    scene.status["services"][0].update(name=HOSTILE, scheduler=HOSTILE, listen=[HOSTILE], state=HOSTILE)
    for cells in (30, 80, 120, 200):
        lines = [plain(line) for line in drawn(scene, cells)]
        assert all(line.isprintable() for line in lines)
    assert any("[red]x[/red]" in line for line in lines)


def test_a_terminal_without_unicode(scene):
    """With plain glyphs everything is ASCII."""
    assert all(plain(line).isascii() for line in drawn(scene, 120, ASCII))


def test_nothing_at_all(scene, make):
    """A daemon without services has a heading alone."""
    scene.status = make.status()
    scene.status["services"] = []
    assert len(drawn(scene, 80)) == 1


def test_where_a_service_listens(scene):
    """Where not all listeners have room, the first one and the number of the others are shown."""
    lines = [plain(line) for line in drawn(scene, 120)]
    assert any(line.endswith("10.0.0.10:53/udp +1") for line in lines)
    assert any(
        line.endswith("10.0.0.10:53/udp 10.0.0.10:53/tcp, least-connections") for line in map(plain, drawn(scene, 200))
    )
