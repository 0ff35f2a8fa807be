"""README's section on performance, made from committed results; no figure stands there without one.

The section is between two markers; the first one names the files, relative to the checkout.  It shows each family of peers
by the version and variant that is hardest to beat.  Beside each result there is a page with every system.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from bench.pages import machine_text
from bench.quiet import Figure, own, rate, slowest
from bench.ratios import QUIET, Spread, spread
from bench.results import Result, WorkResult
from bench.tables import point_ratios, shown

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"(<!-- performance: (?P<files>[^>]*?) -->\n).*?(<!-- end of performance -->)", re.DOTALL)
FAMILIES = ("dnsdist", "HAProxy", "nginx", "NAT", "none")


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
    """Return README's section of one result, as Markdown; `name` is its file."""
    if result.kind == "scale":
        return scale_section(result, name)
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


def scale_section(result: Result, name: str) -> str:
    """Return README's section of one `scale`, as Markdown: a row for each configuration, a column for each work."""
    facts = result.facts
    loads = list(dict.fromkeys(point.load for point in result.points))
    lines = [f"**{facts['note']}**", ""] if facts["note"] else []
    lines += [
        "The processor time of a query, request or connection, divided by that of a plain service with two backends:",
        "",
    ]
    lines += [f"| configuration | {' | '.join(loads)} |", "|---|" + "---|" * len(loads)]
    for row in dict.fromkeys(point.name for point in result.points if point.name != "plain"):
        found = {point.load: spread(point_ratios(point, QUIET)) for point in result.points if point.name == row}
        lines.append(f"| {row} | {' | '.join(shown(found.get(load)) for load in loads)} |")
    return "\n".join(
        [*lines, "", machine_text(result), f"`{name}` has every run. Again:", "", f"    {facts['command']}"]
    )
