"""The virtual routers in the status: what each is, why its priority is lower, and its counters."""

from collections.abc import Sequence
from typing import Final

from proxy.cli.grid import Cell, align
from proxy.cli.times import ago, moment
from proxy.stats.meanings import VRRP
from proxy.status.schema import RouterStatus

_CONFIGURED: Final = "configured"
"""The part of a priority that the file sets."""
_COLOURS: Final = {"active": "green", "fault": "red", "init": "yellow"}


def routers_table(routers: Sequence[RouterStatus], now: float, *, coloured: bool, width: int | None) -> list[str]:
    """Return a row for each router; `now` in Unix seconds."""
    rows = [[Cell(name.upper(), "dim") for name in ("vrrp", "state", "priority", "since", "addresses", "reason")]]
    for router in routers:
        state = router["state"]
        shown = f"{state}, standby" if router["standby"] else state
        rows.append(
            [
                Cell(router["name"]),
                Cell(shown, "yellow" if router["standby"] and state != "fault" else _COLOURS.get(state, "")),
                Cell(_priority(router)),
                Cell(ago(router["since"], now)),
                Cell(" ".join(router["addresses"])),
                Cell("; ".join(_reasons(router, now))),
            ]
        )
    return align(rows, coloured=coloured, width=width)


def _priority(router: RouterStatus) -> str:
    effective, priority = router["effective_priority"], router["priority"]
    return str(priority) if effective == priority else f"{'?' if effective is None else effective} of {priority}"


def _parts(router: RouterStatus) -> str:
    return ", ".join(
        f"{name} {points:+d}" for name, points in router["priority_parts"].items() if points and name != _CONFIGURED
    )


def _reasons(router: RouterStatus, now: float) -> list[str]:
    """Return why the router is in its state, in standby, and below its priority."""
    change, found = router["last_change"], []
    if change is not None:
        found.append(change["reason"])
    if router["standby"]:
        found.append(f"in standby until `steelyard resume`: {_standby(router, now)}")
    if parts := _parts(router):
        found.append(f"priority {router['priority']} with {parts}")
    return found


def _standby(router: RouterStatus, now: float) -> str:
    why, since = router.get("standby_reason") or "unknown", router.get("standby_since")
    return why if since is None else f"{why}, {ago(since, now)} ago"


def router_lines(router: RouterStatus, now: float, *, coloured: bool, width: int | None) -> list[str]:
    """Return what `status VRRP` shows below the row: peer, priority, standby and counters with their meaning."""
    peer, change = router["peer"], router["last_change"]
    facts = [
        ("since", f"{moment(router['since'])}, {ago(router['since'], now)} ago" if router["since"] else "unknown"),
        ("from", "" if change is None else f"{change['from']} at {moment(change['at'])}: {change['reason']}"),
        ("priority", f"{_priority(router)}" + (f": {_parts(router)}" if _parts(router) else "")),
        ("standby", _standby(router, now) if router["standby"] else "no"),
        (
            "peer",
            "no advert was received yet"
            if peer is None
            else f"{peer['node'] or peer['address']}, priority {peer['priority']}, last advert {peer['last_advert_s']:.1f} s ago",
        ),
    ]
    table = [[Cell(name, "dim"), Cell(text)] for name, text in facts if text]
    counts = [
        [Cell(name), Cell(str(count), right=True), Cell(VRRP.get(name, ""), "dim")]
        for name, count in router.get("counters", {}).items()
        if count
    ]
    return [
        "",
        *align(table, coloured=coloured, width=width, indent="  ", headed=False),
        "",
        *align(counts, coloured=coloured, width=width, indent="  ", headed=False),
    ]
