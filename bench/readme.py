"""README's section on performance, made from committed results; no figure stands there without one.

The section is between two markers; the first one names the files, relative to the checkout.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from bench.ratios import QUIET, Spread, median, ratios, spread
from bench.results import Result, WorkResult
from bench.tables import p99

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"(<!-- performance: (?P<files>[^>]*?) -->\n).*?(<!-- end of performance -->)", re.DOTALL)
LINE = 120


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
    names = " ".join(str(file.resolve().relative_to(ROOT)) for file in files)
    text = "\n".join(section(Result.read(file), file.name) for file in files)
    return SECTION.sub(lambda found: f"<!-- performance: {names} -->\n{text}\n{found[3]}", page)


def section(result: Result, name: str) -> str:
    """Return the section of one result, as Markdown."""
    facts = result.facts
    lines = []
    if facts["note"]:
        lines += [f"**{facts['note']}**", ""]
    lines += [
        f"One worker of Steelyard {facts['steelyard']} ({facts['revision']}) beside its peers. All systems are up at once on one",
        "bed of network namespaces; each balancer has the same single processor, and they are asked in turn. The figures are",
        "Steelyard's divided by the peer's: the median of the quiet pairs of runs and their range.",
        "",
    ]
    if facts.get("gigabit"):
        lines += ["The link of the client has 1 Gbit/s.", ""]
    for work in result.works:
        lines += [*table(work), ""]
    lines += [
        f"{facts['processor']}, {facts['processors']} processors, Linux {facts['kernel']}, {facts['date']}.",
        f"`bench/results/{name}` has every run, [bench/README.md](bench/README.md) explains the figures. Again:",
        "",
        f"    {facts['command']}",
    ]
    return "\n".join(lines)


def table(work: WorkResult) -> list[str]:
    """Return the table of one work: a row for each peer."""
    subject, *peers = work.systems
    latency = work.rate is not None
    head = f"| {work.name}: Steelyard / | rate | own CPU | whole machine |{' p99 at half load |' if latency else ''} pairs |"
    lines = [head, "|---|" + "---|" * (5 if latency else 4)]
    for peer in peers:
        pairs = ratios(work.rounds, subject, peer, lambda run: run.rate, QUIET)
        cells = [
            cell(spread(pairs)),
            cell(spread(ratios(work.rounds, subject, peer, lambda run: run.own, QUIET))),
            cell(spread(ratios(work.rounds, subject, peer, lambda run: run.machine, QUIET))),
        ]
        if latency:
            cells.append(cell(spread(ratios(work.latencies, subject, peer, p99, QUIET))))
        lines.append(f"| {peer} | {' | '.join(cells)} | {len(pairs)} |")
    own = median(work.rounds, subject, lambda run: run.own)
    told = f"Steelyard takes {own * work.unit.cost_scale:.2f} {work.unit.cost}" if own else ""
    if work.idle:
        others = ", ".join(f"{name} {size / 1024:.1f}" for name, size in work.idle.items() if name != subject)
        told += f"; an idle connection takes {work.idle[subject] / 1024:.1f} KiB of its memory ({others})"
    return [*lines, "", f"{told}."] if told else lines


def cell(found: Spread | None) -> str:
    """Return a spread for a cell of the table."""
    return "-" if found is None else f"{found.median:.2f} ({found.low:.2f}-{found.high:.2f})"
