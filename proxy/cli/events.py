"""`steelyard events`: what changed, when, and why."""

import time
from typing import Any, Final

import click

from proxy.cli.daemon import WrongUsageError, colour, daemon
from proxy.cli.grid import paint
from proxy.cli.times import clock, parse_time
from proxy.control.wire import UnreachableError
from proxy.words import printable

_COLOURS: Final = {"warning": "yellow", "error": "red"}
_WIDTHS: Final = (19, 9, 24)
"""Least widths of time, kind and subject: lines that come one by one stay aligned with those before."""


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Then print new events, until interrupted.")
@click.option("--since", metavar="T", help="From then on: 10m, 2h, today, 14:30, 2026-11-22T14:30.")
@click.option("--until", metavar="T", help="Up to then.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    follow: bool,
    since: str | None,
    until: str | None,
    as_json: bool,
) -> None:
    """Show the timeline: verdicts, address moves, reloads, admin acts, each with its reason."""
    if follow and until is not None:
        raise WrongUsageError("--follow has no end: leave --until out", ctx)
    start, end = _moment(ctx, since), _moment(ctx, until)
    coloured = colour()
    with daemon(ctx) as client:
        try:
            for answer in client.stream("events", endless=follow, since=start, until=end, follow=follow):
                show(answer["events"], as_json=as_json, coloured=coloured)
        except KeyboardInterrupt:
            ctx.exit(0)  # how one ends a --follow
        if follow:
            raise UnreachableError("the daemon has stopped")


def _moment(ctx: click.Context, text: str | None) -> float | None:
    try:
        return None if text is None else parse_time(text, time.time())
    except ValueError as error:
        raise WrongUsageError(str(error), ctx) from None


def show(events: list[dict[str, Any]], *, as_json: bool, coloured: bool) -> None:
    """Print some events, one a line, at once."""
    import json
    import sys

    for event in events:
        click.echo(json.dumps(event) if as_json else line(event, coloured=coloured), color=True)
    sys.stdout.flush()


def line(event: dict[str, Any], *, coloured: bool = False) -> str:
    """Return the line of one event: local time, kind, whom it befell, what happened and why."""
    heads = (clock(event["at"]), event["kind"], event["subject"])
    parts = [printable(str(text)).ljust(width) for text, width in zip(heads, _WIDTHS, strict=True)]
    return "  ".join([*parts, paint(str(event["text"]), _COLOURS.get(event.get("level", ""), ""), coloured=coloured)])
