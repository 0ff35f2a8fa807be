"""`steelyard events`: what changed, when, and why."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from proxy.cli.daemon import WrongUsageError, colour, daemon, socket_path
from proxy.cli.grid import paint
from proxy.cli.times import moment, parse_time
from proxy.control.wire import DEFAULT_SOCKET, ControlError, UnreachableError
from proxy.words import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.records.timeline import Event

STATE_DIRECTORY: Final = "/var/lib/steelyard"
"""The default of `[node] state-dir`."""

_COLOURS: Final = {"warning": "yellow", "error": "red"}
_WIDTHS: Final = (25, 9, 24)
"""Least widths of time, kind and subject: lines that come one by one stay aligned with those before."""
_NARROW: Final = (25, 7, 10)
_WIDE: Final = 110
"""Characters of a terminal from which on there is room for the widths above."""
_ROOM: Final = 20
"""The least width in which a text begins beside its event."""


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Then print new events, until interrupted.")
@click.option("--last", "-n", type=click.IntRange(0), metavar="N", help="Only the last N of them.")
@click.option("--since", metavar="T", help="From then on: 10m, 2h, today, 14:30, 2026-11-22T14:30.")
@click.option("--until", metavar="T", help="Up to then.")
@click.option("--service", metavar="S", help="Only those of this service.")
@click.option("--kind", metavar="K", help="Only those of this kind, such as verdict, worker, reload.")
@click.option("--state-dir", type=click.Path(path_type=Path), metavar="DIRECTORY",
              help=f"Where they are read if no daemon runs.  [default: {STATE_DIRECTORY}, if no socket is named]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def command(ctx: click.Context, /, *, follow: bool, as_json: bool, state_dir: Path | None, **chosen: Any) -> None:
    """Show the timeline: verdicts, address moves, reloads, admin acts, each with its reason.

    If no daemon runs, it is read from the state directory.
    """
    if follow and chosen["until"] is not None:
        raise WrongUsageError("--follow has no end: leave --until out", ctx)
    chosen |= {name: _moment(ctx, chosen[name]) for name in ("since", "until")}
    coloured = colour()
    if state_dir is None and socket_path(ctx) == DEFAULT_SOCKET:
        state_dir = Path(STATE_DIRECTORY)
    if state_dir is not None and not follow and (found := _recorded(ctx, state_dir, **chosen)) is not None:
        show([event.as_dict() for event in found], as_json=as_json, coloured=coloured)
        return
    with daemon(ctx) as client:
        try:
            for answer in client.stream("events", endless=follow, follow=follow, **chosen):
                show(answer["events"], as_json=as_json, coloured=coloured)
        except KeyboardInterrupt:
            ctx.exit(0)  # an interrupt ends --follow
        if follow:
            raise UnreachableError("the daemon has stopped")


def _recorded(
    ctx: click.Context, directory: Path, *, last: int | None, since: float | None, until: float | None,
    service: str | None, kind: str | None,
) -> "Sequence[Event] | None":  # fmt: skip
    """Return the events of a daemon that does not run; None if it does, or none has recorded any."""
    from collections import deque

    from proxy.control.client import Client
    from proxy.records.rotating_file import RotatingFileError
    from proxy.records.timeline import FILE, Wanted, recorded

    try:
        with Client(socket_path(ctx)):
            return None
    except UnreachableError as error:
        try:
            found = recorded(directory)
        except RotatingFileError as why:
            if (directory / FILE).exists():
                click.echo(f"steelyard: {printable(str(why))}", err=True)
            return None  # asking the daemon says the rest
        click.echo(f"steelyard: {printable(str(error))}: these are the events in {directory}", err=True)
    except ControlError:
        return None
    wanted = Wanted(since, until, service, kind)
    return deque((event for event in found if event in wanted), maxlen=last)


def _moment(ctx: click.Context, text: str | None) -> float | None:
    try:
        return None if text is None else parse_time(text, time.time())
    except ValueError as error:
        raise WrongUsageError(str(error), ctx) from None


def show(events: list[dict[str, Any]], *, as_json: bool, coloured: bool) -> None:
    """Print some events, one a line, at once."""
    import json
    import shutil
    import sys

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for event in events:
        click.echo(json.dumps(event) if as_json else line(event, coloured=coloured, width=width), color=True)
    sys.stdout.flush()


def line(event: dict[str, Any], *, coloured: bool = False, width: int | None = None) -> str:
    """Return the line of one event: local time with its zone, kind, subject, what happened and why.

    On a terminal of `width` characters a text that does not fit goes on below, and a narrow one has a narrower column.
    """
    from textwrap import wrap

    heads = (moment(event["at"]), event["kind"], event["subject"])
    least = _WIDTHS if width is None or width >= _WIDE else _NARROW
    before = "  ".join(printable(str(text)).ljust(size) for text, size in zip(heads, least, strict=True)) + "  "
    text, colour_ = printable(str(event["text"])), _COLOURS.get(event.get("level", ""), "")
    if width is None or len(before) + len(text) <= width:
        return before + paint(text, colour_, coloured=coloured)
    room = width - len(before)
    first = wrap(text, room)[0] if room >= _ROOM else ""
    rest = wrap(text[len(first) :], max(width, 2 * _ROOM), initial_indent="    ", subsequent_indent="    ")
    own = (before + paint(first, colour_, coloured=coloured)).rstrip()
    return "\n".join([own, *(paint(one, colour_, coloured=coloured) for one in rest)])
