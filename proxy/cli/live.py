"""`steelyard check --live`: every probe of a file run once, by this process, and a table of what they found."""

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from health.compare import Sample, lagging
from health.probes import NotSupported, run_once, told
from health.state import Outcome, combine
from proxy.cli.daemon import colour
from proxy.cli.grid import Cell, align
from proxy.cli.probe import failed, transcript

if TYPE_CHECKING:
    from health.spec import ProbeSpec
    from health.state import Require
    from proxy.config import Config

_AT_ONCE: Final = 50
"""Live probes that run at the same time."""

_Found = tuple[Outcome, list[str]] | NotSupported


class _Asked(NamedTuple):
    """One probe of one backend, or one that routers track."""

    service: str
    backend: str
    address: str
    spec: "ProbeSpec"
    require: "Require" = "all"


async def probe_all(config: "Config") -> list[dict[str, Any]]:
    """Run every probe of every backend once, and those that routers track, some at a time; one row each, as in the file.

    What several ask is asked once (H11).  The backends of a service are compared with each other (H7, H9).  `ok` is None
    for a probe that this version cannot run.
    """
    asked = _asked(config)
    gate = asyncio.Semaphore(_AT_ONCE)
    questions = {one.spec.question(): one for one in asked}
    async with asyncio.TaskGroup() as group:
        tasks = {
            question: group.create_task(_probe(one, gate, config.node.user)) for question, one in questions.items()
        }
    found = [tasks[one.spec.question()].result() for one in asked]
    behind = _behind(asked, found)
    return [
        {
            "service": one.service,
            "backend": one.backend,
            "probe": one.spec.type,
            "address": one.address,
            "port": one.spec.port,
            "report_only": one.spec.report_only,
            **(_not_tried(result) if isinstance(result, NotSupported) else told(*result, late)),
        }
        for one, result, late in zip(asked, found, behind, strict=True)
    ]


def _asked(config: "Config") -> list[_Asked]:
    asked = [
        _Asked(service.name, backend.name, spec.address or backend.address, spec, service.probe_require)
        for service in config.services
        for backend in service.backends
        for spec in backend.probes
    ]
    for name, spec in config.probes.items():
        routers = [router.name for router in config.vrrp if any(track.probe == name for track in router.track)]
        asked.append(_Asked(f"vrrp {', '.join(routers)}", name, spec.address or "", spec))
    return asked


async def _probe(one: _Asked, gate: asyncio.Semaphore, user: str) -> _Found:
    async with gate:
        try:
            return await run_once(one.spec, one.address, one.spec.port or 0, user)
        except NotSupported as error:
            return error


def _behind(asked: list[_Asked], found: list[_Found]) -> list[str]:
    """Return for each in words how far it is behind the others of its service that serve, "" if it is not."""
    states: dict[tuple[str, str], list[bool]] = {}
    for one, result in zip(asked, found, strict=True):
        if not one.spec.report_only:
            passed = not isinstance(result, NotSupported) and result[0].ok
            states.setdefault((one.service, one.backend), []).append(passed)
    return lagging(
        [
            Sample(
                one.service,
                one.backend,
                one.spec,
                None if isinstance(result, NotSupported) else result[0].value,
                combine(["up" if ok else "down" for ok in states.get((one.service, one.backend), ())], one.require)
                == "up",
            )
            for one, result in zip(asked, found, strict=True)
        ]
    )


def _not_tried(why: NotSupported) -> dict[str, Any]:
    return {"ok": None, "reserve": False, "standby": False, "reason": str(why), "latency_ms": None, "transcript": []}


def transcripts(rows: list[dict[str, Any]], *, every: bool = False) -> list[list[str]]:
    """Return what was said where a probe failed, or by `every` one; a question that several ask is shown once."""
    shown: list[list[str]] = []
    seen: set[tuple[str, ...]] = set()
    for row in rows if every else failed(rows, report_only=True):
        lines = tuple(row["transcript"])
        if lines and lines not in seen:
            seen.add(lines)
            shown.append(transcript(row))
    return shown


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return one line a probe."""
    lines = [[Cell(text, "bold") for text in ("SERVICE", "BACKEND", "PROBE", "RESULT", "MS", "REASON")]]
    failures = failed(rows, report_only=True)
    for row in rows:
        probe = row["probe"] if row["port"] is None else f"{row['probe']} {row['port']}"
        latency = "" if row["latency_ms"] is None else f"{row['latency_ms']:.1f}"
        note = " (report only)" if row["report_only"] else ""
        cells = [Cell(row["service"]), Cell(row["backend"]), Cell(probe), _result(row, failures)]
        lines.append([*cells, Cell(latency, right=True), Cell(row["reason"] + note)])
    return align(lines, coloured=colour())


def _result(row: dict[str, Any], failures: list[dict[str, Any]]) -> Cell:
    if row["ok"] is None:
        return Cell("not tried", "yellow")
    if row["ok"]:
        return Cell("reserve", "yellow") if row["reserve"] else Cell("ok", "green")
    return Cell("FAIL", "red") if row in failures else Cell("standby", "yellow")
