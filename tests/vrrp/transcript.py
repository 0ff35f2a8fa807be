"""Transcripts: recorded input and expected output of routers, in one file, reviewed as a diff.

    # a comment
    router NAME key=value ...      one or more begin a section: a group of fresh routers
    > TIME [NAME] Event ...        input: TIME in seconds, or `deadline`; NAME, or all routers of the group
      command                      expected output, with the router's name where the group has several
      = state at TIME, next DEADLINE, priority EFFECTIVE

`pytest tests/vrrp --regenerate` writes the output anew from the input.
"""

import dataclasses
from ipaddress import ip_address
from pathlib import Path

from vrrp import events as ev
from vrrp.group import Group
from vrrp.packet import Advert
from vrrp.router import Router

DIRECTORY = Path(__file__).parent / "transcripts"
VIRTUAL = {4: "198.51.100.10", 6: "2001:db8::10"}
SOURCE = {4: "192.0.2.1", 6: "fe80::1"}
SIMPLE = {
    event.__name__: event
    for event in (ev.Tick, ev.LinkDown, ev.LinkUp, ev.LeaseRefreshed, ev.LeaseLost, ev.Resume, ev.FirstVerdicts)
}


def configuration(words: list[str]) -> ev.RouterConfig:
    """The configuration of a `router` line."""
    name, *pairs = words
    given = dict(pair.split("=") for pair in pairs)
    family = int(given.pop("family", 4))
    fields: dict = {"name": name, "vrid": 51, "lease": 1e9}
    addresses = given.pop("addresses", VIRTUAL[family]).split(",")
    fields["addresses"] = tuple(ip_address(one) for one in addresses)
    source = given.pop("source", SOURCE[family])
    fields["source"] = None if source == "none" else ip_address(source)
    if "peers" in given:
        fields["peers"] = frozenset(ip_address(one) for one in given.pop("peers").split(","))
    kinds = {field.name: field.type for field in dataclasses.fields(ev.RouterConfig)}
    for key, text in given.items():
        fields[key] = {bool: text == "true", float: None, int: None}.get(kinds[key])
        if fields[key] is None:
            fields[key] = (float if kinds[key] is float else int)(text)
    return ev.RouterConfig(**fields)


def event_of(words: list[str], router: Router) -> ev.Event:  # noqa: C901, PLR0911, PLR0912 - one line an event
    """The event of a `>` line."""
    kind, *rest = words
    pairs = dict(word.split("=", 1) for word in rest if "=" in word)
    text = " ".join(word for word in rest if "=" not in word)
    if kind in SIMPLE:
        return SIMPLE[kind]()
    match kind:
        case "Startup":
            return ev.Startup(pairs.get("adopt"), float(pairs.get("refreshed", 0)))
        case "Shutdown":
            return ev.Shutdown(at_once="at_once" in pairs)
        case "Standby":
            return ev.Standby(if_taken="if_taken" in pairs)
        case "Advert":
            config = router.config
            listed = pairs.get("addresses", ",".join(map(str, config.addresses))).split(",")
            advert = Advert(
                int(pairs.get("version", config.version)),
                int(pairs.get("vrid", config.vrid)),
                int(pairs["priority"]),
                tuple(ip_address(one) for one in listed),
                float(pairs.get("interval", 1)),
            )
            return ev.AdvertReceived(advert, ip_address(text))
        case "PriorityChanged":
            return ev.PriorityChanged(tuple((name, int(amount)) for name, amount in pairs.items()))
        case "Fault":
            return ev.Fault(text)
        case "FaultCleared":
            return ev.FaultCleared(text)
        case "SourceChanged":
            return ev.SourceChanged(None if text == "none" else ip_address(text))
        case "AddressRemoved":
            return ev.AddressRemoved(ip_address(text))
        case "Conflict":
            return ev.Conflict(router.config.addresses[0], text)
        case "MasterLost":
            return ev.MasterLost()
        case "MasterBack":
            return ev.MasterBack()
        case "GroupPriority":
            return ev.GroupPriority(int(text))
        case "GroupYield":
            return ev.GroupYield(text)
        case "Reconfigured":
            return ev.Reconfigured(configuration([router.config.name, *rest]))
        case "Regrouped":
            return ev.Regrouped(grouped="grouped" in rest, leader="leader" in rest)
    raise ValueError(f"no such event: {kind}")


def words_of(command: ev.Command) -> str:  # noqa: PLR0911 - one line a command
    """A command as a line."""
    match command:
        case ev.SendAdvert(priority):
            return f"send priority {priority}"
        case ev.InstallAddresses(addresses):
            return f"install {' '.join(map(str, addresses))}"
        case ev.RemoveAddresses(addresses):
            return f"remove {' '.join(map(str, addresses))}"
        case ev.DropAddresses(addresses):
            return f"drop {' '.join(map(str, addresses))}"
        case ev.Announce(addresses, count):
            return f"announce {' '.join(map(str, addresses))} x{count}"
        case ev.ResetConnections(addresses, grace):
            return f"reset {' '.join(map(str, addresses))} within {grace:g}"
        case ev.Notify(state, previous, reason):
            return f"notify {previous} -> {state}: {reason}"
        case ev.Count(name):
            return f"count {name}"
        case ev.Tell(text):
            return f"tell {text}"


class Player:
    """Plays a transcript's input, and notes which pairs of state and event came up."""

    def __init__(self) -> None:
        self.group: Group | None = None
        self.configs: list[ev.RouterConfig] = []
        self.seen: set[tuple[str, type]] = set()

    def play(self, text: str) -> str:
        """The transcript with the output that its input gives now."""
        lines = []
        for line in text.splitlines():
            if line.startswith("  "):
                continue
            lines.append(line)
            if line.startswith("router "):
                if self.group is not None:
                    self.group, self.configs = None, []
                self.configs.append(configuration(line.split()[1:]))
            elif line.startswith("> "):
                lines += self._step(line.split()[1:])
        return "\n".join(lines) + "\n"

    def _step(self, words: list[str]) -> list[str]:
        group = self.group = self.group or Group(self.configs, 0.0)
        at, *rest = words
        now = group.deadline if at == "deadline" else float(at)
        one = next((router for router in group.routers if router.config.name == rest[0]), None)
        self._watch(group)
        if one is not None:
            done = group.handle(one, event_of(rest[1:], one), now)
        else:
            done = group.handle_all(event_of(rest, group.routers[0]), now)
        several = len(group.routers) > 1
        lines = [f"  {router.config.name + ' ' if several else ''}{words_of(command)}" for router, command in done]
        for router in group.routers:
            name = router.config.name + " " if several else ""
            due = "never" if router.deadline is None else f"{router.deadline:.9g}"
            lines.append(f"  = {name}{router.state} at {now:.9g}, next {due}, priority {router.effective_priority}")
        return lines

    def _watch(self, group: Group) -> None:
        """Note the pairs that the routers are about to handle, those that the group makes included."""
        for router in group.routers:
            router.TABLE = {
                state: {kind: self._noting(state, kind, handler) for kind, handler in row.items()}
                for state, row in Router.TABLE.items()
            }

    def _noting(self, state, kind, handler):
        def note(*arguments):
            self.seen.add((state, kind))
            return handler(*arguments)

        return note
