"""`steelyard top`: services, backends and routers of this host, live on one screen."""

import os
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from proxy.cli.daemon import WrongUsageError, asked, colour, ending, print_json
from proxy.cli.grid import paint
from proxy.cli.source import is_url
from proxy.words import printable

if TYPE_CHECKING:
    from proxy.dashboard.source import Source

_EVENTS: Final = 10
"""Events below the table of --once."""
_CELLS: Final = 160
"""The width of the table where there is no terminal to ask, and no COLUMNS."""
_NARROWEST: Final = 40
_PAINTS: Final = {
    "dim": "dim", "head": "dim", "bold": "bold", "title": "bold", "good": "green", "warn": "yellow", "bad": "red",
}  # fmt: skip
_PATIENCE: Final = 5.0
"""Seconds that the daemon may take for an answer while the screen waits."""


@click.command()
@click.argument("url", required=False)
@click.option("--once", is_flag=True, help="Print a table and end: so it is without a terminal as well.")
@click.option("--json", "as_json", is_flag=True, help="Print the snapshot as one JSON document, and end.")
@click.option("--rw", is_flag=True, help="Let keys drain, add, remove and weigh backends; each is confirmed first.")
@click.pass_context
def command(ctx: click.Context, *, url: str | None, once: bool, as_json: bool, rw: bool) -> None:
    """Show this host, its routers, services and backends, the worst first, and go on. `?` explains keys and columns.

    URL is that of a daemon's web server, such as http://127.0.0.1:9600, in place of the control socket. It is only read.
    """
    if rw and (once or as_json):
        raise WrongUsageError("--rw is for the screen: leave --once and --json out", ctx)
    source = asked(ctx, _url(ctx, url), _PATIENCE)
    if rw and not source.writable:
        raise WrongUsageError("--rw needs the control socket: over HTTP the daemon is only read", ctx)
    if as_json:
        with ending(ctx):
            print_json(source.status())
        return
    if once or not _screen():
        if rw:
            raise WrongUsageError("--rw needs a terminal", ctx)
        with ending(ctx):
            _print(source)
        return
    from proxy.dashboard.app import Dashboard
    from proxy.dashboard.text import ASCII, UNICODE

    glyphs = UNICODE if _unicode() else ASCII
    Dashboard(source, writable=rw, glyphs=glyphs, colour=colour()).run()


def _url(ctx: click.Context, url: str | None) -> str | None:
    if url is not None and not is_url(url):
        raise WrongUsageError(f'"{printable(url)[:60]}" is no http URL; a control socket is named by -s', ctx)
    return url


def _screen() -> bool:
    """Return True for a terminal on which a cursor can be moved."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"", "dumb"}


def _unicode() -> bool:
    return "utf" in (sys.stdout.encoding or "").lower()


def _print(source: "Source") -> None:
    import shutil

    from proxy.control.wire import ControlError
    from proxy.dashboard.board import Scene, once
    from proxy.dashboard.text import ASCII, UNICODE

    scene = Scene(glyphs=UNICODE if _unicode() else ASCII)
    scene.status = source.status()
    scene.history.take(scene.status, time.monotonic())
    try:
        scene.events = source.events(_EVENTS)
    except ControlError as error:
        scene.events_away = f"({error}) "
    scene.now = scene.taken = time.time()
    cells = max(_NARROWEST, shutil.get_terminal_size((_CELLS, 0)).columns)
    coloured = colour()
    for line in once(scene, cells, _EVENTS):
        text = "".join(paint(part.text, _PAINTS.get(part.style, ""), coloured=coloured) for part in line)
        click.echo(text if coloured else text.rstrip(), color=True)
