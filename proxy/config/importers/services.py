"""What all formats need to write a service: its backends with their probes, each as short as its neighbours allow [pure]."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.config.importers.draft import Draft, Part, Row, Rows, same
from proxy.config.importers.ledger import Ledger, Statement

PORTS: Final = {
    25: "smtp", 53: "dns", 80: "http", 110: "pop3", 143: "imap", 389: "ldap", 443: "https", 465: "smtps", 587: "submission",
    636: "ldaps", 993: "imaps", 995: "pop3s", 3306: "mysql", 5432: "pgsql", 6379: "redis",
}  # fmt: skip
"""Names of services that clients know by their port."""

EVERYBODY: Final = ["0.0.0.0/0", "::/0"]


@dataclass(frozen=True, slots=True)
class Server:
    """A backend's keys without its probes, where it comes from, and its probes; with none it is always up."""

    backend: dict[str, Any]
    statement: Statement
    probes: list[dict[str, Any]]

    @property
    def spare(self) -> bool:
        """Whether it stands by."""
        return bool(self.backend.get("backup") or self.backend.get("tier"))


def write_backends(draft: Draft, ledger: Ledger, part: Part, servers: Sequence[Server], statement: Statement) -> None:
    """Write backends and probes of a service: probes that all servers of the first tier share are the service's."""
    main = [one.probes for one in servers if not one.spare] or [one.probes for one in servers]
    shared = main[0] if main and same(main) else None
    if not any(main):
        ledger.remark(statement.place, statement.text, "no server is probed: all count as up", part)
    rows = Rows()
    taken: set[str] = set()
    hosts = Counter(one.backend["address"] for one in servers)
    for one in servers:
        backend = dict(one.backend)
        host = backend["address"]
        if hosts[host] > 1 and "port" in backend and "name" not in backend:
            backend = {"address": host, "name": f"{host}:{backend['port']}", **backend}
        if "name" in backend:
            backend["name"] = _unused(str(backend["name"]), taken)
        if one.probes != shared:
            backend["probe"] = inner_probe(one.probes)
        rows.append(Row(host if backend.keys() == {"address"} else backend, one.statement.place))
    part.set("backends", rows, statement.place)
    if shared is not None:
        write_probes(draft, part, shared, statement)


def _unused(name: str, taken: set[str]) -> str:
    """Return a name of a backend: visible ASCII characters without blanks and slashes, and no other one's."""
    name = re.sub(r"[^\x21-\x2e\x30-\x7e]+", "-", name)[:120]
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found


def inner_probe(probes: list[dict[str, Any]]) -> Any:
    """Return the value of `probe` inside a table."""
    found = probes or [{"type": "none"}]
    return found[0] if len(found) == 1 else found


def write_probes(draft: Draft, part: Part, probes: list[dict[str, Any]], statement: Statement) -> None:
    """Write the probes of a service: one as a table, several as rows."""
    if len(probes) > 1:
        part.set("probe", Rows(Row(probe, statement.place) for probe in probes), statement.place)
        return
    table = draft.part(*part.path, "probe", place=statement.place)
    for key, value in (probes[0] if probes else {"type": "none"}).items():
        table.set(key, value, statement.place)


def remove(draft: Draft, part: Part) -> None:
    """Remove a table and all below it."""
    for path in [path for path in draft.parts if path[: len(part.path)] == part.path]:
        del draft.parts[path]
