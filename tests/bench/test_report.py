"""What the benchmarks print."""

from bench.report import Figures, ratios, table


def run(rate: float, cost: float = 10.0, failed: int = 0) -> Figures:
    """Return figures of which a test sets what it compares."""
    return Figures(rate=rate, cost=cost, machine=2 * cost, latency=0.001, failed=failed)


ROUNDS = [
    {"steelyard": run(50), "dnsdist": run(100)},
    {"steelyard": run(30), "dnsdist": run(20)},
    {"steelyard": run(40, failed=3), "dnsdist": run(50)},
]


def test_ratios_are_taken_within_a_round():
    """A ratio compares two systems in the same round, never a median with a median."""
    assert ratios(ROUNDS, "steelyard", "dnsdist") == (0.5, 0.8, 1.5)


def test_table_shows_medians_failures_and_ratios():
    """The table has the median of each system, the sum of what failed, and the ratio of every round."""
    text = table(ROUNDS, "steelyard", ("queries/s", "us/query"))
    steelyard = next(line for line in text.splitlines() if line.startswith("steelyard "))
    assert steelyard.split() == ["steelyard", "40.0", "10.00", "20.00", "1.00", "3"]
    assert "steelyard/dnsdist: median 0.80, 0.50 to 1.50 in 3 rounds (0.50 1.50 0.80)" in text


def test_what_has_no_processes_costs_nothing():
    """No balancer has no cost of its own, which is shown as a dash."""
    text = table([{"steelyard": run(1), "none": run(2, cost=0.0)}], "steelyard", ("queries/s", "us/query"))
    assert next(line for line in text.splitlines() if line.startswith("none")).split()[2] == "-"
