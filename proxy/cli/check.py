"""`steelyard check`: everything that is wrong with a file, and with `--live` whether its backends answer. Binds nothing."""

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import click

from proxy.cli import EXIT_CONFIG, EXIT_FAILED

if TYPE_CHECKING:
    from health.spec import ProbeSpec
    from proxy.config import Config, Diagnostic
    from proxy.host import Finding

DEFAULT_FILE: Final = "/etc/steelyard/steelyard.toml"
_AT_ONCE: Final = 50
"""Live probes that run at the same time."""


@click.command()
@click.argument("file", default=DEFAULT_FILE, metavar="[FILE]")
@click.option("--node", metavar="NAME", help="Check what this node makes of the file; without it, every node.")
@click.option("--live", is_flag=True, help="Run each probe once and print a table.")
@click.option("--host", is_flag=True, help="Look at this host: sysctls, ports, firewall.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, *, file: str, node: str | None, live: bool, host: bool, as_json: bool) -> None:
    """Check FILE (default /etc/steelyard/steelyard.toml) and print every mistake with its line.

    With --live a table of all probes, and the transcript of each that failed. With --host warnings about this host.

    Exit codes: 0 no errors, 1 a live probe failed, 2 errors, 6 no such file.
    """
    from proxy.config import diagnose, unsupported

    config, found = diagnose(file, node)
    later = unsupported(config) if config is not None else []
    rows = asyncio.run(probe_all(config)) if live and config is not None else []
    unwise = _look_at_host(config) if host and config is not None else []
    if as_json:
        document = _document(file, config, found, later, rows if live else None)
        if host and config is not None:
            document["host"] = [finding.as_dict() for finding in unwise]
        click.echo(json.dumps(document, indent=2))
    else:
        for diagnostic in found:
            click.echo(str(diagnostic), err=True)
        for finding in unwise:
            click.echo(str(finding), err=True)
        click.echo(_summary(file, config, found, later), err=config is None)
        if rows:
            click.echo("\n".join(_table(rows)))
            for block in _transcripts(rows):
                click.echo("\n" + "\n".join(block))
    if config is None:
        ctx.exit(EXIT_CONFIG)
    if any(row["ok"] is False and not row["report_only"] for row in rows):
        ctx.exit(EXIT_FAILED)


def _look_at_host(config: "Config") -> "list[Finding]":
    from proxy.host import look

    return look(config)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _summary(file: str, config: "Config | None", found: "list[Diagnostic]", later: "list[Diagnostic]") -> str:
    warnings = sum(item.severity == "warning" for item in found)
    tail = f", {_count(warnings, 'warning')}" if warnings else ""
    if config is None:
        return f"{file}: {_count(len(found) - warnings, 'error')}{tail}"
    backends = sum(len(service.backends) for service in config.services)
    listeners = sum(len(service.listeners) for service in config.services)
    counts = (
        f"{_count(len(config.services), 'service')}, {_count(backends, 'backend')}, {_count(listeners, 'listener')}"
    )
    text = f"{file}: {counts}: no errors{tail}"
    if later and config.services:
        lines = ", ".join(str(line) for line in sorted({item.line for item in later})[:12])
        text += f"\n`steelyard run` of this version refuses it: {_count(len(later), 'thing')} not supported yet (line {lines})"
    return text


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


async def probe_all(config: "Config") -> list[dict[str, Any]]:
    """Run every probe of every backend once, some at a time; one row each, in the order of the file.

    `ok` is None for a probe that this version cannot run.
    """
    gate = asyncio.Semaphore(_AT_ONCE)
    asked: dict[str, asyncio.Task[dict[str, Any]]] = {}  # one question is asked once (H11)
    rows: list[tuple[dict[str, Any], asyncio.Task[dict[str, Any]]]] = []
    async with asyncio.TaskGroup() as group:
        for service in config.services:
            for backend in service.backends:
                for spec in backend.probes:
                    question = spec.question()
                    if question not in asked:
                        asked[question] = group.create_task(_probe(spec, backend.address, gate))
                    row = {
                        "service": service.name,
                        "backend": backend.name,
                        "probe": spec.type,
                        "address": spec.address or backend.address,
                        "port": spec.port,
                        "report_only": spec.report_only,
                    }
                    rows.append((row, asked[question]))
    return [row | task.result() for row, task in rows]


async def _probe(spec: "ProbeSpec", address: str, gate: asyncio.Semaphore) -> dict[str, Any]:
    from health.probes import NotSupported, run_once

    async with gate:
        try:
            outcome, transcript = await run_once(spec, address, spec.port or 0)
        except NotSupported as error:
            return {"ok": None, "reason": str(error), "latency_ms": None, "transcript": []}
    latency = round(outcome.latency * 1000, 2)
    return {"ok": outcome.ok, "reason": outcome.reason, "latency_ms": latency, "transcript": transcript}


def _transcripts(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return what was said where a probe failed; a question that several ask is shown once."""
    from proxy.cli.probe import transcript

    shown: list[list[str]] = []
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        lines = tuple(row["transcript"])
        if row["ok"] is False and lines not in seen:
            seen.add(lines)
            shown.append(transcript(row))
    return shown


def _table(rows: list[dict[str, Any]]) -> list[str]:
    from proxy.cli.daemon import colour
    from proxy.cli.grid import Cell, align

    words = {True: Cell("ok", "green"), False: Cell("FAIL", "red"), None: Cell("not tried", "yellow")}
    lines = [[Cell(text, "bold") for text in ("SERVICE", "BACKEND", "PROBE", "RESULT", "MS", "REASON")]]
    for row in rows:
        probe = row["probe"] if row["port"] is None else f"{row['probe']} {row['port']}"
        latency = "" if row["latency_ms"] is None else f"{row['latency_ms']:.1f}"
        note = " (report only)" if row["report_only"] else ""
        cells = [Cell(row["service"]), Cell(row["backend"]), Cell(probe), words[row["ok"]]]
        lines.append([*cells, Cell(latency, right=True), Cell(row["reason"] + note)])
    return align(lines, coloured=colour())
