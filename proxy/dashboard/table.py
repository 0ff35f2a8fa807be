"""The list's columns for a width, and the line of each row in them [pure].

What a narrow screen has no column for is not lost: the reason of a backend that is not simply up goes on below its row.
"""

from dataclasses import dataclass
from typing import Final

from proxy.dashboard.history import History, service_latency
from proxy.dashboard.judging import of_backend, of_state, reason, troubled, unit, usable
from proxy.dashboard.rows import Row
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
    width,
    wrapped,
)
from proxy.dashboard.times import seconds, short
from proxy.status.schema import BackendStatus, ServiceStatus, Status

MEDIUM: Final = 110
"""Cells from which on a row has a column for its reason."""
WIDE: Final = 160
_NAME: Final = (12, 32)
_SPARK: Final = {0: 8, MEDIUM: 10, WIDE: 24}
_LINES: Final = 2
"""Lines at most that a reason takes below its row."""
_HEADS: Final = {
    "name": "SERVICE / BACKEND", "state": "STATE", "weight": "USABLE", "open": "OPEN", "rate": "RATE/s",
    "spark": "", "p50": "P50ms", "p99": "P99ms", "errors": "ERR/s", "since": "SINCE", "probed": "AGO", "reason": "LAST PROBE SAYS",
}  # fmt: skip
_RIGHT: Final = frozenset({"weight", "open", "rate", "p50", "p99", "errors", "since", "probed"})
_NARROW: Final = {"state": 13, "weight": 6, "open": 5, "rate": 6, "p50": 5, "p99": 5, "errors": 5}
_DROPPED: Final = ("p50", "weight", "errors", "p99", "rate", "open")
"""What goes, one after the other, while a screen has no room for it."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The widths of the columns that are shown, from left to right."""

    widths: dict[str, int]
    cells: int
    glyphs: Glyphs
    now: float
    """Unix seconds of the picture."""


def columns(status: Status, cells: int, glyphs: Glyphs, now: float) -> Columns:
    """Return the columns for a list that is `cells` wide."""
    names = [width(one["name"]) + 2 for service in status["services"] for one in (service, *service["backends"])]
    longest = min(max(_NAME[0], 18, *names), _NAME[1]) if names else 18
    shown = dict(_NARROW)
    if cells >= MEDIUM:
        shown |= {"rate": 8, "since": 6, "probed": 5}
    if cells >= WIDE:
        shown |= {"open": 7, "rate": 10, "p50": 6, "p99": 6, "errors": 6, "state": 15}
    for name in _DROPPED:
        if _taken(shown) + _NAME[0] > cells:
            del shown[name]
    left = cells - _taken(shown)
    if cells >= MEDIUM:
        curve = _SPARK[WIDE] if cells >= WIDE else _SPARK[MEDIUM]
        named = min(longest, left - curve - 1 - 20)
        shown |= {"spark": curve, "reason": left - named - curve - 2}
    else:
        named = min(longest, left)
        curve = min(_SPARK[0], left - named - 1)
        if curve >= 4:  # noqa: PLR2004 - fewer cells are no curve
            shown["spark"] = curve
        named = left - (curve + 1 if "spark" in shown else 0)
    shown["name"] = named
    return Columns({name: shown[name] for name in _HEADS if name in shown}, cells, glyphs, now)


def _taken(shown: dict[str, int]) -> int:
    return sum(shown.values()) + len(shown)


def heading(cols: Columns) -> Line:
    """Return the line above the list."""
    heads = _HEADS | {"weight": "USE/WT" if cols.widths.get("weight", 0) <= 6 else "USABLE"}  # noqa: PLR2004
    parts = [fit(heads[name], size, "", right=name in _RIGHT) for name, size in cols.widths.items()]
    return clipped([Segment(" ".join(parts), "head")], cols.cells)


def lines(row: Row, cols: Columns, history: History) -> list[Line]:
    """Return the line of a row, and those below it that its reason needs."""
    if row.backend is None:
        return [_joined(_service(row, row.service, cols, history), cols)]
    found = _joined(_backend(row.backend, row.service, cols, history), cols)
    return [found, *_below(row.backend, cols)]


def height(row: Row, cols: Columns) -> int:
    """Return the number of lines that a row takes."""
    return 1 if row.backend is None else 1 + len(_below(row.backend, cols))


def _joined(cells: dict[str, Segment], cols: Columns) -> Line:
    parts = []
    last = len(cols.widths) - 1
    for at, (name, size) in enumerate(cols.widths.items()):
        text, style = cells[name]
        # The space behind a cell has its style: a segment of its own would cost its colours twice.
        parts.append(Segment(fit(text, size, cols.glyphs.cut, right=name in _RIGHT) + " " * (at < last), style))
    return clipped(parts, cols.cells, cols.glyphs.cut)


