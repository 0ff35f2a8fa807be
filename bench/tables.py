"""Texts of results for a terminal: medians, and ratios within each round."""

from collections.abc import Sequence

from bench.ratios import QUIET, Spread, median, ratios, spread
from bench.results import Latency, Point, Result, Unit, WorkResult


def number(value: float | None, digits: int = 1, scale: float = 1.0) -> str:
    """Return a figure, or a dash if there is none."""
    return "-" if value is None else f"{value * scale:,.{digits}f}"


def rate(value: float | None, unit: Unit) -> str:
    """Return a rate with the digits that it deserves: 12,345.6 or 0.949."""
    return number(value, 1 if value and value * unit.rate_scale >= 100 else 3, unit.rate_scale)  # noqa: PLR2004


def shown(found: Spread | None) -> str:
    """Return a spread as "1.52 (1.17-2.22)"."""
    return "-" if found is None else f"{found.median:.2f} ({found.low:.2f}-{found.high:.2f})"


def facts_text(result: Result) -> str:
    """Return the machine and the programs, in a few lines."""
    facts = result.facts
    tools = ", ".join(f"{name} {version}" for name, version in facts["tools"].items())
    lines = [
        f"{facts['date']}, {facts['processor']}, {facts['processors']} processors, Linux {facts['kernel']}",
        f"Steelyard {facts['steelyard']} ({facts['revision']}), Python {facts['python']}; {facts['system']}: {tools}",
    ]
    return "\n".join([*lines, facts["note"]] if facts["note"] else lines)


def work_text(work: WorkResult, about: str, limit: float = QUIET) -> str:
    """Return the report of one work."""
    parts = [f"{work.name}: {about}", "", absolute(work)]
    if len(work.systems) > 1:
        parts += ["", relative(work, limit)]
    return "\n".join(parts)


def absolute(work: WorkResult) -> str:
    """Return the medians of each system; absolute figures compare poorly on a shared machine."""
    unit = work.unit
    width = max(22, *(len(name) for name in work.systems))
    head = f"{'':{width}}{unit.rate:>14}{unit.cost:>15}{'machine':>9}{'others':>8}{'failed':>8}{'lost':>7}"
    latency = f"{'p50 ms':>9}{'p99':>8}{'p99.9':>8}" if work.latencies else ""
    idle = f"{'KiB/idle':>10}" if work.idle else ""
    lines = [f"{head}{latency}{idle}{'MiB':>8}"]
    for name in work.systems:
        runs = [one[name] for one in work.rounds]
        line = (
            f"{name:{width}}{rate(median(work.rounds, name, lambda run: run.rate), unit):>14}"
            f"{number(median(work.rounds, name, lambda run: run.own), 2, unit.cost_scale):>15}"
            f"{number(median(work.rounds, name, lambda run: run.machine), 2, unit.cost_scale):>9}"
            f"{number(median(work.rounds, name, lambda run: run.others), 1, 100):>7}%"
            f"{sum(run.failed for run in runs):>8}{sum(run.lost for run in runs):>7}"
        )
        if work.latencies:
            for figure, room in ((p50, 9), (p99, 8), (p999, 8)):
                line += f"{number(median(work.latencies, name, figure), 2, 1e3):>{room}}"
        if work.idle:
            line += f"{number(work.idle.get(name), 2, 1 / 1024):>10}"
        lines.append(f"{line}{number(work.memory.get(name), 1, 2**-20):>8}")
    if work.rate is not None:
        lines.append(f"latency at {work.rate:,.0f} {work.unit.rate}")
    if work.resting:
        most = max(work.resting, key=lambda name: work.resting[name])
        lines.append(f"at rest, a system used at most {work.resting[most]:.1%} of a processor ({most})")
    return "\n".join(lines)


def relative(work: WorkResult, limit: float = QUIET) -> str:
    """Return the ratios of the subject to each peer: of all pairs, and of the quiet ones."""
    subject, *peers = work.systems
    width = max(22, *(len(name) + 2 for name in peers))
    lines = [f"{subject} / peer, median (range) of pairs; quiet: others had at most {limit:.0%} of the machine"]
    lines.append(
        f"{'':{width}}{'rate':>20}{'rate, quiet':>20}{'n':>3}{'own CPU, quiet':>20}{'machine, quiet':>20}{'p99, quiet':>20}"
    )
    for peer in peers:
        calm = ratios(work.rounds, subject, peer, lambda run: run.rate, limit)
        cells = [
            f"{shown(spread(ratios(work.rounds, subject, peer, lambda run: run.rate))):>20}",
            f"{shown(spread(calm)):>20}{len(calm):>3}",
            f"{shown(spread(ratios(work.rounds, subject, peer, lambda run: run.own, limit))):>20}",
            f"{shown(spread(ratios(work.rounds, subject, peer, lambda run: run.machine, limit))):>20}",
            f"{shown(spread(ratios(work.latencies, subject, peer, p99, limit))):>20}",
        ]
        lines.append(f"{'/ ' + peer:{width}}{''.join(cells)}")
    return "\n".join(lines)


def p50(run: Latency) -> float:
    """Return the median latency."""
    return run.p50


def p99(run: Latency) -> float:
    """Return the latency that 99 % do not exceed."""
    return run.p99


def p999(run: Latency) -> float:
    """Return the latency that 99.9 % do not exceed."""
    return run.p999


def points_text(points: Sequence[Point]) -> str:
    """Return the report of `scale`: the cost of a unit in each configuration, and its ratio to the plain one."""
    width = max(len(point.name) for point in points) + 2
    lines = []
    for group in dict.fromkeys((point.group, point.load) for point in points):
        lines += ["", f"{group[0]}, {group[1]}", f"{'':{width}}{'us a unit':>11}{'/ plain':>20}{'quiet':>20}{'n':>3}"]
        for point in points:
            if (point.group, point.load) == group:
                calm = spread(point_ratios(point, QUIET))
                cost = spread(point.cost)
                lines.append(
                    f"{point.name:{width}}{number(cost.median if cost else None, 2, 1e6):>11}"
                    f"{shown(spread(point_ratios(point))):>20}{shown(calm):>20}{calm.count if calm else 0:>3}"
                )
    return "\n".join(lines[1:])


def point_ratios(point: Point, limit: float | None = None) -> list[float]:
    """Return the cost of a configuration divided by that of the plain one in the same round."""
    rows = zip(point.cost, point.base, point.others, strict=True)
    return [cost / base for cost, base, others in rows if base and (limit is None or others <= limit)]
