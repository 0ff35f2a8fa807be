"""What the benchmarks print."""

from bench.tables import absolute, facts_text, points_text, relative, work_text
from tests.bench.samples import compared, scaled, work


def line(text, start):
    return next(one for one in text.splitlines() if one.startswith(start))


def test_absolute_figures_are_medians():
    """A system's line has the medians of its runs, the sum of what failed, its latencies and its memory."""
    cells = line(absolute(work()), "steelyard").split()
    assert cells == ["steelyard", "40.000", "10.00", "30.00", "1.0%", "3", "0", "1.00", "2.00", "3.00", "2.00", "1.0"]


def test_what_has_no_processes_costs_nothing_of_its_own():
    """No balancer has no cost of its own, no idle connections and no memory: these are dashes."""
    cells = line(absolute(work()), "none").split()
    assert (cells[2], cells[-2:]) == ("-", ["-", "-"])


def test_relative_figures_are_of_all_and_of_quiet_pairs():
    """The ratio to a peer is shown for all pairs, and for those of quiet runs with their number."""
    text = line(relative(work()), "/ dnsdist 1.9")
    assert "0.80 (0.50-1.50)" in text
    assert "0.65 (0.50-0.80)  2" in text
    assert "0.50 (0.50-0.50)" in text  # p99


def test_a_system_alone_has_no_ratios():
    """Without peers there is no table of ratios."""
    alone = work()
    alone.rounds = [{"steelyard": one["steelyard"]} for one in alone.rounds]
    assert "/ peer" not in work_text(alone, "about")


def test_scale_has_ratios_to_the_plain_configuration():
    """A configuration's line has its cost, and its ratio to the plain one in the same round."""
    cells = line(points_text(scaled().points), "1000 backends").split()
    assert cells == ["1000", "backends", "25.00", "1.75", "(1.50-2.00)", "2.00", "(2.00-2.00)", "1"]


def test_the_note_is_shown():
    """The note of a result stands beside its facts."""
    result = compared()
    result.facts["note"] = "short runs"
    assert facts_text(result).splitlines()[-1] == "short runs"