def _service(row: Row, service: ServiceStatus, cols: Columns, history: History) -> dict[str, Segment]:
    name, glyphs = service["name"], cols.glyphs
    verdict = of_state(service["state"], glyphs)
    rates = history.rates(name)
    p50, p99 = service_latency(service)
    rate = quantity(rates[-1]) if rates else "-"
    total = len(service["backends"])
    hidden = f", {row.hidden} not shown" if row.hidden and not row.folded else ""
    return {
        "name": segment(f"{glyphs.folded if row.folded else glyphs.open} {name}", "title"),
        "state": verdict.fitted(cols.widths["state"], glyphs.cut),
        "weight": Segment(f"{usable(service)}/{total}", "" if service["state"] == "up" else verdict.style),
        "open": _number(quantity(sum(one["active"] for one in service["backends"]))),
        "rate": _number(f"{rate} {unit(service)}" if cols.cells >= MEDIUM else rate),
        "spark": Segment(spark(rates, cols.widths.get("spark", 0), glyphs), "curve" if any(rates) else "dim"),
        "p50": _number(milliseconds(p50)),
        "p99": _number(milliseconds(p99)),
        "errors": _errors(history.errors(name)),
        "since": Segment(""),
        "probed": Segment(""),
        "reason": segment(_serves(service, cols.widths.get("reason", 0), hidden), "dim"),
    }


def _serves(service: ServiceStatus, cells: int, hidden: str) -> str:
    """Return where a service listens and how it picks, or the first part of that where there is no room for all."""
    listens = service["listen"]
    first, more = listens[0] if listens else "", f" +{len(listens) - 1}" if len(listens) > 1 else ""
    texts = (
        f"{' '.join(listens)}, {service['scheduler']}{hidden}",
        f"{' '.join(listens)}{hidden}",
        f"{first}{more}{hidden}",
    )
    return next((text for text in texts if width(text) <= cells), texts[-1])


def _backend(backend: BackendStatus, service: ServiceStatus, cols: Columns, history: History) -> dict[str, Segment]:
    verdict = of_backend(backend, service, cols.glyphs)
    probed = max((at for probe in backend["probes"] if (at := seconds(probe["at"])) is not None), default=None)
    since = seconds(backend["since"])
    rate = quantity(backend["rate"])
    return {
        "name": segment(f"  {backend['name']}"),
        "state": verdict.fitted(cols.widths["state"], cols.glyphs.cut),
        "weight": _number(_weight(backend)),
        "open": _number(quantity(backend["active"])),
        "rate": _number(f"{rate}    " if cols.cells >= MEDIUM else rate),
        "spark": Segment(""),
        "p50": _number(milliseconds(backend["latency_ms"]["p50"])),
        "p99": _number(milliseconds(backend["latency_ms"]["p99"])),
        "errors": _errors(history.errors(service["name"], backend["name"])),
        "since": Segment("-" if since is None else short(cols.now - since)),
        "probed": Segment("-" if probed is None else short(cols.now - probed), "dim"),
        "reason": segment("" if _below(backend, cols) else reason(backend), "" if troubled(backend) else "dim"),
    }


def _below(backend: BackendStatus, cols: Columns) -> list[Line]:
    """Return the lines of a reason that does not fit into its row, if the backend is not simply up."""
    if not troubled(backend):
        return []
    why = reason(backend)
    if width(why) <= cols.widths.get("reason", -1):
        return []
    since = seconds(backend["since"])
    if "since" not in cols.widths and since is not None:
        why = f"{short(cols.now - since)}: {why}"
    style: Style = "" if backend["admin"] == "ready" and backend["state"] in {"down", "unknown"} else "dim"
    indent = 6
    found = wrapped(why, max(10, cols.cells - indent - 1), _LINES, cols.glyphs.cut)
    return [clipped((Segment(" " * indent), Segment(text, style)), cols.cells, cols.glyphs.cut) for text in found]


def _weight(backend: BackendStatus) -> str:
    """Return the weight that counts now, and the configured one where a slow start or the like lowers it."""
    weight, effective = backend["weight"], backend["effective_weight"]
    return str(weight) if effective in {0, weight} else f"{effective:g}/{weight}"


def _number(text: str) -> Segment:
    """Return a number; one that is nothing steps back."""
    return Segment(text, "dim" if text.strip() in {"0", "-", "0 q/s", "0 c/s", "0 s/s"} else "")


def _errors(rate: float | None) -> Segment:
    text = "-" if rate is None else quantity(rate)
    return Segment(text, "dim" if not rate else "bad")
