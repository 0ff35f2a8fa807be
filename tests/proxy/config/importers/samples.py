"""How much of keepalived's samples is carried over: `python -m tests.proxy.config.importers.samples [FOLDER]` prints a table.

The samples are those that Debian's package of keepalived installs.  A directive is a word of keepalived's language, not an
element of a list such as an address.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from proxy.config.importers.convert import convert
from proxy.config.importers.keepalived_lines import Lines
from proxy.config.importers.ledger import Ledger
from tests.proxy.config.importers.bed import judge

SAMPLES = Path("/usr/share/doc/keepalived/samples")
IDENTITIES = ("", "high", "low")
"""The configuration ids that the samples use."""
_LISTS = frozenset(
    ("virtual_ipaddress", "virtual_routes", "virtual_rules", "static_routes", "static_rules", "static_ipaddress",
     "notification_email", "track_interface", "track_script", "group", "virtual_server_group")
)  # fmt: skip


@dataclass(frozen=True)
class Share:
    """The directives of a file, and those that are not carried over, by name."""

    name: str
    total: int
    left: tuple[str, ...]

    @property
    def row(self):
        """The line of the table."""
        kept = self.total - len(self.left)
        return f"{self.name:40} {self.total:10} {kept:12} {100 * kept / max(self.total, 1):6.1f} %"


def directives(statements):
    """Yield the statements that are words of keepalived's language, not the elements of a list such as addresses."""
    for each in statements:
        yield each
        if each.name not in _LISTS:
            yield from directives(each.inner)


def measure(path):
    """Return what of a file is carried over."""
    text = path.read_text()
    _, ledger = convert("keepalived", [(str(path), text)], lambda _: [], judge)
    names = {
        (each.place, each.name)
        for identity in IDENTITIES
        for each in directives(Lines(lambda _: [], Ledger(), identity).statements(str(path), text))
    }
    found = [(name, outcome) for place, name, outcome in ledger.outcomes() if (place, name) in names]
    return Share(path.name, len(found), tuple(name for name, outcome in found if outcome == "left"))


def shares(folder=SAMPLES):
    """Return the share of each sample, and of all together as the last."""
    found = [measure(path) for path in sorted(folder.glob("keepalived.conf.*"))]
    left = tuple(name for one in found for name in one.left)
    return [*found, Share(f"{len(found)} files", sum(one.total for one in found), left)]


def table(found):
    """Return the lines that a person reads."""
    head = f"{'file':40} {'directives':>10} {'carried over':>12} {'share':>8}"
    words = sorted(set(found[-1].left), key=lambda word: (-found[-1].left.count(word), word))
    left = ", ".join(f"{word} {found[-1].left.count(word)}" for word in words)
    return [head, *(one.row for one in found), f"not carried over: {left}"]


if __name__ == "__main__":
    print("\n".join(table(shares(*map(Path, sys.argv[1:2])))))
