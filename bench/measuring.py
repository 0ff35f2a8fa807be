"""The commands that measure traffic: compare, scale, server and client."""

import importlib.util
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from bench import hosts, scale
from bench.compare import Options, Step, compare
from bench.facts import facts
from bench.plots import write as draw
from bench.results import Result
from bench.scale import GROUPS
from bench.systems import PEERS, Tree
from bench.tables import facts_text, points_text, work_text
from bench.works import WORKS
from tests.e2e.process import BedError, EndedError, MissingError

# The balancer has one processor; client and servers may use all, including this one: bench/README.md says why.
ALL = f"0-{(os.cpu_count() or 1) - 1}"
SOME = click.IntRange(min=1)
FAILURES = (BedError, EndedError, MissingError, ValueError)
F = TypeVar("F", bound=Callable[..., Any])


def command_line() -> str:
    """Return the command that repeats this measurement; its note stands beside it."""
    words = list(sys.argv[1:])
    if "--note" in words:
        place = words.index("--note")
        del words[place : place + 2]
    return shlex.join(["python", "-m", "bench", *words])


@contextmanager
def progress(runs: int) -> Iterator[Step]:
    """Show a bar on standard error for the block; the function that it yields takes what begins now."""
    state = {"now": ""}
    with click.progressbar(range(runs), item_show_func=lambda _: state["now"], show_pos=True, file=sys.stderr) as bar:

        def step(what: str) -> None:
            state["now"] = what
            bar.update(0 if what.endswith(" starts") else 1)

        yield step


def finish(result: Result, file: Path | None, plots: bool) -> None:
    """Write the JSON file, and plots beside it."""
    if file is not None:
        result.write(file)
        click.echo(f"written: {file}")
    if plots:
        for path in draw(result, file or Path("bench.json")):
            click.echo(f"written: {path}")


def drawable(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    """Refuse to draw without matplotlib before anything is measured."""
    del context
    if value and importlib.util.find_spec("matplotlib") is None:
        raise click.BadParameter("matplotlib is not installed: .venv/bin/pip install -e '.[bench]'", param=parameter)
    return value


def outputs(command: F) -> F:
    """Add the options of all commands that measure."""
    for option in (
        click.option("--note", default="", help="Text that is shown with the figures."),
        click.option(
            "--plots", is_flag=True, callback=drawable, help="Draw PNG and SVG beside the JSON file (needs matplotlib)."
        ),
        click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result."),
        click.option("--rounds", default=5, type=SOME, show_default=True, help="How often each system is asked."),
        click.option("--seconds", default=1.0, show_default=True, help="How long each run takes."),
    ):
        command = option(command)
    return command


@click.command("compare")
@click.argument("work", nargs=-1, type=click.Choice([*WORKS]))
@outputs
@click.option(
    "--quiet", default=0, help="Add rounds until each peer has so many quiet pairs, up to three times as many."
)
@click.option("--peers", default="", help=f"{', '.join(PEERS)}, with commas.  [default: all that fit]")
@click.option(
    "--tree", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Peers of this tree as well."
)
@click.option("--gigabit", is_flag=True, help="Limit the client's link to 1 Gbit/s; by default for the bulk works.")
@click.option("--rate", type=float, help="Units a second of the runs for latency.  [default: half load]")
@click.option("--idle", "connections", default=2000, show_default=True, help="Idle connections, for their memory.")
@click.option("--balancer-cpu", default="0", show_default=True, help="Processors of the balancers, as for taskset.")
@click.option("--other-cpus", default=ALL, show_default=True, help="Processors of client and servers.")
def compare_command(work: tuple[str, ...], file: Path | None, plots: bool, note: str, **given: Any) -> None:
    """Start all systems at once and ask each in turn. WORK: all, or one or several names."""
    tree, peers = given.pop("tree"), [one for one in given.pop("peers").lower().split(",") if one]
    if unknown := [one for one in peers if one not in PEERS]:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(PEERS)}", param_hint="--peers")
    names = work or (("bulk-up", "bulk-down") if given["gigabit"] else tuple(WORKS))
    trees = (Tree(), Tree(tree.resolve())) if tree else (Tree(),)
    options = Options(**given, names=names, trees=trees, peers=peers)
    tools = {tool for name in names for tool in WORKS[name].tools}
    with failures():
        described = facts(command_line(), tools, note)
        described |= {key: given[key] for key in ("seconds", "rounds", "quiet", "gigabit", "connections")}
        with progress(sum(options.runs(WORKS[name]) for name in names)) as step:
            result = Result("compare", described)
            for one in compare(options, step):
                result.works.append(one)
                if file is not None:
                    result.write(file)  # each work at once: a later one may fail
    show(result, file, plots)


