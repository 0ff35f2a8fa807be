"""Pictures of results: PNG and SVG, by matplotlib, which is imported only here (the extra `bench`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.ratios import QUIET, ratios
from bench.results import Point, Result, Run, WorkResult
from bench.tables import p99, point_ratios
from tests.e2e.process import MissingError

FORMATS = ("png", "svg")
WIDE = 8.0  # inches
CALM, NOISY, LINE = "#1f6f8b", "#b8c4c9", "#444444"


def write(result: Result, beside: Path) -> list[Path]:
    """Draw a result; return the files, beside its JSON file. Raises MissingError without matplotlib."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - a second of import, for those who want pictures
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingError("matplotlib is not installed: .venv/bin/pip install -e '.[bench]'") from error
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same result gives the same file
    figure = points(result, Figure) if result.kind == "scale" else works(result, Figure)
    written = []
    for kind in FORMATS:
        path = beside.with_suffix(f".{kind}")
        figure.savefig(path, dpi=120, metadata={"Date": None} if kind == "svg" else {})
        written.append(path)
    return written


def works(result: Result, figure: Callable[..., Any]) -> Any:
    """Return a picture with a row for each work and a column for each ratio; each dot is a pair of runs."""
    rows = [work for work in result.works if len(work.systems) > 1]
    heights = [0.6 + 0.3 * (len(work.systems) - 1) for work in rows]
    made = figure(figsize=(WIDE * 1.5, sum(heights) + 1), layout="constrained")
    grid = made.subplots(len(rows), 3, squeeze=False, height_ratios=heights)
    subject = rows[0].systems[0] if rows else ""
    made.suptitle(f"{subject} / peer; dark: quiet pairs, light: others took more than {QUIET:.0%} of the machine")
    titles = ("rate (right is better)", "own CPU a unit (left is better)", "p99 at half load (left is better)")
    for row, work in enumerate(rows):
        for column, title in enumerate(titles):
            axes = grid[row][column]
            draw(axes, work, column)
            axes.axvline(1.0, color=LINE, linewidth=0.8)
            if row == 0:
                axes.set_title(title, fontsize=9)
            if column == 0:
                axes.set_ylabel(work.name)
            else:
                axes.set_yticklabels([])
    return made


def draw(axes: Any, work: WorkResult, column: int) -> None:
    """Draw one ratio of one work: the dots of all pairs, and of the quiet ones above them."""
    subject, *peers = work.systems
    for place, peer in enumerate(reversed(peers)):
        for limit, color in ((None, NOISY), (QUIET, CALM)):
            found = values(work, subject, peer, column, limit)
            axes.plot(found, [place] * len(found), "o", color=color, markersize=5)
    axes.set_yticks(range(len(peers)), list(reversed(peers)), fontsize=8)
    axes.set_ylim(-0.6, len(peers) - 0.4)
    axes.set_xlim(left=0)
    axes.grid(axis="x", linewidth=0.3)


def values(work: WorkResult, subject: str, peer: str, column: int, limit: float | None) -> list[float]:
    """Return the ratios of a column."""
    if column == 2:  # noqa: PLR2004 - the third of the titles
        return ratios(work.latencies, subject, peer, p99, limit)
    figures: tuple[Callable[[Run], float | None], ...] = (lambda run: run.rate, lambda run: run.own)
    return ratios(work.rounds, subject, peer, figures[column], limit)


def points(result: Result, figure: Callable[..., Any]) -> Any:
    """Return a picture with a part for each group of `scale`: the cost of each configuration against the plain one."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in result.points:
        groups.setdefault((point.group, point.load), []).append(point)
    heights = [0.6 + 0.28 * len(members) for members in groups.values()]
    made = figure(figsize=(WIDE, sum(heights) + 1), layout="constrained")
    grid = made.subplots(len(groups), 1, squeeze=False, height_ratios=heights)
    made.suptitle("CPU a unit / that of the plain configuration")
    for row, ((group, load), members) in enumerate(groups.items()):
        axes = grid[row][0]
        for place, point in enumerate(reversed(members)):
            for limit, color in ((None, NOISY), (QUIET, CALM)):
                found = point_ratios(point, limit)
                axes.plot(found, [place] * len(found), "o", color=color, markersize=5)
        axes.set_yticks(range(len(members)), [point.name for point in reversed(members)], fontsize=8)
        axes.set_title(f"{group}, {load}", fontsize=9)
        axes.axvline(1.0, color=LINE, linewidth=0.8)
        axes.grid(axis="x", linewidth=0.3)
    return made
