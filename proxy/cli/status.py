"""`steelyard status`: what is up, what is not and why, for people and with --json for machines."""

import difflib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from proxy.cli.daemon import WrongUsageError, asked, colour, ending, print_json
from proxy.cli.grid import Cell, align, paint
from proxy.cli.source import is_url
from proxy.cli.status_detail import backend_lines, service_lines
from proxy.cli.status_routers import router_lines, routers_table
from proxy.cli.times import ago, moment, span
from proxy.control.wire import UnreachableError
from proxy.status.schema import BackendStatus, RouterStatus, ServiceStatus, Status, exit_status
from proxy.status.troubles import serving_workers, troubles
from proxy.words import printable

if TYPE_CHECKING:
    from proxy.dashboard.source import Source

_COLOURS: Final = {
    "up": "green", "degraded": "yellow", "reserve": "yellow", "unknown": "yellow", "down": "red", "stopping": "red",
}  # fmt: skip
_ORDINARY: Final = frozenset(
    {
        "accepted",
        "closed",
        "datagrams",
        "expired",
        "inflight",
        "queries",
        "replies",
        "sessions",
        "sessions_opened",
    }
)
"""Counters of a service at work; the others are worth a line when they are not zero."""

_HEADING: Final = ("backend", "state", "admin", "weight", "active", "queued", "rate", "p50", "p99", "since", "reason")
_RIGHT: Final = frozenset({"weight", "active", "queued", "rate", "p50", "p99"})
_LEVELS: Final = {"warning": "yellow", "error": "red"}
_NAMED: Final = 10  # names that an error lists


_PAUSE: Final = 2.0
"""Seconds between two looks of --watch."""
_CLEAR: Final = "\x1b[H\x1b[2J"


