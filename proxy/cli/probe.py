"""`steelyard probe`: one run of each probe of a service, now, by the daemon's own health process."""

from typing import Any

import click

from proxy.cli import EXIT_FAILED
from proxy.cli.daemon import colour, daemon, print_json
from proxy.cli.grid import paint
from proxy.control.wire import ControlError
from proxy.words import printable


@click.command()
@click.argument("service")
@click.argument("backend", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, *, service: str, backend: str | None, as_json: bool) -> None:
    """Run each probe of SERVICE's backends once, or of BACKEND's alone, and show what was said.

    It changes no verdict. Exit codes: 0 all passed, 1 one failed, 3 daemon unreachable, 4 no permission, 64 no such name.
    """
    rows: list[dict[str, Any]] = []
    with daemon(ctx) as client:
        wanted = {} if backend is None else {"backend": backend}
        for answer in client.stream("probe", endless=True, service=service, **wanted):
            rows += answer.get("probes", [])
        if not rows:
            raise ControlError("there is nothing to probe")
    if as_json:
        print_json({"probes": rows})
    else:
        click.echo("\n\n".join("\n".join(transcript(row, coloured=colour())) for row in rows), color=True)
    if failed(rows):
        ctx.exit(EXIT_FAILED)


def failed(rows: list[dict[str, Any]], *, report_only: bool = False) -> list[dict[str, Any]]:
    """Return the runs that failed; those that only report are none, unless asked for.

    Nor is a backend that plays another part than the wanted one, where another backend of its service plays that: a
    service for writers lists its replicas too.
    """
    played = {(row["service"], _kind(row)) for row in rows if row["ok"]}
    return [
        row
        for row in rows
        if row["ok"] is False
        and (report_only or not row["report_only"])
        and not (row["standby"] and (row["service"], _kind(row)) in played)
    ]


def _kind(row: dict[str, Any]) -> str:
    kind: str = row.get("type") or row["probe"]
    return kind


def transcript(row: dict[str, Any], *, coloured: bool = False) -> list[str]:
    """Return one run in lines: whose it was, then what we did ("->"), what came back ("<-") and how it ended."""
    where = f" {row['address']}" + (f" port {row['port']}" if row["port"] else "")
    note = " (report only)" if row["report_only"] else ""
    head = paint(printable(f"{row['service']}/{row['backend']}: {_kind(row)}{where}{note}"), "bold", coloured=coloured)
    lines = [printable(line) for line in row["transcript"]]
    if lines:
        lines[-1] = paint(lines[-1], "green" if row["ok"] else "red", coloured=coloured)
    return [head, *(f"  {line}" for line in lines)]
