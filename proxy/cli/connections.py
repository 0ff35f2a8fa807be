"""`steelyard connections` and `disconnect`: what is open on this host, and an end to it."""

import ipaddress
import json
import sys
from typing import Any, Final

import click

from proxy.cli import EXIT_FAILED
from proxy.cli.daemon import WrongUsageError, daemon, print_json
from proxy.words import printable

_WIDTHS: Final = (4, 12, 22, 22, 16, 11, 8, 8, 10, 10)
"""Least widths of the columns: rows come in portions, and stay aligned with those before."""
_HEADS: Final = ("kind", "service", "client", "listener", "backend", "state", "age", "idle", "in", "out")


@click.command()
@click.argument("service", required=False)
@click.option("--client", metavar="CIDR", help="Of these clients only: 192.0.2.7, 10.0.0.0/8, 2001:db8::/32.")
@click.option("--backend", metavar="NAME", help="Those on this backend only, by name or address.")
@click.option("--follow", "-f", is_flag=True, help="Then print what begins and ends, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def connections(
    ctx: click.Context, *, service: str | None, client: str | None, backend: str | None, follow: bool, as_json: bool
) -> None:
    """Show the TCP connections and UDP sessions that are open on this host, of SERVICE or of all.

    Ages are in seconds, bytes are those sent on to the backend and to the client. DNS queries in flight are only counted.
    """
    wanted = _wanted(ctx, service, client, backend)
    shown = 0
    missing: list[int] = []
    with daemon(ctx) as asked:
        try:
            for answer in asked.stream("connections", endless=follow, follow=follow, **wanted):
                shown = _show(answer["connections"], shown, as_json=as_json)
                if "unanswered" in answer:
                    missing = answer["unanswered"]
                    _total(shown, answer["queries_in_flight"], missing, as_json=as_json)
                _happened(answer, as_json=as_json)
        except KeyboardInterrupt:
            ctx.exit(0)  # how one ends a --follow
    if missing:
        ctx.exit(EXIT_FAILED)


def _show(rows: list[dict[str, Any]], shown: int, *, as_json: bool) -> int:
    """Print some rows, below headings where they are the first; how many there are by now."""
    for row in rows:
        if not shown and not as_json:
            click.echo(_line(_HEADS))
        shown += 1
        click.echo(json.dumps(row) if as_json else _line(cells(row)))
    return shown


def _total(shown: int, flying: dict[str, int], missing: list[int], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"total": shown, "queries_in_flight": flying, "unanswered": missing}))
    else:
        queries = "".join(f", {number} DNS queries of {name} in flight" for name, number in flying.items())
        click.echo(printable(f"{shown} open{queries}"))
    if missing:
        click.echo(f"steelyard: these workers did not answer: {', '.join(map(str, missing))}", err=True)


def _happened(answer: dict[str, Any], *, as_json: bool) -> None:
    """Print what began and ended, at once."""
    if answer.get("lost"):
        click.echo(json.dumps({"event": "lost", "lost": answer["lost"]}) if as_json else f"{answer['lost']} lost")
    for event in answer.get("events", []):
        click.echo(json.dumps(event) if as_json else happening(event))
    sys.stdout.flush()


def happening(event: dict[str, Any]) -> str:
    """Return the line of what began or ended."""
    head = f"{event['event']:6}  {event['kind']}  {event['service']}  {event['client']} > {event['listener']}"
    head += f" > {event['backend'] or '-'}"
    if event["event"] == "ended":
        head += (
            f"  {event['closed']} after {event['duration_s']:.1f} s, {event['bytes_in']} in, {event['bytes_out']} out"
        )
    return printable(head)


@click.command()
@click.argument("service", required=False)
@click.option("--client", metavar="CIDR", help="Of these clients only: 192.0.2.7, 10.0.0.0/8, 2001:db8::/32.")
@click.option("--backend", metavar="NAME", help="Those on this backend only, by name or address.")
@click.option("--all", "everything", is_flag=True, help="All connections of this host; without other filters only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def disconnect(
    ctx: click.Context,
    *,
    service: str | None,
    client: str | None,
    backend: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Reset the TCP connections and end the UDP sessions that match SERVICE and all of the options.

    Clients may connect again at once. The timeline records who requested it.
    """
    wanted = _wanted(ctx, service, client, backend)
    if bool(wanted) == everything:
        raise WrongUsageError("say which: SERVICE, --client, --backend, or --all alone", ctx)
    answer: dict[str, Any] = {}
    with daemon(ctx) as asked:
        answer = asked.request("disconnect", all=everything, **wanted)
    if as_json:
        print_json({"disconnected": answer["disconnected"], "changed": answer["changed"]})
    else:
        click.echo(f"{answer['disconnected']} disconnected\n{'changed' if answer['changed'] else 'nothing changed'}")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return one connection's cells, in the order of the headings."""
    return (
        row["kind"],
        row["service"],
        row["client"],
        row["listener"],
        row["backend"] or "-",
        row["state"],
        f"{row['age_s']:.1f}",
        f"{row['idle_s']:.1f}",
        str(row["bytes_in"]),
        str(row["bytes_out"]),
    )


def _line(texts: tuple[str, ...]) -> str:
    right = len(texts) - 4  # ages and bytes stand at the right edge
    parts = [
        printable(text).rjust(width) if at >= right else printable(text).ljust(width)
        for at, (text, width) in enumerate(zip(texts, _WIDTHS, strict=True))
    ]
    return "  ".join(parts).rstrip()


def _wanted(ctx: click.Context, service: str | None, client: str | None, backend: str | None) -> dict[str, Any]:
    """Return what was said, for the daemon; wrong usage for a client that is no block of addresses."""
    if client is not None:
        try:
            client = str(ipaddress.ip_network(client, strict=False))
        except ValueError:
            message = f'"{printable(client)[:60]}" is not a block of addresses: write 10.0.0.0/16 or 2001:db8::/32'
            raise WrongUsageError(message, ctx) from None
    said = {"service": service, "client": client, "backend": backend}
    return {name: value for name, value in said.items() if value is not None}