@click.command()
@click.argument("service", metavar="[SERVICE|VRRP]", required=False)
@click.argument("backend", required=False)
@click.option("--watch", "-w", is_flag=True, help="Show it again every 2 s, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="The whole status as one JSON document.")
@click.pass_context
def command(ctx: click.Context, *, service: str | None, backend: str | None, watch: bool, as_json: bool) -> None:
    """Show services and backends: states, reasons, traffic.  With names, all of one SERVICE, one BACKEND or one VRRP.

    Exits with 0 when all is up, 1 when something is degraded, 2 when a service refuses, 3 without a daemon.
    """
    url, service, backend = (service, backend, None) if is_url(service) else (None, service, backend)
    if watch and as_json:
        raise WrongUsageError("--watch is for people: leave --json out", ctx)
    if watch:
        _watch(ctx, asked(ctx, url), service, backend)
    with ending(ctx):
        status = asked(ctx, url).status()
    if as_json:
        print_json(selected(status, service, backend, ctx))
    else:
        click.echo("\n".join(_lines(status, service, backend, ctx)), color=True)
    ctx.exit(exit_status(status))


def _watch(ctx: click.Context, source: "Source", service: str | None, backend: str | None) -> None:
    """Show the status again and again; a daemon that is away is told, and may come back."""
    import sys

    clear = _CLEAR if sys.stdout.isatty() else ""
    try:
        while True:
            try:
                lines = _lines(source.status(), service, backend, ctx)
            except UnreachableError as error:
                lines = [paint(f"{error}: trying again", "red", coloured=colour())]
            click.echo(clear + "\n".join(lines), color=True)
            sys.stdout.flush()
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        ctx.exit(0)


def _lines(status: Status, service: str | None, backend: str | None, ctx: click.Context) -> list[str]:
    import shutil
    import sys

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    now, coloured = time.time(), colour()
    if service is None:
        return render(status, now, coloured=coloured, width=width)
    router = _router(status, service, backend)
    if router is not None:
        return [
            *routers_table([router], now, coloured=coloured, width=width),
            *router_lines(router, now, coloured=coloured, width=width),
        ]
    found = _named(service, status["services"], "service", ctx)
    if backend is None:
        below = service_lines(found, coloured=coloured, width=width)
        return [*_service(found, now, coloured=coloured, width=width, counters=False), *below]
    one = _named(backend, found["backends"], f"backend of {service}", ctx)
    return [_head(found, coloured=coloured), *backend_lines(one, now, coloured=coloured, width=width)]


def selected(status: Status, service: str | None, backend: str | None, ctx: click.Context) -> Status:
    """Return the status with only this service, and of it only this backend; an unknown name ends the command.

    The name may also be that of a router.
    """
    if service is None:
        return status
    router = _router(status, service, backend)
    if router is not None:
        return {**status, "services": [], "vrrp": [router]}
    found = _named(service, status["services"], "service", ctx)
    if backend is not None:
        found = {**found, "backends": [_named(backend, found["backends"], f"backend of {service}", ctx)]}
    return {**status, "services": [found]}


def _router(status: Status, name: str, backend: str | None) -> RouterStatus | None:
    """Return the router of this name, None if a service has the name or a backend is asked for."""
    if backend is not None or name in {one["name"] for one in status["services"]}:
        return None
    return next((one for one in status["vrrp"] if one["name"] == name), None)


def _named(name: str, rows: Sequence[Any], what: str, ctx: click.Context) -> Any:
    for row in rows:
        if name in {row["name"], row.get("address")}:
            return row
    names = [row["name"] for row in rows]
    close = difflib.get_close_matches(name, names, 1)
    hint = f'; did you mean "{close[0]}"?' if close else f": there are {', '.join(names[:_NAMED])}" if names else ""
    raise WrongUsageError(f'there is no {what} "{name}"{hint}', ctx)


def render(status: Status, now: float, *, coloured: bool = False, width: int | None = None) -> list[str]:
    """Return the lines that a person reads; `now` in Unix seconds, `width` in characters (None: no bound)."""
    own = serving_workers(status)
    alive = sum(worker["alive"] for worker in own)
    head = (
        f"steelyard {status['version']}, running for {span(status['uptime_s'])}, {alive} of {len(own)} "
        f"workers, configuration {status['config']['sha256'][:8]} (generation {status['generation']})"
    )
    node = printable(status["node"])
    first, *rest = _remark(f"{node}  {head}", "", coloured, width)
    lines = [paint(node, "bold", coloured=coloured) + first.removeprefix(node), *rest]
    for text, level in troubles(status):
        lines += _remark(text, _LEVELS[level], coloured, width)
    for alarm in status.get("alarms", []):
        text = f"alarm {alarm['service']}: {alarm['text']}, since {moment(alarm['since'])} ({ago(alarm['since'], now)})"
        lines += _remark(text, "red", coloured, width)
    for told in status.get("notify", []):
        counts = {"failed": told["failed"], "dropped": told["dropped"], "waiting": told["waiting"]}
        trouble = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        if trouble:
            text = f"notify {told['name']}: {trouble} (steelyard events --kind notify)"
            lines += _remark(text, "yellow", coloured, width)
    for service in status["services"]:
        lines += ["", *_service(service, now, coloured=coloured, width=width)]
    if status["vrrp"]:
        lines += ["", *routers_table(status["vrrp"], now, coloured=coloured, width=width)]
    return lines


def _remark(text: str, colour_: str, coloured: bool, width: int | None) -> list[str]:
    """Return a line about the whole daemon, which goes on below itself where it is too long."""
    from textwrap import wrap

    lines = [text] if width is None else wrap(printable(text), width, subsequent_indent="  ")
    return [paint(line, colour_, coloured=coloured) for line in lines]


def _service(
    service: ServiceStatus, now: float, *, coloured: bool, width: int | None, counters: bool = True
) -> list[str]:
    lines = [_head(service, coloured=coloured)]
    rows = [[Cell(name.upper(), "dim", name in _RIGHT) for name in _HEADING]]
    rows += [_backend(backend, now) for backend in service["backends"]]
    lines += align(rows, coloured=coloured, width=width, indent="  ")
    trouble = [f"{name} {count}" for name, count in service["counters"].items() if count and name not in _ORDINARY]
    if trouble and counters:
        lines.append(paint(f"  counted: {', '.join(trouble)}", "dim", coloured=coloured))
    return lines


def _head(service: ServiceStatus, *, coloured: bool) -> str:
    usable = sum(backend["effective_weight"] > 0 for backend in service["backends"])
    told = f"{usable} of {len(service['backends'])} usable, {service['scheduler']}, on {' '.join(service['listen'])}"
    return "  ".join(
        (
            paint(service["name"], "bold", coloured=coloured),
            paint(service["state"], _COLOURS.get(service["state"], ""), coloured=coloured),
            paint(told, "", coloured=coloured),
        )
    )


def _backend(backend: BackendStatus, now: float) -> list[Cell]:
    admin = "" if backend["admin"] == "ready" else backend["admin"]
    reason = backend["reason"]
    if admin and (backend["admin_by"] or backend["admin_reason"]):
        why = f": {backend['admin_reason']}" if backend["admin_reason"] else ""
        reason = f"{reason} ({admin} by {backend['admin_by'] or 'unknown'}{why})"
    if peer := _peer(backend, now):
        reason = f"{reason} ({peer})"
    errors = ", ".join(f"{name} {count}" for name, count in backend["errors"].items() if count)
    texts = {
        "backend": backend["name"],
        "state": backend["state"],
        "admin": admin,
        "weight": _weight(backend),
        "active": str(backend["active"]),
        "queued": str(backend["queued"] or ""),
        "rate": f"{_number(backend['rate'])}/s",
        "p50": _milliseconds(backend["latency_ms"]["p50"]),
        "p99": _milliseconds(backend["latency_ms"]["p99"]),
        "since": ago(backend["since"], now),
        "reason": f"{reason}; {errors}" if errors else reason,
    }
    colours = {"state": _COLOURS.get(backend["state"], ""), "admin": "yellow"}
    return [Cell(texts[name], colours.get(name, ""), name in _RIGHT) for name in _HEADING]


def _peer(backend: BackendStatus, now: float) -> str:
    """Return the other host's verdict where it differs from ours, "" where it does not."""
    peer = backend.get("peer")
    if peer is None or peer["stale"] or peer["state"] == backend["state"]:
        return ""
    since = "" if peer["since"] is None else f" for {ago(peer['since'], now)}"
    return f"{peer['node']}: {peer['state']}{since}: {peer['reason']}"


def _weight(backend: BackendStatus) -> str:
    """Return the weight that counts now, and the configured one where a slow start or the like lowers it."""
    weight, effective = backend["weight"], backend["effective_weight"]
    return str(weight) if effective in {0, weight} else f"{effective} of {weight}"


def _number(value: float) -> str:
    return f"{value:.1f}" if 0 < value < 10 else f"{value:.0f}"  # noqa: PLR2004 - two digits


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"  # noqa: PLR2004
