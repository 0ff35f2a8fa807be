"""`steelyard reload`: puts the changed file into force without a restart."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import click

from proxy.cli import EXIT_FAILED
from proxy.cli.daemon import daemon, print_json
from proxy.words import counted, printable


@click.command()
@click.option("--dry-run", "dry", is_flag=True, help="Print the steps and change nothing.")
@click.option("--strict", is_flag=True, help="Change nothing if a step needs `steelyard reexec`.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, *, dry: bool, strict: bool, as_json: bool) -> None:
    """Put the changed configuration file into force, and wait for the outcome.

    Only what differs is touched: connections, verdicts and statistics of everything else stay. A file with a mistake, or
    one that cannot be in force, changes nothing. Settings that only a new process can have are named; the rest is done.

    Exit codes: 0 done, 1 it could not be put into force, 2 the file is wrong, 3 daemon unreachable.
    """
    steps: list[dict[str, Any]] = []
    answer: dict[str, Any] = {}
    with daemon(ctx) as client:
        for answer in client.stream("reload", endless=True, dry=dry, strict=strict):
            steps += answer.get("steps", [])
            if not as_json:
                _show(answer)
    if as_json:
        document = {key: value for key, value in answer.items() if key not in {"ok", "more"}}
        print_json({"dry_run": dry, **document, "steps": steps})
    else:
        click.echo(_summary(answer, steps, dry=dry))
    if answer.get("faults"):
        ctx.exit(EXIT_FAILED)


def _show(answer: dict[str, Any]) -> None:
    if answer.get("turn") in {"next", "joined"}:
        click.echo(answer["text"])
    for line in _grouped(answer.get("steps", [])):
        click.echo(printable(line))
    for fault in answer.get("faults", []):
        click.echo(printable(f"steelyard: {fault}"), err=True)


def _grouped(steps: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each step, or for several backends of one service that change in the same way."""
    for (what, said), rows in groupby(steps, key=_alike):
        alike = list(rows)
        yield alike[0]["text"] if len(alike) == 1 else f"{len(alike)} backends of {what}: {said}"


def _alike(step: dict[str, Any]) -> tuple[str, str]:
    if step["kind"] != "backend":
        return step["name"], step["text"]
    return step["name"].partition("/")[0], step["text"].partition(": ")[2]


def _summary(answer: dict[str, Any], steps: Sequence[dict[str, Any]], *, dry: bool) -> str:
    late = sum(step["needs_reexec"] for step in steps)
    tail = f"; {counted(late, 'step needs', 'steps need')} `steelyard reexec`" if late else ""
    if not steps:
        return "nothing differs from the configuration in force"
    if dry:
        return f"{counted(len(steps), 'step')}: nothing is changed{tail}"
    return f"reloaded: {counted(len(steps) - late, 'step')} in {answer['seconds']:.2f} s{tail}"
