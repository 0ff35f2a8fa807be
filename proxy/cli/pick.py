"""`steelyard pick`: which backend a client would get now, and why."""

import ipaddress
from collections.abc import Sequence
from typing import Any

import click

from proxy.cli.daemon import WrongUsageError, daemon, print_json
from proxy.cli.grid import Cell, align
from proxy.words import printable


@click.command()
@click.argument("service")
@click.argument("client", metavar="CLIENT[:PORT]")
@click.option("--query", metavar="NAME", default="", help='The name in the query, for hash-on = "query-name".')
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, *, service: str, client: str, query: str, as_json: bool) -> None:
    """Say which backend of SERVICE a new connection or query from CLIENT would get now, and why.

    It takes no turn and changes no count. Schedulers that go by turns or by what is open have candidates only. Those that
    stand by are tried where no candidate can be reached.
    """
    try:
        host, port = address(client)
    except ValueError:
        message = (
            f'"{printable(client)[:60]}" is not CLIENT[:PORT]: write 192.0.2.7, 192.0.2.7:4711, [2001:db8::7]:4711'
        )
        raise WrongUsageError(message, ctx) from None
    answer: dict[str, Any] = {}
    with daemon(ctx) as asked:
        answer = asked.request("pick", service=service, client=host, port=port, query=query)["pick"]
    if as_json:
        print_json(answer)
    else:
        click.echo("\n".join(lines(answer)))


def address(text: str) -> tuple[str, int]:
    """Return (address, port), port 0 where none is said; ValueError."""
    host, port = text, "0"
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":") if port else "0"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the last port
        raise ValueError(text)
    return str(ipaddress.ip_address(host)), int(port)


def lines(answer: dict[str, Any]) -> list[str]:
    """Return the answer in words, and the candidates."""
    head = printable(f"{answer['service']}, {answer['client']} at {answer['listener']}: {verdict(answer)}")
    if not answer["candidates"]:
        return [head]
    tables = [("candidate", answer["candidates"])]
    if answer["standbys"]:
        tables.append(("stands by", answer["standbys"]))
    rows = [row for title, found in tables for row in _table(title, found)]
    return [head, *align(rows, coloured=False, indent="  ")]


def _table(title: str, found: Sequence[dict[str, Any]]) -> list[list[Cell]]:
    heads = [Cell(text) for text in (title, "address", "weight", "active")]
    rows = [
        [
            Cell(one["name"]),
            Cell(one["address"]),
            Cell(str(one["weight"]), right=True),
            Cell(str(one["active"]), right=True),
        ]
        for one in found
    ]
    return [heads, *rows]


def verdict(answer: dict[str, Any]) -> str:
    """Return in words whom the client would get, and why."""
    if not answer["permitted"]:
        return "denied, by allow or deny"
    if not answer["candidates"]:
        return "no backend: none is usable"
    if not answer["certain"]:
        return f"{answer['scheduler']}, so it depends on the turn and on the open connections"
    if answer["persistent"]:
        return f"{answer['backend']}, which the client keeps by persistence"
    if answer["key"] is not None:
        return f"{answer['backend']}, by {answer['scheduler']} of {answer['hash_on']} (key {answer['key']:016x})"
    if len(answer["candidates"]) > 1:
        why = f"the first of {answer['scheduler']}"
    else:
        why = "the only one that serves" if answer["standbys"] else "the only usable one"
    return f"{answer['backend']}, {why}"
