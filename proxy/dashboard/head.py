"""The top of the picture: this host, what it counts, its routers, and what is wrong [pure]."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from proxy.dashboard.history import History
from proxy.dashboard.judging import SERVICE_RANKS, of_state, usable
from proxy.dashboard.table import MEDIUM
from proxy.dashboard.text import Glyphs, Line, Segment, Style, clipped, flow, length, quantity, segment, spread
from proxy.dashboard.times import hour, short
from proxy.status.schema import Status
from proxy.status.troubles import serving_workers, troubles
from proxy.words import counted

_STYLES: Final[Mapping[str, Style]] = {"warning": "warn", "error": "bad"}
_PRECISE: Final = 60
"""Seconds up to which the age of an advert has a digit behind the point."""
_INDENT: Final = 3
_LINES: Final = 2
"""Lines of routers and of troubles, each, that the smallest screen has; a taller one has more."""


def lines(status: Status, history: History, now: float, cells: int, room: int, glyphs: Glyphs) -> list[Line]:
    """Return the lines of the top, for a screen of `room` lines; `now` in Unix seconds."""
    most = max(_LINES, room // 8)
    return [
        _host(status, now, cells, glyphs),
        *flow(_sums(status, history, cells, glyphs), cells, _INDENT, glyphs.cut)[:_LINES],
        *_bounded([_router(row, glyphs) for row in status["vrrp"]], cells, most, "router", glyphs),
        *_bounded([[one] for one in _wrong(status, glyphs)], cells, most, "problem", glyphs),
    ]


def _host(status: Status, now: float, cells: int, glyphs: Glyphs) -> Line:
    own = serving_workers(status)
    alive = sum(worker["alive"] for worker in own)
    workers = f"{alive} of {counted(len(own), 'worker')}"
    sha256, generation = status["config"]["sha256"][:8], status["generation"]
    left = [
        segment(f" {status['node']}", "title"),
        segment(f"  steelyard {status['version']}, up {short(status['uptime_s'])}, "),
        segment(workers, "" if alive == len(own) else "bad"),
    ]
    time = [segment(hour(now, now)), Segment(" ")]
    for config in (f", configuration {sha256} (generation {generation})", f", configuration {sha256}"):
        if length(left) + len(config) + length(time) < cells:
            left.append(segment(config))
            break
    return spread(left, time, cells, glyphs.cut)


def _sums(status: Status, history: History, cells: int, glyphs: Glyphs) -> list[list[Segment]]:
    services = status["services"]
    states = Counter(service["state"] for service in services)
    known = [*SERVICE_RANKS[::-1], *(state for state in states if state not in SERVICE_RANKS)]
    chunk = [segment(f" {counted(len(services), 'service')}:" if cells >= MEDIUM else "")]
    for state in known:
        if states[state]:
            verdict = of_state(state, glyphs)
            chunk += [Segment(" "), segment(f"{verdict.sign} {states[state]} {state}", verdict.style)]
    total = sum(len(service["backends"]) for service in services)
    able = sum(map(usable, services))
    active = sum(one["active"] for service in services for one in service["backends"])
    rate = sum(one["rate"] for service in services for one in service["backends"])
    errors = [found for service in services if (found := history.errors(service["name"])) is not None]
    wrong = sum(errors)
    return [
        chunk if services else [segment(" no services")],
        [Segment(f"{able} of {counted(total, 'backend')} usable" if cells >= MEDIUM else f"{able}/{total} usable")],
        [Segment(f"{quantity(active)} open")],
        [Segment(f"{quantity(rate)}/s")],
        [Segment(f"{quantity(wrong)} errors/s", "bad" if wrong else "dim")] if errors else [],
    ]


def _router(row: Mapping[str, Any], glyphs: Glyphs) -> list[list[Segment]]:
    """Return a router's chunks: the host's own rows and those over HTTP have every key; no other is trusted to."""
    state = str(row.get("state"))
    verdict = of_state(state, glyphs)
    head = [segment(f" {row.get('name')} ", "title"), segment(f"{verdict.sign} {state}", verdict.style)]
    if row.get("standby"):
        head.append(Segment(", in standby", "warn"))
    change = row.get("last_change")
    why = str(change.get("reason") or "") if isinstance(change, Mapping) else ""
    bad = verdict.style in {"bad", "warn"} and why
    return [
        head,
        [segment(f"priority {_priority(row)}")],
        [_peer(row.get("peer"))],
        [segment(_addresses(row.get("addresses")), "dim")],
        [segment(why, verdict.style)] if bad else [],
    ]


def _priority(row: Mapping[str, Any]) -> str:
    """Return "150", or "90 = 150 -60 service dns": the priority with all that changes the configured one."""
    now, configured, parts = row.get("effective_priority"), row.get("priority"), row.get("priority_parts")
    if now is None:
        return f"{configured} configured, the present one is unknown"
    terms = (
        [f"{value:+} {name}" for name, value in parts.items() if isinstance(value, int)]
        if isinstance(parts, Mapping)
        else []
    )
    if not terms:
        return str(now) if now == configured else f"{now} of {configured}"
    return f"{now} = {configured} {', '.join(terms)}"


def _peer(peer: Any) -> Segment:
    if not isinstance(peer, Mapping):
        return Segment("no peer", "warn")
    age = peer.get("last_advert_s")
    ago = ""
    if isinstance(age, int | float):
        ago = f", {age:.1f}s ago" if age < _PRECISE else f", {short(age)} ago"
    return segment(f"peer {peer.get('node') or peer.get('address')} with {peer.get('priority')}{ago}")


def _addresses(addresses: Any) -> str:
    return " ".join(map(str, addresses)) if isinstance(addresses, list | tuple) else ""


def _wrong(status: Status, glyphs: Glyphs) -> list[list[Segment]]:
    found = [
        [segment(f" {glyphs.warning} {alarm['service']}: {alarm['text']}", "bad")] for alarm in status.get("alarms", [])
    ]
    return found + [[segment(f" {glyphs.warning} {text}", _STYLES[level])] for text, level in troubles(status)]


def _bounded(
    entries: Sequence[Sequence[Sequence[Segment]]], cells: int, most: int, what: str, glyphs: Glyphs
) -> list[Line]:
    """Return the lines of entries; if these have no room, as many entries as have it, and how many there are more."""
    shown: list[Line] = []
    for at, entry in enumerate(entries):
        more = flow(entry, cells, _INDENT, glyphs.cut)
        left = len(entries) - at
        if len(shown) + len(more) > most - (left > 1) and shown:
            return [*shown, clipped([Segment(f" and {counted(left, f'more {what}')}", "warn")], cells, glyphs.cut)]
        shown += more
    return shown
