"""`steelyard reexec`: replaces the running daemon with the version that is installed now."""

from typing import Any

import click

from proxy.cli.daemon import daemon, print_json
from proxy.words import printable


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Replace the running daemon with the version that is installed now, and with its file as it is now.

    The new daemon takes over sockets, counters and verdicts; the old one finishes its open connections within
    reexec-timeout. If the new one cannot start, the old one goes on.

    Exit codes: 0 replaced, 1 failed, 2 bad configuration, 3 daemon unreachable, 4 no permission.
    """
    answer: dict[str, Any] = {}
    with daemon(ctx) as client:
        for answer in client.stream("reexec", endless=True):
            if "step" in answer and not as_json:
                click.echo(printable(answer["step"]))
    if as_json:
        print_json({key: value for key, value in answer.items() if key not in {"ok", "more"}})
    else:
        click.echo(f"replaced by pid {answer['pid']}")
