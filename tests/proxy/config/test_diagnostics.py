"""How a mistake is shown."""

from proxy.config.diagnostics import ConfigError, Diagnostic, Report, closest, did_you_mean, listed
from proxy.config.positions import Source, Spot


def test_a_diagnostic_shows_place_line_caret_and_hint():
    """The text of a diagnostic is file:line:col, the message, the line with a caret under the place, and the hint."""
    shown = str(Diagnostic("error", "a.toml", 3, 6, "wrong", "\tx = yes", "write true", length=3))
    assert shown == "a.toml:3:6: error: wrong\n    \tx = yes\n    \t    ^^^\n    write true"


def test_a_long_line_is_cut_around_the_caret():
    """A line of any length shows at most about a hundred characters, with the place among them."""
    source = "x" * 5000 + "HERE" + "y" * 5000
    lines = str(Diagnostic("error", "a.toml", 1, 5001, "wrong", source, length=4)).splitlines()
    assert len(lines[1]) < 120
    start = lines[2].index("^")
    assert lines[1][start : start + 4] == "HERE"
    assert lines[2].count("^") == 4


def test_terminal_sequences_are_not_passed_on():
    """S3: an escape sequence in a file's name, line or message does not reach the terminal."""
    assert "\x1b" not in str(Diagnostic("error", "\x1b[2J.toml", 1, 1, "\x1b]0;x\a", "\x1b[31m", "\x1b[0m"))


def test_a_caret_stays_on_its_line():
    """A span over several lines is marked up to the end of its first."""
    source = Source("a.toml", "x = [\n 1,\n]\n")
    report = Report()
    report.error(Spot(source, (0, 1), (4, 12)), "wrong")
    assert str(report.sorted()[0]).splitlines()[2] == "        ^"


def test_diagnostics_are_in_the_order_of_the_file_and_told_once():
    """Each diagnostic is reported once, sorted by file, line and column."""
    one, two = Source("one", "a = 1\nb = 2\n"), Source("two", "c = 3\n")
    report = Report()
    for spot in (
        Spot(one, (6, 7), (10, 11)),
        Spot(two, (0, 1), (4, 5)),
        Spot(one, (0, 1), (4, 5)),
        Spot(one, (6, 7), (10, 11)),
    ):
        report.error(spot, "wrong")
    assert [(found.file, found.line) for found in report.sorted()] == [("one", 1), ("one", 2), ("two", 1)]
    assert report.errors == 3


def test_the_number_of_diagnostics_has_a_bound():
    """After 500 diagnostics the rest is only counted, and the count is reported."""
    report = Report()
    for line in range(700):
        report.plain("error", "a.toml", (line + 1, 1), "wrong")
    assert len(report.sorted()) == 501
    assert "200 more" in report.sorted()[-1].message
    assert report.errors == 700


def test_the_error_shows_all_its_diagnostics():
    """A ConfigError's text is all its diagnostics."""
    error = ConfigError([Diagnostic("error", "a", 1, 1, "one"), Diagnostic("error", "a", 2, 1, "two")])
    assert str(error) == "a:1:1: error: one\na:2:1: error: two"
    assert len(error.diagnostics) == 2


def test_suggestions():
    """A misspelt word gets the nearest known one, whatever its case and with underscores for hyphens; a strange one gets none."""
    words = ["connect-timeout", "idle-timeout", "backlog"]
    assert closest("conect_timeout", words) == "connect-timeout"
    assert closest("BackLog", words) == "backlog"
    assert closest("zzz", words) is None
    assert did_you_mean("bakclog", words) == 'did you mean "backlog"?'
    assert did_you_mean("zzz", words) == ""
    assert listed(["a", "b", "c"]) == '"a", "b" or "c"'
    assert listed(["a"]) == '"a"'
