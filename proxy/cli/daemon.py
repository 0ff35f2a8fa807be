"""What the commands that ask a running daemon have in common: which socket, and how its errors end."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import click

from proxy.cli.source import is_url, source
from proxy.control.client import TIMEOUT, Client
from proxy.control.wire import DEFAULT_SOCKET, BadConfigError, ControlError

if TYPE_CHECKING:
    from proxy.dashboard.source import Source


class WrongUsageError(click.UsageError):
    """Arguments that make no sense; the command line's own errors end the same way."""

    exit_code: ClassVar[int] = 64


def socket_path(ctx: click.Context) -> str:
    """Return the socket to ask: the one of `-s`, wherever it stood, or of STEELYARD_SOCKET, or the usual one."""
    path: str = ctx.obj or DEFAULT_SOCKET
    if is_url(path):
        raise WrongUsageError("status and top alone take an http URL: give the path of the control socket", ctx)
    return path


def asked(ctx: click.Context, url: str | None, timeout: float = TIMEOUT) -> "Source":
    """Return what `status` and `top` ask: the URL of the command or of `-s`, or else the control socket."""
    where: str = url or ctx.obj or DEFAULT_SOCKET
    try:
        return source(where, timeout)
    except ValueError as error:
        raise WrongUsageError(str(error), ctx) from None


@contextmanager
def daemon(ctx: click.Context) -> Iterator[Client]:
    """Connect to the daemon; what it refuses, and its absence, end the command with their words and exit code."""
    with ending(ctx), Client(socket_path(ctx)) as client:
        yield client


@contextmanager
def ending(ctx: click.Context) -> Iterator[None]:
    """Let what a daemon refuses, and its absence, end the command with their words and exit code."""
    from proxy.words import printable

    try:
        yield
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
