"""All of one service or one backend, for people: each probe's last result, and the counters with their meaning."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from proxy.cli.grid import Cell, align, paint
from proxy.cli.times import ago, moment
from proxy.stats.meanings import BACKEND, SERVICE
from proxy.status.schema import BackendStatus, ProbeStatus, ServiceStatus

_GAUGES: Final = frozenset({"sessions", "inflight", "draining", "queued", "connections"})


def service_lines(service: ServiceStatus, *, coloured: bool, width: int | None) -> list[str]:
    """Return what `status SERVICE` shows below the table of backends: quorum and counters."""
    return [
        "",
        f"  quorum {service['quorum']}, protocol {service['protocol']}",
        "",
        *_counters(service["counters"], SERVICE, coloured=coloured, width=width),
    ]


def backend_lines(backend: BackendStatus, now: float, *, coloured: bool, width: int | None) -> list[str]:
    """Return what `status SERVICE BACKEND` shows below the service's line; `now` in Unix seconds."""
    since, admin = backend["since"], backend["admin"]
    by = f" by {backend['admin_by']}" if backend["admin_by"] else ""
    why = f": {backend['admin_reason']}" if backend["admin_reason"] else ""
    facts = [
        ("address", backend["address"]),
        ("state", backend["state"] + ("" if since is None else f" since {moment(since)}, {ago(since, now)} ago")),
        ("reason", backend["reason"]),
        ("admin", f"{admin}{by}{why}"),
        ("latency", _latency(backend)),
        ("weight", f"{backend['weight']}, {backend['effective_weight']} now; tier {backend['tier']}"),
        ("origin", {"file": "the configuration file", "added": "added by an operator"}.get(backend["origin"], "")),
    ]
    traffic = {name: backend[name] for name in ("active", "queued", "total", "bytes_in", "bytes_out")}
    return [
        "",
        *align(
            [[Cell(name, "dim"), Cell(text)] for name, text in facts],
            coloured=coloured, width=width, indent="  ", headed=False,
        ),
        *_probes(backend["probes"], now, coloured=coloured, width=width),
        "",
        *_counters({**traffic, **backend["errors"]}, BACKEND, coloured=coloured, width=width),
    ]  # fmt: skip


def _latency(backend: BackendStatus) -> str:
    p50, p99 = backend["latency_ms"]["p50"], backend["latency_ms"]["p99"]
    return "" if p50 is None else f"p50 {p50:.2f} ms, p99 {p99:.2f} ms in the last minute; {backend['rate']:g} a second"


def _probes(probes: Sequence[ProbeStatus], now: float, *, coloured: bool, width: int | None) -> list[str]:
    if not probes:
        return ["", paint("  no probe has run yet", "yellow", coloured=coloured)]
    rows = [[Cell(name, "dim", name == "TOOK") for name in ("PROBE", "RESULT", "AGO", "TOOK", "SAYS")]]
    for probe in probes:
        took = "" if probe["latency_ms"] is None else f"{probe['latency_ms']:.1f} ms"
        result = Cell("ok", "green") if probe["ok"] else Cell("failed", "red")
        rows.append(
            [Cell(probe["type"]), result, Cell(ago(probe["at"], now)), Cell(took, right=True), Cell(probe["reason"])]
        )
    return ["", *align(rows, coloured=coloured, width=width, indent="  ")]


def _counters(
    counts: Mapping[str, int], meanings: Mapping[str, str], *, coloured: bool, width: int | None
) -> list[str]:
    """Return a line for each counter that is not zero, and for each gauge."""
    named: Iterable[tuple[str, int]] = (
        (name, count) for name, count in counts.items() if count or name in {*_GAUGES, "active"}
    )
    rows = [[Cell(name), Cell(str(count), right=True), Cell(meanings.get(name, ""), "dim")] for name, count in named]
    return align(rows, coloured=coloured, width=width, indent="  ", headed=False)
