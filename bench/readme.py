"""README's section on performance, made from committed results; no figure stands there without one.

The section is between two markers; the first one names the files, relative to the checkout.  It shows each family of peers
by the version and variant that is hardest to beat.  Beside each result there is a page with every system.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.ratios import QUIET, Spread, median, ratios, spread
from bench.results import Result, WorkResult
from bench.tables import p50, p99, p999, point_ratios, shown
from bench.tables import rate as speed_text

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"(<!-- performance: (?P<files>[^>]*?) -->\n).*?(<!-- end of performance -->)", re.DOTALL)
FAMILIES = ("dnsdist", "HAProxy", "nginx", "NAT", "none")

Figure = Callable[[WorkResult, str], list[float]]  # the ratios of the quiet pairs with a peer


class NoSectionError(ValueError):
    """The page has no markers."""


def files_of(page: str) -> list[Path]:
    """Return the results that the section of a page is made from. Raises NoSectionError."""
    found = SECTION.search(page)
    if not found:
        raise NoSectionError("no line <!-- performance: FILE --> with <!-- end of performance --> below it")
    return [ROOT / name for name in found["files"].split()]


def replaced(page: str, files: Sequence[Path]) -> str:
    """Return the page with its section made anew from these results. Raises NoSectionError."""
    files_of(page)
    names = [str(file.resolve().relative_to(ROOT)) for file in files]
    text = "\n\n".join(section(Result.read(file), name) for file, name in zip(files, names, strict=True))
    return SECTION.sub(lambda found: f"<!-- performance: {' '.join(names)} -->\n{text}\n{found[3]}", page)


def beside(file: Path) -> Path:
    """Return the page with every figure of a result."""
    return file.with_suffix(".md")


def rate(work: WorkResult, peer: str) -> list[float]:
    """Return the ratios of rates."""
    return ratios(work.rounds, work.systems[0], peer, lambda run: run.rate, QUIET)


def own(work: WorkResult, peer: str) -> list[float]:
    """Return the ratios of processor time for each unit."""
    return ratios(work.rounds, work.systems[0], peer, lambda run: run.own, QUIET)


def machine(work: WorkResult, peer: str) -> list[float]:
    """Return the ratios of the whole machine's processor time for each unit."""
    return ratios(work.rounds, work.systems[0], peer, lambda run: run.machine, QUIET)


def slowest(work: WorkResult, peer: str) -> list[float]:
    """Return the ratios of the 99th percentiles of latency."""
    return ratios(work.latencies, work.systems[0], peer, p99, QUIET)


def hardest(work: WorkResult, family: str, figure: Figure, sign: int) -> Spread | None:
    """Return the spread beside the member of a family that is hardest to beat; `sign` is 1 if more is better."""
    members = [peer for peer in work.systems[1:] if peer.split()[0] == family]
    found = [one for peer in members if (one := spread(figure(work, peer)))]
    return min(found, key=lambda one: sign * one.median) if found else None


def matrix(result: Result, title: str, figure: Figure, sign: int) -> list[str]:
    """Return a table with a row for each work and a column for each family; nothing if it has no figure."""
    families = [one for one in FAMILIES if any(hardest(work, one, figure, sign) for work in result.works)]
    lines = [f"| {title} | {' | '.join(families)} |", "|---|" + "---|" * len(families)]
    for work in result.works:
        cells = [shown(hardest(work, family, figure, sign)) for family in families]
        if set(cells) != {"-"}:
            lines.append(f"| {work.name} | {' | '.join(cells)} |")
    return [*lines, ""] if families and len(lines) > 2 else []  # noqa: PLR2004 - a heading and its rule


def section(result: Result, name: str) -> str:
    """Return README's section of one comparison, as Markdown; `name` is its file."""
    facts = result.facts
    text = f"""One worker of Steelyard {facts["steelyard"]} beside its peers: all systems are up at once on one bed of network namespaces,
each balancer has the same single processor, and they are asked in turn. A figure is Steelyard's divided by the peer's:
the median and the range of pairs of runs in which others had at most {QUIET:.0%} of the machine. Of several versions
and variants of a peer, the one that is hardest to beat counts."""
    lines = [f"**{facts['note']}**", ""] if facts["note"] else []
    lines += [*text.splitlines(), ""]
    if facts.get("gigabit"):
        lines += ["The link of the client has 1 Gbit/s.", ""]
    if not any(rate(work, peer) for work in result.works for peer in work.systems[1:]):
        lines += ["No pair of runs was quiet, so there is no figure.", ""]
    lines += matrix(result, "rate (more is better)", rate, 1)
    lines += matrix(result, "own CPU a unit (less is better)", own, -1)
    lines += matrix(result, "p99 at half load (less is better)", slowest, -1)
    for work in result.works:
        if work.idle:
            memory = ", ".join(f"{system} {size / 1024:.1f}" for system, size in work.idle.items())
            lines += [f"KiB of the balancer's memory that an idle connection takes: {memory}.", ""]
    page = str(Path(name).with_suffix(".md"))
    lines += [
        machine_text(result),
        f"[{page}]({page}) has every system, `{name}` every run,",
        "[bench/README.md](bench/README.md) says what is asked of whom. Again:",
        "",
        f"    {facts['command']}",
    ]
    return "\n".join(lines)


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
