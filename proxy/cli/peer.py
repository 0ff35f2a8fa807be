"""What commands that reach both hosts of a pair have in common."""

from collections.abc import Mapping
from typing import Any, Final

import click

from proxy.words import printable

HERE: Final = click.option("--here", is_flag=True, help="Do it on this host alone, not on the other one of the pair.")


def show_peer(answer: Mapping[str, Any]) -> None:
    """Print what the other host has said; nothing without a pair."""
    peer = answer.get("peer")
    if peer:
        state = "" if peer["text"] == peer["state"] else f"{peer['state']}: "
        click.echo(printable(f"{peer['node']}: {state}{peer['text']}"))
