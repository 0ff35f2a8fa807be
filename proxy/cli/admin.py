"""`steelyard drain`, `maint`, `ready` and `overrides`: the admin states of backends."""

from collections.abc import Callable
from typing import Any

import click

from proxy.cli import EXIT_FAILED
from proxy.cli.daemon import WrongUsageError, colour, daemon, print_json
from proxy.cli.grid import Cell, align
from proxy.cli.peer import HERE, show_peer

Function = Callable[..., Any]


def _target(function: Function) -> Function:
    for option in reversed(
        (
            click.argument("service"),
            click.argument("backend"),
            click.option("--reason", metavar="T", help="Why, for the status and the timeline."),
            click.option("--save", is_flag=True, help="Keep this over a restart of the daemon."),
            HERE,
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
            click.pass_context,
        )
    ):
        function = option(function)
    return function


_force = click.option("--force", is_flag=True, help="Do it even if no other backend of the service can serve.")


@click.command()
@_target
@_force
@click.option("--wait", is_flag=True, help="Return when nothing is open there any more.")
@click.option(
    "--timeout", metavar="D", help="Cut the remaining connections after D (30s, 5m), at the latest at drain-timeout."
)
def drain(ctx: click.Context, *, wait: bool, timeout: str | None, **wanted: Any) -> None:
    """Send BACKEND of SERVICE no new clients; open connections go on.

    SERVICE '*' means every service; BACKEND is a name or an address. It holds until `steelyard ready`; with a pair, on both hosts.
    """
    from health.units import parse_duration

    try:
        seconds = None if timeout is None else parse_duration(timeout)
    except ValueError as error:
        raise WrongUsageError(str(error), ctx) from None
    if seconds == float("inf"):
        raise WrongUsageError("--timeout has an end: without it drain-timeout is", ctx)
    _act(ctx, "drain", wait=wait, timeout=seconds, **wanted)


@click.command()
@_target
@_force
@click.option("--wait", is_flag=True, help="Return when nothing is open there any more.")
def maint(ctx: click.Context, *, wait: bool, **wanted: Any) -> None:
    """Take BACKEND of SERVICE out: connections are reset, it is not probed.

    SERVICE '*' means every service; BACKEND is a name or an address. It holds until `steelyard ready`; with a pair, on both hosts.
    """
    _act(ctx, "maint", wait=wait, **wanted)


@click.command()
@_target
def ready(ctx: click.Context, **wanted: Any) -> None:
    """Let BACKEND of SERVICE serve again: after maintenance with its first pass."""
    _act(ctx, "ready", **wanted)


@click.command()
@click.argument("action", type=click.Choice(["clear"]), required=False)
@click.option("--force", is_flag=True, help="Clear even if a service would have no backend that can serve.")
@HERE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def overrides(ctx: click.Context, *, action: str | None, force: bool, here: bool, as_json: bool) -> None:
    """Show what operators have changed at run time; `clear` undoes all of it."""
    answer: dict[str, Any] = {}
    with daemon(ctx) as client:
        answer = client.request("overrides-clear", force=force, here=here) if action else client.request("overrides")
    _show(answer, answer["overrides"], as_json=as_json)


def _act(ctx: click.Context, command: str, *, as_json: bool, **wanted: Any) -> None:
    answer: dict[str, Any] = {}
    with daemon(ctx) as client:
        *_, answer = client.stream(
            command, endless=True, **{k: v for k, v in wanted.items() if v is not None and v is not False}
        )
    _show(answer, answer["backends"], as_json=as_json)
    if wanted.get("wait") and any(one["active"] for one in answer["backends"]):
        ctx.exit(EXIT_FAILED)  # another operator made it ready meanwhile


def _show(answer: dict[str, Any], rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json({key: value for key, value in answer.items() if key not in {"ok", "more"}})
        return
    table = [[Cell(name, "bold") for name in ("BACKEND", "WHAT", "OPEN", "BY", "SAVED", "REASON")]]
    table += [
        [
            Cell(f"{one['service']}/{one['backend']}"),
            Cell(one.get("act", one["admin"])),
            Cell(str(one["active"]), right=True),
            Cell(one["by"] or "the configuration file"),
            Cell("yes" if one["saved"] else ""),
            Cell(one["reason"] or ""),
        ]
        for one in rows
    ]
    if rows:
        click.echo("\n".join(align(table, coloured=colour())), color=True)
    if "changed" in answer:
        click.echo("changed" if answer["changed"] else "nothing changed")
        show_peer(answer)
    elif not rows:
        click.echo("no overrides: all is as the file says")
