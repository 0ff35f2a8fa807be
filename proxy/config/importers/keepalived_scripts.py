"""keepalived's scripts: those that are tracked become probes, those that are told of states notifications [pure]."""

import re
from collections.abc import Sequence
from typing import Final

from health.units import parse_duration
from proxy.config.importers.draft import Draft, Part
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement, first
from proxy.config.importers.values import address, command, decimal, duration, is_address, number

NOTIFY: Final = {
    "notify": [],
    "notify_master": ["active"],
    "notify_backup": ["backup"],
    "notify_fault": ["fault"],
    "notify_stop": ["stop"],
}
"""The words of notify scripts, and the states that each is told of."""

SERVED: Final = {
    "quorum_up": "serving",
    "quorum_down": "refusing",
    "notify_up": "up",
    "notify_down": "down",
}
"""The same of virtual servers and of real servers."""

_UNPRIVILEGED: Final = "runs as the daemon's user without privileges (no sudo, no ip, no systemctl), and gets {}"
UNPRIVILEGED: Final = _UNPRIVILEGED.format("INSTANCE|GROUP, name, state and priority as its last arguments")
_OF_SERVERS: Final = _UNPRIVILEGED.format("SERVICE|BACKEND, name, state, number and reason as its last arguments")
_LEFT: Final = {
    "user": "scripts run as node.user, the user of all probes",
    "reverse": "the exit status is not reversed",
}
_PING: Final = re.compile(
    r"(?:/\S*/)?ping6?(?:\s+-\w+(?:\s+[0-9.]+(?=\s))?)*\s+(\S+)(?:\s*&?>\s*/dev/null(?:\s+2>&1)?)?"
)


def script_probe(statement: Statement, draft: Draft, ledger: Ledger) -> tuple[str, int | None]:
    """Write a vrrp_script as a named probe; return the probe's name and the script's weight.

    Raises `LeftError` for a script that nothing can run.
    """
    probe = draft.part("probe", draft.unused("probe", first(statement)), place=statement.place)
    probe.set("type", "script", statement.place)
    weight: list[int] = []
    handlers: dict[str, Handler] = {
        "script": lambda each: _command(each, probe, ledger),
        "interval": lambda each: probe.set("interval", duration(decimal(first(each))), each.place),
        "timeout": lambda each: probe.set("timeout", duration(decimal(first(each))), each.place),
        "rise": lambda each: probe.set("rise", number(first(each), 1, 1000), each.place),
        "fall": lambda each: probe.set("fall", number(first(each), 1, 1000), each.place),
        "weight": lambda each: weight.append(weight_of(each.args)),
    }
    for key, value in (("interval", "1s"), ("rise", 1), ("fall", 1)):
        probe.set(key, value)
    ledger.read(statement.inner, handlers, part=probe, always={"init_fail"}, left=_LEFT)
    if probe.get("type") == "script" and probe.get("command") is None:
        del draft.parts[probe.path]
        raise LeftError("it has no script")
    interval = probe.get("interval")
    probe.set("down-interval", interval)
    if parse_duration(probe.get("timeout", interval)) > parse_duration(interval):
        inner = next((each for each in statement.inner if each.name == "timeout"), statement)
        ledger.changed(inner, "a probe's timeout is at most its interval: probes never overlap", probe)
        probe.set("timeout", interval)
    probe.set("timeout", probe.get("timeout", interval))
    return probe.path[1], weight[-1] if weight else None


def _command(statement: Statement, probe: Part, ledger: Ledger) -> None:
    """Set what a script does: most is run, a connection and a ping are asked by probes of their own types."""
    text = " ".join(statement.args) if len(statement.args) > 1 else first(statement)
    device = re.fullmatch(r"\s*<\s*/dev/tcp/([^/\s]+)/([0-9]+)\s*", text)
    asked = _PING.fullmatch(text.strip())
    if device:
        probe.set("type", "tcp", statement.place)
        probe.set("address", address("127.0.0.1" if device[1] == "localhost" else device[1]), statement.place)
        probe.set("port", number(device[2], 1, 65535), statement.place)
    elif asked and is_address(asked[1]):
        probe.set("type", "ping", statement.place)
        probe.set("address", address(asked[1]), statement.place)
        why = "a ping probe asks the same; ping(8) itself may lack the right to, in a program without privileges"
        ledger.changed(statement, why, probe)
    else:
        words = command(text)
        probe.set("command", words, statement.place)
        if "pgrep" in words[0] and "pgrep" not in text:
            why = "a program without privileges may not signal others: pgrep looks for the name instead"
            ledger.changed(statement, why, probe)


def notifiers(name: str, draft: Draft, ledger: Ledger) -> dict[str, Handler]:
    """Return the handlers of the notify scripts of a router or a group."""
    return dict.fromkeys(NOTIFY, lambda each: _notify(each, name, draft, ledger))


def _notify(statement: Statement, name: str, draft: Draft, ledger: Ledger) -> None:
    text, states = first(statement), NOTIFY[statement.name]
    told = draft.part("notify", draft.unused("notify", f"{name}-{states[0] if states else 'all'}"))
    told.place = statement.place
    told.set("on", [name])
    if states:
        told.set("to", list(states))
    told.set("command", command(text, exact=True), statement.place)
    ledger.changed(statement, UNPRIVILEGED, told)


def served_notify(statement: Statement, name: str, draft: Draft, ledger: Ledger) -> None:
    """Write a script of a virtual server, or of a real server whose `name` is SERVICE/BACKEND, as a notification."""
    state = SERVED[statement.name]
    words = command(first(statement), exact=True)
    told = draft.part("notify", draft.unused("notify", f"{name.replace('/', '-')}-{state}"))
    told.place = statement.place
    told.set("on", [name])
    told.set("to", [state])
    told.set("command", words, statement.place)
    ledger.changed(statement, _OF_SERVERS, told)


def weight_of(args: Sequence[str]) -> int:
    """Return the weight of a script or an interface: 0 means that a failure is a fault."""
    return number(args[0], -254, 254) if args else 0
