"""`python -m bench COMMAND`: compares Steelyard with its peers, and measures its parts."""

from pathlib import Path

import click

from bench import failover as moving
from bench import measuring, moves, pages, readme
from bench import picks as picking
from bench import probes as probing
from bench.measuring import SOME, command_line, failures
from bench.plots import write as draw
from bench.results import Result
from bench.systems import Tree


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure Steelyard and its peers; bench/README.md explains the figures."""


for measured in (measuring.compare_command, measuring.scale_command, measuring.server, measuring.client_command):
    main.add_command(measured)


@main.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def plot(file: Path) -> None:
    """Draw a result as PNG and SVG beside its FILE."""
    with failures():
        for path in draw(Result.read(file), file):
            click.echo(f"written: {path}")


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--page", default=readme.ROOT / "README.md", type=click.Path(path_type=Path), help="The page to change.")
def report(files: tuple[Path, ...], page: Path) -> None:
    """Write README's section on performance and a page beside each result anew, from the results FILES."""
    with failures():
        page.write_text(readme.replaced(page.read_text(), files))
        for file in files:
            pages.beside(file).write_text(pages.page(Result.read(file)))
    click.echo(f"written: {page}, {', '.join(str(pages.beside(file)) for file in files)}")


@main.command()
@click.option("--rounds", default=5, type=SOME, show_default=True, help="How often it is measured.")
def picks(rounds: int) -> None:
    """Measure the cost of a pick of each scheduler; no sockets, no peers."""
    click.echo(picking.report(rounds))


@main.command()
@click.option("--seconds", default=probing.LEAST, show_default=True, help="How long each run is measured.")
def probes(seconds: int) -> None:
    """Measure a thousand probes, half of which hang."""
    for kind in probing.KINDS:
        click.echo(f"{probing.report(kind, max(seconds, probing.LEAST))}\n")


@main.command()
@click.option("--rounds", default=5, type=SOME, show_default=True, help="How often each fault is made.")
@click.option(
    "--tree", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Use the keepalived of this tree."
)
def failover(rounds: int, tree: Path | None) -> None:
    """Measure how an address moves between two hosts, compared with keepalived."""
    with failures():
        found = moving.bench(rounds, Tree(tree))
        click.echo(f"\n{moves.table(found, 'steelyard')}\n")
        click.echo(f"seconds, median (worst) of {rounds} rounds; {moving.version(Tree(tree))}")
    click.echo(f"again: {command_line()}\n")


if __name__ == "__main__":
    main(prog_name="python -m bench")
