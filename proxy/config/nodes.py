"""One file for several hosts: finds the node of this host, and chooses its values from tables keyed by node."""

import os
import socket
from collections.abc import Sequence
from typing import Any, Final

from proxy.config.diagnostics import Report, did_you_mean
from proxy.config.positions import Arr, Spot, Tab
from proxy.config.types import is_name

NAMED: Final = ("service", "probe", "vrrp", "sync-group", "notify")
"""The top-level tables whose keys are names chosen by the user."""


_NAMING: Final = "a node's name is a string of letters, digits, dots, hyphens and underscores"


def host_names() -> list[str]:
    """Return the full name and the short name of this host."""
    full = socket.gethostname()
    return [full, full.partition(".")[0]]


def read_nodes(tree: Tab, reserved: Sequence[str], report: Report) -> tuple[str, ...]:
    """Return the top-level `nodes`; a name that is also a key of the file would make tables ambiguous."""
    value = tree.get("nodes")
    if value is None:
        return ()
    if not isinstance(value, Arr):
        report.error(tree.spots["nodes"], 'nodes must be a list of names: ["lb1", "lb2"]')
        return ()
    names: list[str] = []
    for name, spot in zip(value, value.spots, strict=True):
        if not isinstance(name, str) or not is_name(name):
            report.error(spot, _NAMING)
        elif name in names:
            report.error(spot, f'"{name}" is in nodes twice')
        elif name in reserved:
            report.error(spot, f'"{name}" is a key of this file and cannot name a node')
        else:
            names.append(name)
    return tuple(names)


def this_node(tree: Tab, nodes: Sequence[str], told: str | None, report: Report) -> str | None:
    """Return the node of this process: `--node`, STEELYARD_NODE, [node] name or the host's name; None after reporting."""
    spot = tree.spots.get("nodes", tree.here)
    wanted = told or os.environ.get("STEELYARD_NODE")
    if wanted:
        said = f'{"--node" if told else "STEELYARD_NODE"} says "{wanted[:60]}"'
        if not is_name(wanted):
            report.error(spot, f"{said}, which is not a valid node name")
        elif nodes and wanted not in nodes:
            report.error(spot, f"{said}, which is not in nodes", did_you_mean(wanted, nodes))
        else:
            return wanted
        return None
    node = tree.get("node")
    if isinstance(node, Tab) and "name" in node:
        return _written_name(node["name"], node.spots["name"], nodes, report)
    candidates = host_names()
    if not nodes:
        return candidates[0] if is_name(candidates[0]) else "localhost"
    for name in candidates:
        if name in nodes:
            return name
    hint = did_you_mean(candidates[0], nodes) or "set the name of this node: --node, STEELYARD_NODE, or [node] name"
    report.error(spot, f'this host is called "{candidates[0]}", which is not in nodes', hint)
    return None


def _written_name(name: Any, spot: Spot, nodes: Sequence[str], report: Report) -> str | None:
    if not isinstance(name, str) or not is_name(name):
        report.error(spot, _NAMING)
    elif nodes and name not in nodes:
        report.error(spot, f'"{name}" is not in nodes', did_you_mean(name, nodes))
    else:
        return name
    return None


def choose(tree: Tab, nodes: Sequence[str], node: str, report: Report) -> Tab:
    """Return the tree as one node sees it: each table keyed by `nodes` replaced by that node's value."""
    chooser = _Chooser(nodes, node, report)
    chosen = Tab(tree.here)
    for key, value in tree.items():
        spot = tree.spots[key]
        if key in ("nodes", "include"):
            chosen.put(key, value, spot)
        elif key in NAMED and isinstance(value, Tab):
            inner = Tab(value.here)
            for name, table in value.items():
                inner.put(name, *chooser.value(table, value.spots[name]))
            chosen.put(key, inner, spot)
        else:
            chosen.put(key, *chooser.value(value, spot))
    return chosen


class _Chooser:
    """Walks a tree for one node."""

    def __init__(self, nodes: Sequence[str], node: str, report: Report) -> None:
        self.nodes = nodes
        self.node = node
        self.report = report

    def members(self, tab: Tab) -> Tab:
        """Return a table with a node's value for each member."""
        result = Tab(tab.here)
        for key, value in tab.items():
            spot = tab.spots[key]
            if key == "members":  # {node = address}: every node needs this table whole, although its keys are nodes
                result.put(key, value, spot)
            else:
                result.put(key, *self.value(value, spot))
        return result

    def value(self, value: Any, spot: Spot) -> tuple[Any, Spot]:
        """Return the node's value and its place."""
        if isinstance(value, Arr):
            array = Arr(value.here)
            for element, place in zip(value, value.spots, strict=True):
                array.put(*self.value(element, place))
            return array, spot
        if not isinstance(value, Tab):
            return value, spot
        keyed = [name for name in value if name in self.nodes]
        if not keyed:
            return self.members(value), spot
        for name in value:
            if name not in self.nodes:
                self.report.error(
                    value.spots[name],
                    f'"{name[:60]}" is not in nodes: every key of such a table is the name of a node',
                    did_you_mean(name, [other for other in self.nodes if other not in value]),
                    at="key",
                )
        missing = [name for name in self.nodes if name not in value]
        if missing:
            self.report.error(spot, f"no value for node {', '.join(missing)}: give every node a value")
        mine = self.node if self.node in value else keyed[0]
        inner, place = self.value(value[mine], value.spots[mine])
        return inner, Spot(spot.source, spot.key, place.value, spot.explicit)
