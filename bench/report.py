"""Makes a table of rounds of samples: absolute medians, and ratios within each round."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """One run of one system: its rate and its cost, in the units of the load."""

    rate: float
    cost: float  # processor time of the balancer's processes for each unit of work
    machine: float  # processor time of the whole machine for each unit of work
    latency: float | None  # seconds
    failed: int


Round = dict[str, Figures]  # by system


def ratios(rounds: Sequence[Round], subject: str, peer: str) -> tuple[float, float, float]:
    """Return the least, the median and the greatest ratio of two systems' rates, each within one round.

    On a machine whose absolute figures drift from minute to minute, only such ratios are meaningful.
    """
    found = [one[subject].rate / one[peer].rate for one in rounds]
    return min(found), statistics.median(found), max(found)


def table(rounds: Sequence[Round], subject: str, units: tuple[str, str]) -> str:
    """Return the report of one load."""
    rate_unit, cost_unit = units
    lines = [f"{'':12}{rate_unit:>15}{cost_unit:>16}{'whole machine':>16}{'latency ms':>12}{'failed':>8}"]
    for system in rounds[0]:
        runs = [one[system] for one in rounds]
        latencies = [run.latency for run in runs if run.latency is not None]
        latency = f"{statistics.median(latencies) * 1e3:.2f}" if latencies else "-"
        cost = statistics.median(run.cost for run in runs)
        lines.append(
            f"{system:12}{statistics.median(run.rate for run in runs):15,.1f}"
            f"{f'{cost:.2f}' if cost else '-':>16}"
            f"{statistics.median(run.machine for run in runs):16.2f}{latency:>12}{sum(run.failed for run in runs):8}"
        )
    for peer in rounds[0]:
        if peer != subject:
            low, middle, high = ratios(rounds, subject, peer)
            each = " ".join(f"{one[subject].rate / one[peer].rate:.2f}" for one in rounds)
            lines.append(
                f"{subject}/{peer}: median {middle:.2f}, {low:.2f} to {high:.2f} in {len(rounds)} rounds ({each})"
            )
    return "\n".join(lines)
