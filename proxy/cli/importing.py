"""`steelyard import`: another program's files as a file of ours, with everything that it could not carry over."""

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from proxy.cli import EXIT_CONFIG, EXIT_FAILED, EXIT_NO_FILE
from proxy.words import counted, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.config import Diagnostic
    from proxy.config.importers.ledger import Ledger
    from proxy.config.importers.lexer import UnreadableError

PROGRAMS: Final = ("keepalived", "haproxy", "dnsdist")
_LARGEST: Final = 8 * 1024 * 1024
_MOST_FILES: Final = 1000


@click.command("import")
@click.argument("program", type=click.Choice(PROGRAMS))
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.pass_context
def command(ctx: click.Context, *, program: str, files: tuple[str, ...]) -> None:
    """Print the configuration files of another program as a file that `steelyard check` accepts.

    What is not carried over, or differs, is listed on standard error with file and line, and stands in the printed file as
    comments.  Several files of keepalived are those of several hosts: values that differ become tables keyed by node.  Those
    of the others are parts of one configuration.

    Exit codes: 0 printed, 1 nothing in the files has a form here, 2 the files are not of that program, 6 no such file.
    """
    from proxy.config.importers.convert import convert
    from proxy.config.importers.lexer import UnreadableError

    given = [(name, text) for name in files if (text := _read(name)) is not None]
    if len(given) < len(files):
        ctx.exit(EXIT_NO_FILE)
    try:
        text, ledger = convert(program, given, _included, _errors)
    except UnreadableError as error:
        click.echo(str(error.diagnostic(_line_of(error, given))), err=True)
        ctx.exit(EXIT_CONFIG)
    for note in ledger.sorted():
        click.echo(str(note), err=True)
    click.echo(_summary(files, ledger), err=True)
    if not text:
        click.echo("nothing here that could run: neither a service nor a router", err=True)
        ctx.exit(EXIT_FAILED)
    click.echo(text, nl=False)


def _errors(text: str) -> "list[Diagnostic]":
    """Return what `check` says of a text."""
    from proxy.config import diagnose_text, unsupported

    config, found = diagnose_text(text)
    return [*found, *(unsupported(config) if config is not None else ())]


def _read(name: str) -> str | None:
    """Return the text of a file; None after saying why it cannot be read."""
    try:
        with Path(name).open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        click.echo(f"{printable(name)}: {(error.strerror or 'unreadable').lower()}", err=True)
        return None
    if len(content) > _LARGEST:
        click.echo(f"{printable(name)}: larger than {_LARGEST >> 20} MiB: not a configuration", err=True)
        return None
    return content.decode("utf-8-sig", errors="replace")


def _included(pattern: str) -> "Sequence[tuple[str, str]]":
    """Return the files that an `include` names."""
    if "\0" in pattern:
        return []
    names = sorted(glob.glob(pattern))[:_MOST_FILES]  # noqa: PTH207 - Path globs from a folder
    return [(name, text) for name in names if Path(name).is_file() and (text := _read(name)) is not None]


def _line_of(error: "UnreadableError", files: "Sequence[tuple[str, str]]") -> str:
    """Return the line of an error, if it is in a file that was given."""
    text = dict(files).get(error.place.file, "")
    found = text.split("\n")[error.place.line - 1 : error.place.line]
    return found[0] if found else ""


def _summary(files: "Sequence[str]", ledger: "Ledger") -> str:
    counts = ledger.counts()
    total = sum(counts.values())
    return (
        f"{', '.join(map(printable, files))}: {counted(total, 'statement')}, {counts['carried']} carried over, "
        f"{counts['changed']} with a difference, {counts['left']} not"
    )
