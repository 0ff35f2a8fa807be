"""All of one backend: what it is, its curves, its histogram, the history of its probes, and who is connected [pure]."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from proxy.dashboard.board import Scene
from proxy.dashboard.history import History
from proxy.dashboard.judging import of_backend, reason, unit
from proxy.dashboard.rows import Row
from proxy.dashboard.tail import Event, when
from proxy.dashboard.text import (
    Glyphs,
    Line,
    Segment,
    Style,
    clipped,
    fit,
    milliseconds,
    quantity,
    segment,
    spark,
    spread,
    wrapped,
)  # fmt: skip
from proxy.dashboard.times import hour, seconds, short
from proxy.status.schema import BackendStatus, ServiceStatus, Status
from proxy.words import counted

CONNECTIONS: Final = 200
"""Connections that are listed; there may be a hundred thousand."""
_LABEL: Final = 13
_FINEST: Final = -3
"""The power of two, in milliseconds, up to which all latencies are one bar."""
_RESULTS: Final = 12
_EVENTS: Final = 8
_LEVELS: Final[Mapping[str, Style]] = {"warning": "warn", "error": "bad"}


@dataclass(frozen=True, slots=True)
class Extra:
    """What is asked for one backend alone. `cells` are (up to so many ms, samples of the last minute); None: not known."""

    connections: Sequence[Mapping[str, Any]] | None = None
    more: bool = False
    """Whether there are more connections than those."""
    cells: Sequence[tuple[float, int]] | None = None
    why: str = ""
    """Why something is not known."""


def find(status: Status, service: str, backend: str | None) -> Row | None:
    """Return the row of a service or of a backend by its names; None if it is gone."""
    for one in status["services"]:
        if one["name"] == service:
            found = next((each for each in one["backends"] if each["name"] == backend), None)
            return Row(one, found) if found is not None or backend is None else None
    return None


def title(service: str, backend: str, cells: int, now: float, cut: str) -> Line:
    """Return the line above."""
    return spread([segment(f" {service} / {backend}", "title")], [segment(f"{hour(now, now)} ")], cells, cut)


def lines(scene: Scene, row: Row, extra: Extra, cells: int) -> list[Line]:
    """Return the lines of a backend for a screen that is `cells` wide."""
    service, backend = row.service, row.backend
    if backend is None:
        return []
    glyphs = scene.glyphs
    parts = [
        _facts(backend, service, scene.taken, cells, glyphs),
        _curves(backend, service, scene.history, cells, glyphs),
        _histogram(extra, cells, glyphs),
        _probes(backend, service, scene, cells),
        _events(scene.events, service["name"], backend["name"], scene.now, cells, glyphs),
        _connected(extra, backend, cells, glyphs),
    ]
    return [clipped(line, cells, glyphs.cut) for part in parts if part for line in (*part, ())]


def _heading(text: str, cells: int, glyphs: Glyphs) -> Line:
    start = f"{glyphs.rule * 2} {text} "
    return (segment(start + glyphs.rule * max(0, cells - len(start)), "head"),)


def _labelled(label: str, text: str, cells: int, glyphs: Glyphs, style: Style = "") -> list[Line]:
    found = wrapped(text, max(10, cells - _LABEL - 2), 6, glyphs.cut) or ["-"]
    heads = [label, *[""] * (len(found) - 1)]
    return [
        (Segment(f" {head:<{_LABEL}}", "dim"), Segment(part, style)) for head, part in zip(heads, found, strict=True)
    ]


def _facts(backend: BackendStatus, service: ServiceStatus, now: float, cells: int, glyphs: Glyphs) -> list[Line]:
    verdict = of_backend(backend, service, glyphs)
    since = seconds(backend["since"])
    ago = "" if since is None else f" since {hour(since, now)}, {short(now - since)} ago"
    errors = [f"{name} {count}" for name, count in backend["errors"].items() if count]
    weight = f"{backend['weight']} configured, {backend['effective_weight']:g} now, tier {backend['tier']}"
    if backend["origin"] != "file":
        weight += f", {backend['origin']} by an operator"
    traffic = (
        f"{quantity(backend['active'])} open, {backend['queued']} queued, {backend['total']} in all, "
        f"{_octets(backend['bytes_in'])} to it, {_octets(backend['bytes_out'])} from it"
    )
    return [
        *_labelled("state", f"{verdict.sign} {verdict.words}{ago}", cells, glyphs, verdict.style),
        *_labelled("reason", reason(backend), cells, glyphs),
        *_labelled("address", f"{backend['address']}, of {service['name']}, {service['scheduler']}", cells, glyphs),
        *_labelled("weight", weight, cells, glyphs),
        *_labelled("traffic", traffic, cells, glyphs),
        *_labelled("errors", ", ".join(errors) or "none since the start", cells, glyphs, "warn" if errors else ""),
    ]


def _octets(count: int) -> str:
    return f"{quantity(count)}B"


def _curves(backend: BackendStatus, service: ServiceStatus, history: History, cells: int, glyphs: Glyphs) -> list[Line]:
    room = max(8, min(60, cells - _LABEL - 30))
    rates = history.rates(service["name"], backend["name"])
    p50, p99 = history.latencies(service["name"], backend["name"])
    latency = backend["latency_ms"]
    rows = (
        (f"rate {unit(service)}", rates, quantity(backend["rate"]), quantity(max(rates, default=0))),
        ("p50 ms", p50, milliseconds(latency["p50"]), milliseconds(max(p50, default=0) or None)),
        ("p99 ms", p99, milliseconds(latency["p99"]), milliseconds(max(p99, default=0) or None)),
    )
    return [
        _heading(f"The last {counted(len(rates), 'look')}", cells, glyphs),
        *(
            (
                Segment(f" {label:<{_LABEL}}", "dim"),
                Segment(spark(values, room, glyphs), "curve"),
                Segment(f"  {now} now"),
                Segment(f", {most} at most", "dim"),
            )
            for label, values, now, most in rows
        ),
    ]


def _histogram(extra: Extra, cells: int, glyphs: Glyphs) -> list[Line]:
    """Return a bar for each octave of latency that has samples, and for those between them."""
    if extra.cells is None:
        return []
    found = Counter[int]()
    for upto, count in extra.cells:
        found[max(_FINEST, _exponent(upto))] += count
    octaves = {2.0**at: found[at] for at in range(min(found, default=0), max(found, default=0) + 1)}
    total, most = sum(octaves.values()), max(octaves.values(), default=0)
    head = _heading(f"Latency of the last minute in ms, {counted(total, 'sample')}", cells, glyphs)
    if not total:
        return [head, (Segment("  none", "dim"),)]
    room = max(8, min(60, cells - _LABEL - 22))
    return [
        head,
        *(
            (
                Segment(f" {'up to ' + milliseconds(upto):<{_LABEL}}", "dim"),
                Segment(fit(glyphs.bar * max(1 if count else 0, round(count / most * room)), room), "curve"),
                Segment(f"  {quantity(count):>5}  {count / total * 100:5.1f} %"),
            )
            for upto, count in octaves.items()
        ),
    ]


def _exponent(upto: float) -> int:
    """Return the least power of two that is no less than a time."""
    mantissa, exponent = math.frexp(upto)
    return exponent - 1 if mantissa == 0.5 else exponent  # noqa: PLR2004 - it is a power of two itself


def _probes(backend: BackendStatus, service: ServiceStatus, scene: Scene, cells: int) -> list[Line]:
    glyphs = scene.glyphs
    results = scene.history.results(service["name"], backend["name"])
    found: list[Line] = [_heading("Its probes, the newest first, as seen from here", cells, glyphs)]
    if not results:
        text = "  it is not probed" if backend["admin"] == "maint" else "  no probe has run yet"
        return [*found, (Segment(text, "dim"),)]
    for at, result in enumerate(results[:_RESULTS]):
        sign = glyphs.good if result.ok else glyphs.bad
        style: Style = "good" if result.ok else "bad"
        took = "" if result.latency_ms is None else f"{milliseconds(result.latency_ms)} ms"
        left = (
            Segment(f" {hour(result.at, scene.now)} ", "dim"),
            segment(f"{sign} {'ok' if result.ok else 'failed':<7}", style),
            segment(f"{result.type:<6} {took:>8}  "),
        )
        # The newest result in full: it is the one that a reader came for.
        texts = wrapped(result.reason, max(10, cells - 36), 6 if at == 0 else 1, glyphs.cut) or [""]
        found.append((*left, Segment(texts[0])))
        found += [(Segment(" " * 35), Segment(text)) for text in texts[1:]]
    if len(results) > 1:
        changes = sum(newer.ok != older.ok for newer, older in pairwise(results) if newer.number == older.number)
        passed = sum(result.ok for result in results)
        found.append((Segment(f" {passed} of the last {len(results)} passed, {counted(changes, 'change')}", "dim"),))
    return found


def _events(events: Sequence[Event], service: str, backend: str, now: float, cells: int, glyphs: Glyphs) -> list[Line]:
    subject = f"{service}/{backend}"
    own = [event for event in reversed(events) if event.get("subject") in {subject, backend}][:_EVENTS]
    if not own:
        return []
    found: list[Line] = [_heading("Its events, the newest first", cells, glyphs)]
    for event in own:
        texts = wrapped(str(event.get("text")), max(10, cells - 24), 3, glyphs.cut) or [""]
        style = _LEVELS.get(str(event.get("level")), "")
        found.append(
            (segment(f" {when(event, now):<14} {str(event.get('kind'))[:8]:<8} ", "dim"), Segment(texts[0], style))
        )
        found += [(Segment(" " * 25), Segment(text, style)) for text in texts[1:]]
    return found


def _connected(extra: Extra, backend: BackendStatus, cells: int, glyphs: Glyphs) -> list[Line]:
    if extra.connections is None:
        return [(segment(f" {extra.why}", "dim"),)] if extra.why else []
    shown = len(extra.connections)
    what = f"the first {shown}" if extra.more else str(shown)
    found: list[Line] = [_heading(f"Connected: {what}", cells, glyphs)]
    if not shown:
        text = "none is open" if not backend["active"] else "none is listed: DNS queries are only counted"
        return [*found, (Segment(f"  {text}", "dim"),)]
    names = ("client", "listener", "state", "age", "idle", "in", "out")
    widths = (24, 22, 11, 6, 6, 6, 6)
    found.append(
        (Segment(" " + "  ".join(fit(name, size, "") for name, size in zip(names, widths, strict=True)), "dim"),)
    )
    for row in extra.connections:
        ages = [short(float(row.get(key) or 0)) for key in ("age_s", "idle_s")]
        octets = [quantity(float(row.get(key) or 0)) for key in ("bytes_in", "bytes_out")]
        texts = [*(str(row.get(key) or "-") for key in ("client", "listener", "state")), *ages, *octets]
        found.append(
            (Segment(" " + "  ".join(fit(text, size, glyphs.cut) for text, size in zip(texts, widths, strict=True))),)
        )
    return found
