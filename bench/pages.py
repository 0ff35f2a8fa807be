"""The page beside a result, with every figure of it, as Markdown: pure."""

from pathlib import Path

from bench.quiet import Figure, machine, own, rate, slowest
from bench.ratios import QUIET, median, spread
from bench.results import Result, WorkResult
from bench.tables import p50, p99, p999, point_ratios, shown
from bench.tables import rate as speed_text


def beside(file: Path) -> Path:
    """Return where the page of a result is."""
    return file.with_suffix(".md")


def machine_text(result: Result) -> str:
    """Return the machine and the day."""
    facts = result.facts
    return f"{facts['processor']}, {facts['processors']} processors, Linux {facts['kernel']}, {facts['date']}."


def page(result: Result) -> str:
    """Return the page with every figure of a result."""
    tools = ", ".join(f"{name} {version}" for name, version in result.facts["tools"].items())
    lines = [f"# Every figure of `{result.kind}`", "", f"    {result.facts['command']}", ""]
    if result.facts["note"]:
        lines += [f"**{result.facts['note']}**", ""]
    lines += [f"{machine_text(result)} {result.facts['system']}: {tools}; Python {result.facts['python']}.", ""]
    for work in result.works:
        lines += [*table(work), ""]
    for group in dict.fromkeys((point.group, point.load) for point in result.points):
        lines += [f"## {group[0]}, {group[1]}", "", "| | CPU / plain | quiet pairs |", "|---|---|---|"]
        for point in result.points:
            if (point.group, point.load) == group:
                found = spread(point_ratios(point, QUIET))
                lines.append(f"| {point.name} | {shown(found)} | {found.count if found else 0} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def table(work: WorkResult) -> list[str]:
    """Return the table of one work: a row for each peer."""
    figures: list[Figure] = [rate, own, machine, slowest]
    lines = [f"## {work.name}", "", "| Steelyard / | rate | own CPU | machine | p99 at half load | quiet pairs |"]
    lines.append("|---|---|---|---|---|---|")
    for peer in work.systems[1:]:
        cells = [shown(spread(figure(work, peer))) for figure in figures]
        lines.append(f"| {peer} | {' | '.join(cells)} | {len(rate(work, peer))} |")
    lines += [
        "",
        f"| | {work.unit.rate} | {work.unit.cost} | p50 / p99 / p99.9 ms | failed | lost | KiB an idle connection |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in work.systems:
        speed = median(work.rounds, name, lambda run: run.rate) or 0.0
        cost = median(work.rounds, name, lambda run: run.own)
        runs = [one[name] for one in work.rounds]
        idle = f"{work.idle[name] / 1024:.1f}" if name in work.idle else "-"
        told = "-" if cost is None else f"{cost * work.unit.cost_scale:.2f}"
        failed, lost = sum(run.failed for run in runs), sum(run.lost for run in runs)
        lines.append(
            f"| {name} | {speed_text(speed, work.unit)} | {told} | {times(work, name)} | {failed} | {lost} | {idle} |"
        )
    return lines


def times(work: WorkResult, name: str) -> str:
    """Return the latencies of a system at half load, in milliseconds."""
    found = [median(work.latencies, name, figure) for figure in (p50, p99, p999)]
    return " / ".join(f"{one * 1e3:.2f}" for one in found if one is not None) or "-"
