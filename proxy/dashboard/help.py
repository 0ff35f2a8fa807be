"""The page of help: keys, columns, signs [pure]."""

from typing import Final

from proxy.dashboard.text import Glyphs, Line, Segment, clipped, wrapped

KEYS: Final = (
    ("up, down, j, k", "select a row; PageUp, PageDown, Home and End go further"),
    ("Enter", "fold or unfold a service; open a backend: probes, latencies, who is connected"),
    ("Space", "fold or unfold the service of the row"),
    ("z", "fold all services, or unfold all"),
    ("/", "filter: every word must be in the name, address, state or reason; Enter keeps it, Esc ends it"),
    ("s", "sort: worst first, by name, rate, open, latency, errors"),
    ("t", "show only what is not simply up, or all"),
    ("e", "hide the events, or show them"),
    ("Esc", "back; without a page above it ends the filter"),
    ("q", "quit"),
)
ACTS: Final = (
    ("d", "drain: the backend gets no new clients"),
    ("m", "maint: the backend is taken out at once"),
    ("r", "ready: the backend may serve again"),
    ("w", "weight: another weight"),
    ("a", "add a backend to the service"),
    ("x", "remove the backend from its service"),
)
COLUMNS: Final = (
    ("STATE", "of a service, or what the probes of a backend say; words of an operator (drain, maint) come first"),
    ("USABLE, USE/WT", "of a service: backends that get new clients, of all; of a backend: its weight"),
    ("OPEN", "connections, UDP sessions and DNS queries that are open now"),
    ("RATE/s", "new connections (c/s), sessions (s/s) or queries (q/s) in the last second; the curve starts at zero"),
    ("P50ms, P99ms", "to connect, or to the answer (DNS), in the last minute; of a service: the median of its backends, and the worst p99"),
    ("ERR/s", "errors of a backend a second, over the last ten looks; of a service also the clients that it refused"),
    ("SINCE", "how long the backend has been in this state"),
    ("AGO", "how long ago its last probe ended"),
    ("LAST PROBE SAYS", "the reason of the last result; below the row where there is no room"),
)  # fmt: skip


def lines(cells: int, glyphs: Glyphs, *, writable: bool) -> list[Line]:
    """Return the page for a screen that is `cells` wide."""
    signs = (
        (glyphs.good, "up"), (glyphs.part, "degraded: some backends serve"), (glyphs.bad, "down, or a fault"),
        (glyphs.unknown, "unknown: no verdict yet, or not probed"),
        (glyphs.away, "in reserve; a router that is backup"), (glyphs.here, "a router that has the addresses"),
    )  # fmt: skip
    found: list[Line] = []
    found += _section("Keys", KEYS, cells, glyphs)
    if writable:
        found += _section("With --rw: each asks before it acts, and acts on this host alone", ACTS, cells, glyphs)
    else:
        found += [(Segment(" Without --rw nothing can be changed from here.", "dim"),), ()]
    found += _section("Columns", COLUMNS, cells, glyphs)
    found += _section("Signs", signs, cells, glyphs)
    return [clipped(line, cells, glyphs.cut) for line in found]


def _section(name: str, entries: tuple[tuple[str, str], ...], cells: int, glyphs: Glyphs) -> list[Line]:
    size = max(len(head) for head, _ in entries) + 2
    found: list[Line] = [(Segment(f" {name}", "title"),)]
    for head, text in entries:
        first, *rest = wrapped(text, max(10, cells - size - 4), 6, glyphs.cut)
        found.append((Segment(f"   {head:<{size}}", "bold"), Segment(first)))
        found += [(Segment(" " * (size + 3)), Segment(more)) for more in rest]
    return [*found, ()]
