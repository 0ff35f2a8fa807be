"""The tables of a file that is being written: keys, values, the places they come from, and comments between them [pure]."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.config.importers.lexer import Place
from proxy.words import printable

MISSING: Final = object()

DEFAULTS: Final[dict[str, Any]] = {
    "addresses": [],
    "advert-interval": "1s",
    "preempt": True,
    "preempt-delay": "0s",
    "priority": 100,
    "start-delay": "0s",
    "track": [],
    "version": 3,
    "virtual-mac": False,
    "weight": 1,
}
"""Values of keys that one host's file has and another's does not."""


@dataclass(slots=True)
class Row:
    """One element of a list that has a line of its own."""

    value: Any
    place: Place | None = None


class Rows(list[Row]):
    """A list whose elements have a line each."""

    @property
    def values(self) -> list[Any]:
        """The elements alone."""
        return [row.value for row in self]


@dataclass(slots=True)
class Setting:
    """A key with its value."""

    key: str
    value: Any
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What a reader of the printed file has to know about one statement of the other program's file."""

    place: Place
    what: str
    why: str
    left: bool

    def __str__(self) -> str:
        """Return "file:line: statement: not carried over: why"."""
        return printable(f"{self.place}: {self.what}: {self.verdict}{self.why}")

    @property
    def verdict(self) -> str:
        """The words between the statement and the reason."""
        return "not carried over: " if self.left else ""


@dataclass(slots=True)
class Remark:
    """A comment: of its own, or a note."""

    text: str
    note: Note | None = None


@dataclass(slots=True)
class Part:
    """One table of the file."""

    path: tuple[str, ...]
    place: Place | None = None
    items: list[Setting | Remark] = field(default_factory=list)

    def set(self, key: str, value: Any, place: Place | None = None) -> None:
        """Set a key; a second value replaces the first one."""
        for item in self.settings():
            if item.key == key:
                item.value, item.place = value, place
                return
        self.items.append(Setting(key, value, place))

    def get(self, key: str, otherwise: Any = None) -> Any:
        """Return the value of a key."""
        return next((item.value for item in self.settings() if item.key == key), otherwise)

    def drop(self, key: str) -> None:
        """Remove a key."""
        self.items = [item for item in self.items if not (isinstance(item, Setting) and item.key == key)]

    def rows(self, key: str) -> Rows:
        """Return the list of rows of a key, which is made if there is none."""
        found = self.get(key)
        if not isinstance(found, Rows):
            found = Rows()
            self.set(key, found)
        return found

    def remark(self, told: str | Note) -> None:
        """Add a comment, once: a note stands before the key that its statement has set, if there is one."""
        note = told if isinstance(told, Note) else None
        remark = Remark(str(told), note)
        if remark in self.items:
            return
        at = len(self.items)
        if note is not None:
            places = [item.place if isinstance(item, Setting) else None for item in self.items]
            at = places.index(note.place) if note.place in places else at
        self.items.insert(at, remark)

    def settings(self) -> Iterator[Setting]:
        """Yield the keys with their values."""
        return (item for item in self.items if isinstance(item, Setting))


@dataclass
class Draft:
    """All tables of the file by path, in order; the path of the top is ()."""

    parts: dict[tuple[str, ...], Part] = field(default_factory=dict)

    def part(self, *path: str, place: Place | None = None) -> Part:
        """Return the table at a path, which is made if there is none."""
        return self.parts.setdefault(path, Part(path, place))

    def below(self, *path: str) -> list[Part]:
        """Return the tables directly below a path."""
        return [part for part in self.parts.values() if part.path[:-1] == path and part.path]

    def move(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Give a table and all below it another path."""
        moved: dict[tuple[str, ...], Part] = {}
        for path, part in self.parts.items():
            if path[: len(old)] == old:
                part.path = (*new, *path[len(old) :])
            moved[part.path] = part
        self.parts = moved

    def unused(self, section: str, name: str) -> str:
        """Return a name that no table of a section has yet: the wanted one, else one with a number."""
        name = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "-" for char in name)
        name = name.lstrip(".-")[:56] or section
        if name.replace(".", "").isdigit():
            name = f"{section}-{name}"  # `listen` could not tell it from an address
        number, found = 1, name
        while (section, found) in self.parts:
            number += 1
            found = f"{name}-{number}"
        return found


def _plain(value: Any) -> Any:
    return value.values if isinstance(value, Rows) else value


def by_node(drafts: Mapping[str, Draft]) -> Draft:
    """Return one draft for all nodes: values that differ become tables keyed by node."""
    merged = Draft()
    paths = list(dict.fromkeys(path for draft in drafts.values() for path in draft.parts))
    for path in paths:
        parts = {node: draft.parts[path] for node, draft in drafts.items() if path in draft.parts}
        first = next(iter(parts.values()))
        whole = merged.part(*path, place=first.place)
        if len(parts) < len(drafts):
            whole.remark(f"only in the file of {', '.join(parts)}: here it is for every node")
        _merge(whole, parts)
    return merged


def _merge(whole: Part, parts: Mapping[str, Part]) -> None:
    for part in parts.values():
        for item in part.items:
            if isinstance(item, Remark):
                whole.remark(item.note or item.text)
            elif whole.get(item.key, MISSING) is MISSING:
                whole.set(item.key, *_merged(item, parts))


def _merged(item: Setting, parts: Mapping[str, Part]) -> tuple[Any, Place | None]:
    values = {node: part.get(item.key, DEFAULTS.get(item.key, item.value)) for node, part in parts.items()}
    if item.key == "members":  # keyed by node already: each file knows the addresses of all
        return {node: address for value in values.values() for node, address in value.items()}, item.place
    if all(_plain(value) == _plain(item.value) for value in values.values()):
        return item.value, item.place
    return {node: _plain(value) for node, value in values.items()}, item.place


def same(values: Sequence[Any]) -> bool:
    """Return True if all values are equal."""
    return all(value == values[0] for value in values)
