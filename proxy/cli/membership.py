"""`steelyard add`, `remove` and `weight`: which backends a service has."""

from typing import Any

import click

from proxy.cli.daemon import colour, daemon, print_json
from proxy.cli.grid import Cell, align
from proxy.cli.peer import HERE, show_peer

_HERE = (
    "With a pair it holds on both hosts. Without --save it ends with the daemon: write it into the file as well, or "
    "`steelyard overrides clear` it."
)
_save = click.option("--save", is_flag=True, help="Keep this over a restart of the daemon.")


@click.command(epilog=_HERE)
@click.argument("service")
@click.argument("address")
@click.option(
    "--weight", metavar="N", type=int, help="Its weight, in place of the file's or that of `backend-defaults`."
)
@_save
@HERE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def add(ctx: click.Context, /, *, as_json: bool, **wanted: Any) -> None:
    """Give SERVICE one more backend, at ADDRESS or ADDRESS:PORT, as one more entry in its `backends` would.

    It serves with the first pass of its probe. One that was removed, or is leaving, comes back as the file has it.
    """
    _edit(ctx, "add", as_json=as_json, **wanted)


@click.command(epilog=_HERE)
@click.argument("service")
@click.argument("backend")
@click.option(
    "--force", is_flag=True, help="Cut its connections at once, even if no other backend of the service can serve."
)
@_save
@HERE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def remove(ctx: click.Context, /, *, as_json: bool, **wanted: Any) -> None:
    """Remove BACKEND, a name or an address, from SERVICE: it gets no new clients and goes when nothing is open there.

    Connections have until drain-timeout to finish; UDP sessions move to another backend with their next datagram.
    """
    _edit(ctx, "remove", as_json=as_json, **wanted)


@click.command(epilog=_HERE)
@click.argument("service")
@click.argument("backend")
@click.argument("weight", metavar="N", type=int)
@click.option("--force", is_flag=True, help="Set 0 even if no other backend of the service can serve.")
@_save
@HERE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def weight(ctx: click.Context, /, *, as_json: bool, **wanted: Any) -> None:
    """Give BACKEND of SERVICE the weight N, whatever its probe asks for; with 0 it gets no new clients."""
    _edit(ctx, "weight", as_json=as_json, **wanted)


def _edit(ctx: click.Context, command: str, *, as_json: bool, **wanted: Any) -> None:
    answer: dict[str, Any] = {}
    with daemon(ctx) as client:
        answer = client.request(command, **{name: value for name, value in wanted.items() if value is not None})
    if as_json:
        print_json({key: value for key, value in answer.items() if key not in {"ok", "more"}})
        return
    table = [[Cell(name, "bold") for name in ("BACKEND", "WEIGHT", "ADMIN", "OPEN")]]
    table += [
        [
            Cell(f"{one['service']}/{one['backend']}"),
            Cell(str(one["weight"]), right=True),
            Cell("leaving" if one["leaving"] else one["admin"]),
            Cell(str(one["active"]), right=True),
        ]
        for one in answer["backends"]
    ]
    if answer["backends"]:
        click.echo("\n".join(align(table, coloured=colour())), color=True)
    click.echo("changed" if answer["changed"] else "nothing changed")
    show_peer(answer)
