"""`steelyard check`: everything that is wrong with a file, and with `--live` whether its backends answer. Binds nothing."""

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import click

from proxy.cli import EXIT_CONFIG, EXIT_FAILED
from proxy.words import counted

if TYPE_CHECKING:
    from proxy.config import Config, Diagnostic
    from proxy.host.checks import Finding

DEFAULT_FILE: Final = "/etc/steelyard/steelyard.toml"


@click.command()
@click.argument("file", default=DEFAULT_FILE, metavar="[FILE]")
@click.option("--node", metavar="NAME", help="Check what this node makes of the file; without it, every node.")
@click.option("--live", is_flag=True, help="Run each probe once and print a table.")
@click.option("-v", "--verbose", is_flag=True, help="With --live: the transcript of every probe.")
@click.option("--host", is_flag=True, help="Look at this host: sysctls, ports, firewall.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    ctx: click.Context, *, file: str, node: str | None, live: bool, verbose: bool, host: bool, as_json: bool
) -> None:
    """Check FILE (default /etc/steelyard/steelyard.toml) and print every mistake with its line.

    With --live a table of all probes, and the transcript of each that failed. A server that plays another part than the
    wanted one, as a replica where a writer is asked for, is on standby: no failure as long as another backend plays it.
    With --host warnings about this host; a notification of nothing, or by a program that is missing, is an error there.

    Exit codes: 0 no errors, 1 a live probe failed, 2 errors, 6 no such file.
    """
    from proxy.cli.live import probe_all, table, transcripts
    from proxy.cli.probe import failed
    from proxy.config import diagnose, unsupported

    config, found = diagnose(file, node)
    later = unsupported(config) if config is not None else []
    if later:  # `run` refuses it, and so does this
        found, config = [*found, *later], None
    rows = asyncio.run(probe_all(config)) if live and config is not None else []
    unwise = _look_at_host(config) if host and config is not None else []
    if host:
        found = [item.on_its_host() for item in found]
    wrong = config is None or any(item.severity == "error" for item in found)
    if as_json:
        document = {**_document(file, config, found, later, rows if live else None), "valid": not wrong}
        if host and config is not None:
            document["host"] = [finding.as_dict() for finding in unwise]
        click.echo(json.dumps(document, indent=2))
    else:
        for diagnostic in found:
            click.echo(str(diagnostic), err=True)
        for finding in unwise:
            click.echo(str(finding), err=True)
        click.echo(_summary(file, None if wrong else config, found), err=wrong)
        if rows:
            click.echo("\n".join(table(rows)))
            for block in transcripts(rows, every=verbose):
                click.echo("\n" + "\n".join(block))
    if wrong:
        ctx.exit(EXIT_CONFIG)
    if failed(rows):
        ctx.exit(EXIT_FAILED)


def _look_at_host(config: "Config") -> "list[Finding]":
    from proxy.host.checks import look

    return look(config)


def _summary(file: str, config: "Config | None", found: "list[Diagnostic]") -> str:
    warnings = sum(item.severity == "warning" for item in found)
    tail = f", {counted(warnings, 'warning')}" if warnings else ""
    if config is None:
        return f"{file}: {counted(len(found) - warnings, 'error')}{tail}"
    backends = sum(len(service.backends) for service in config.services)
    listeners = sum(len(service.listeners) for service in config.services)
    counts = (
        f"{counted(len(config.services), 'service')}, {counted(backends, 'backend')}, {counted(listeners, 'listener')}"
    )
    if not config.services and config.vrrp:
        counts = counted(len(config.vrrp), "router")
    return f"{file}: {counts}: no errors{tail}"


def _document(
    file: str,
    config: "Config | None",
    found: "list[Diagnostic]",
    later: "list[Diagnostic]",
    rows: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "file": file,
        "valid": config is not None,
        "diagnostics": [item.as_dict() for item in found],
        "unsupported": [item.as_dict() for item in later],
    }
    if config is not None:
        document["sha256"] = config.sha256
        document["sources"] = list(config.sources)
        document["nodes"] = list(config.nodes)
        document["services"] = len(config.services)
        document["backends"] = sum(len(service.backends) for service in config.services)
        document["listeners"] = sum(len(service.listeners) for service in config.services)
    if rows is not None:
        document["probes"] = rows
    return document
