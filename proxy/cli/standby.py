"""`steelyard standby`, `resume` and `is-active`: where the virtual addresses are, and should be."""

from typing import Any

import click

from proxy.cli import EXIT_FAILED
from proxy.cli.daemon import WrongUsageError, daemon, print_json
from proxy.words import printable


@click.command()
@click.argument("vrrp", required=False)
@click.option("--drain", metavar="D", default="0s", help="Before, wait that long for open connections to end: 30s, 5m.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def standby(ctx: click.Context, *, vrrp: str | None, drain: str, as_json: bool) -> None:
    """Hand the addresses of VRRP (of all routers by default) over to the other host, and do not take them back.

    New clients are served until the other host has taken over; connections that are open then are reset. It survives a
    restart, and ends with `steelyard resume`. If no other host takes over, nothing changes.
    """
    from health.units import parse_duration

    try:
        patience = parse_duration(drain)
    except ValueError as error:
        raise WrongUsageError(str(error), ctx) from None
    if patience == float("inf"):
        raise WrongUsageError("--drain has an end", ctx)
    wanted: dict[str, Any] = {} if vrrp is None else {"vrrp": vrrp}
    answer: dict[str, Any] = {}
    with daemon(ctx) as client:
        *_, answer = client.stream("standby", endless=True, drain=patience, **wanted)
    _show(answer, as_json=as_json)


@click.command()
@click.argument("vrrp", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def resume(ctx: click.Context, *, vrrp: str | None, as_json: bool) -> None:
    """Let this host take the addresses of VRRP (of all routers by default) again, by the usual election."""
    wanted: dict[str, Any] = {} if vrrp is None else {"vrrp": vrrp}
    answer: dict[str, Any] = {}
    with daemon(ctx) as client:
        answer = client.request("resume", **wanted)
    _show(answer, as_json=as_json)


@click.command()
@click.argument("vrrp", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def is_active(ctx: click.Context, *, vrrp: str | None, as_json: bool) -> None:
    """Say whether the addresses of VRRP (of all routers by default) are on this host.

    Exit codes: 0 they are, 1 they are not, 3 daemon unreachable, 64 no such router. For cron: `steelyard is-active && ...`.
    """
    wanted: dict[str, Any] = {} if vrrp is None else {"vrrp": vrrp}
    answer: dict[str, Any] = {}
    with daemon(ctx) as client:
        answer = client.request("is-active", **wanted)
    _show(answer, as_json=as_json)
    if not answer["active"]:
        ctx.exit(EXIT_FAILED)


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({key: value for key, value in answer.items() if key not in {"ok", "more"}})
        return
    width = max((len(one["name"]) for one in answer["vrrp"]), default=0)
    for one in answer["vrrp"]:
        state = f"{one['state']}, in standby" if one["standby"] else one["state"]
        click.echo(printable(f"{one['name'].ljust(width)}  {state}"))
    if "changed" in answer:
        click.echo("changed" if answer["changed"] else "nothing changed")
