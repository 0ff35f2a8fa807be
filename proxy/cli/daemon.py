"""What the commands that ask a running daemon have in common: which socket, and how its errors end."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import click

from proxy.control.client import Client
from proxy.control.wire import DEFAULT_SOCKET, BadConfigError, ControlError


class WrongUsageError(click.UsageError):
    """Arguments that make no sense; the command line's own errors end the same way."""

    exit_code: ClassVar[int] = 64


def socket_path(ctx: click.Context) -> str:
    """Return the socket to ask: the one of `-s`, wherever it stood, or of STEELYARD_SOCKET, or the usual one."""
    path: str = ctx.obj or DEFAULT_SOCKET
    if path.startswith(("http://", "https://")):
        raise WrongUsageError("an http URL is not yet supported: give the path of the control socket", ctx)
    return path


@contextmanager
def daemon(ctx: click.Context) -> Iterator[Client]:
    """Connect to the daemon; what it refuses, and its absence, end the command with their words and exit code."""
    from proxy.words import printable

    try:
        with Client(socket_path(ctx)) as client:
            yield client
    except ControlError as error:
        if isinstance(error, BadConfigError):  # as `check` shows the mistakes of a file
            click.echo("\n".join(map(printable, str(error).splitlines())), err=True)
        else:
            click.echo(f"steelyard: {printable(str(error))}", err=True)
        ctx.exit(error.exit_code)


def colour() -> bool:
    """Say whether standard output may be coloured: a terminal, and neither NO_COLOR nor a dumb one."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_json(value: Any) -> None:
    """Print one JSON document, indented for people, ASCII for terminals."""
    import json

    click.echo(json.dumps(value, indent=2))