@click.command("scale")
@click.argument("group", nargs=-1, type=click.Choice([*GROUPS]))
@outputs
@click.option("--balancer-cpu", default="0", show_default=True, help="Processors of the balancer, as for taskset.")
@click.option("--other-cpus", default=ALL, show_default=True, help="Processors of client and servers.")
def scale_command(group: tuple[str, ...], file: Path | None, plots: bool, note: str, **given: Any) -> None:
    """Measure the cost of a unit against what is configured and open. GROUP: all, or one or several names."""
    names = group or tuple(GROUPS)
    with failures():
        described = facts(command_line(), ("dnsperf", "wrk", "nginx", "nsd"), note)
        with progress(scale.runs(names, given["rounds"])) as step:
            cpus = (given["balancer_cpu"], given["other_cpus"])
            points = scale.Scaling(given["seconds"], given["rounds"], cpus, step).all(names)
    result = Result("scale", described, points=points)
    click.echo(f"{facts_text(result)}\n\n{points_text(points)}\n\nagain: {described['command']}")
    finish(result, file, plots)


def works_of(text: str) -> tuple[str, ...]:
    """Return the works that an option names; all if it names none. Raises click.BadParameter."""
    names = tuple(one for one in text.split(",") if one) or tuple(WORKS)
    if unknown := [name for name in names if name not in WORKS]:
        raise click.BadParameter(
            f"{', '.join(unknown)}: not a work; there are {', '.join(WORKS)}", param_hint="--works"
        )
    return names


@click.command()
@click.argument("address", nargs=-1, required=True)
@click.option("--works", default="", help="dns, dns-tcp, udp, http, ..., with commas.  [default: all]")
def server(address: tuple[str, ...], works: str) -> None:
    """Run the real servers on these addresses of this host, until SIGINT: the backends of a balancer elsewhere."""
    with failures():
        hosts.serve(address, works_of(works), lambda text: click.echo(text, err=True))


@click.command("client")
@click.argument("target", nargs=-1, required=True)
@outputs
@click.option("--works", default="", help="dns, dns-tcp, udp, http, ..., with commas.  [default: all]")
@click.option("--rate", type=float, help="Units a second of the runs for latency.  [default: half load]")
def client_command(
    target: tuple[str, ...], file: Path | None, plots: bool, note: str, works: str, **given: Any
) -> None:
    """Ask balancers (or a server of `bench server`) in turn from this host. TARGET: ADDRESS or NAME=ADDRESS."""
    names = works_of(works)
    asking = hosts.Asking(given["seconds"], given["rounds"], given["rate"])
    with failures():
        targets = [hosts.Target.parse(text) for text in target]
        described = facts(command_line(), {tool for name in names for tool in WORKS[name].tools}, note)
        described |= {key: given[key] for key in ("seconds", "rounds")}
        kinds = [WORKS[name] for name in names]
        length = sum(len(targets) * (asking.rounds + asking.latency_rounds * kind.has_latency) for kind in kinds)
        with progress(length) as step:
            result = Result("client", described, hosts.ask(targets, names, asking, step))
    show(result, file, plots)


def show(result: Result, file: Path | None, plots: bool) -> None:
    """Print the works of a result, and write its files."""
    click.echo(facts_text(result))
    for one in result.works:
        click.echo(f"\n{work_text(one, WORKS[one.name].about)}")
    click.echo(f"\nagain: {result.facts['command']}")
    finish(result, file, plots)


@contextmanager
def failures() -> Iterator[None]:
    """End with a message if the bed or a program fails."""
    try:
        yield
    except FAILURES as error:
        raise click.ClickException(str(error)) from error
