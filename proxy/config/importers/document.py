"""Prints a draft as a file with its comments, and takes out of it what `check` refuses [pure]."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from posixpath import basename
from typing import Any, Final

from proxy.config.diagnostics import Diagnostic
from proxy.config.importers.draft import MISSING, Draft, Note, Part, Remark, Row, Rows, Setting
from proxy.config.importers.ledger import Ledger
from proxy.config.importers.lexer import Place
from proxy.config.toml_text import key_text, value_text
from proxy.words import printable

Judge = Callable[[str], list[Diagnostic]]
"""Returns the errors and warnings of the text of a whole file."""

_WIDTH: Final = 110
_ROUNDS: Final = 200
_ORDER: Final = ("node", "log", "defaults", "vrrp", "sync-group", "notify", "probe", "service")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the printed file, and what of the draft stands on it."""

    text: str
    part: Part | None = None
    setting: Setting | None = None
    element: Any = MISSING


def inline(key: str, value: Any) -> str:
    """Return a value in one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key_text(each)} = {inline(each, item)}' for each, item in value.items())} }}"
    if isinstance(value, Rows):
        value = value.values
    if isinstance(value, list):
        return f"[{', '.join(inline('', item) for item in value)}]"
    return value_text(key, value)


def comment(text: str) -> Iterator[str]:
    """Yield the lines of a comment."""
    yield from textwrap.wrap(
        printable(text), _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False
    ) or ["#"]


def lines(draft: Draft, head: Iterable[str] = (), *, spread: bool = False) -> Iterator[Line]:
    """Yield the lines of the file: the head, the top, then the tables, each after the one that it belongs to.

    With `spread` each element of a list has a line.
    """
    for text in head:
        yield from map(Line, comment(text))
    top = draft.parts.get(())
    if top is not None:
        told = [item for item in top.items if isinstance(item, Remark) and item.note is not None]
        told.sort(key=lambda item: (item.note.place.file, item.note.place.line) if item.note else ("", 0))
        yield from _part(Part((), None, [*told, *(item for item in top.items if item not in told)]), top, spread=spread)
    rank = {name: at for at, name in enumerate(_ORDER)}
    order: dict[tuple[str, ...], int] = {}
    for path in draft.parts:
        order.setdefault(path[:2], len(order))
    below = sorted(
        (part for part in draft.parts.values() if part.path), key=lambda p: (rank[p.path[0]], order[p.path[:2]])
    )
    for part in below:
        if part.items:
            yield Line("")
            yield Line(f"[{'.'.join(map(key_text, part.path))}]", part)
            yield from _part(part, part, spread=spread)


def _comments(items: Sequence[Setting | Remark]) -> Iterator[str]:
    """Yield the comments at the beginning of a list; neighbours with the same reason become one."""
    notes: list[Note] = []
    for item in items:
        note = item.note if isinstance(item, Remark) else None
        if notes and (
            note is None or (note.why, note.left, note.place.file) != (notes[0].why, notes[0].left, notes[0].place.file)
        ):
            yield _together(notes)
            notes = []
        if not isinstance(item, Remark):
            return
        if note is None:
            yield item.text
        else:
            notes.append(note)
    if notes:
        yield _together(notes)


def _together(notes: Sequence[Note]) -> str:
    first = notes[0]
    lines_ = ",".join(dict.fromkeys(str(note.place.line) for note in notes))
    what = ", ".join(note.what if len(notes) == 1 else note.what.partition(" ")[0] for note in notes)
    return f"{basename(first.place.file)}:{lines_}: {what}: {first.verdict}{first.why}"


def _part(part: Part, home: Part, *, spread: bool) -> Iterator[Line]:
    """Yield the lines of a table, which are those of `home` if the table is an ordered copy of it."""
    for at, item in enumerate(part.items):
        if isinstance(item, Remark):
            if at == 0 or isinstance(part.items[at - 1], Setting):
                for text in _comments(part.items[at:]):
                    yield from map(Line, comment(text))
            continue
        yield from _setting(item, home, spread=spread)


def _setting(item: Setting, home: Part, *, spread: bool) -> Iterator[Line]:
    key, value = key_text(item.key), item.value
    text = f"{key} = {inline(item.key, value)}"
    tables = isinstance(value, Rows) and any(isinstance(row.value, dict) for row in value)
    if not (isinstance(value, list) and value and (tables or spread or len(text) > _WIDTH)):
        yield Line(text, home, item)
        return
    yield Line(f"{key} = [", home, item)
    for each in value:
        yield Line(f"  {inline('', each.value if isinstance(each, Row) else each)},", home, item, each)
    yield Line("]", home, item)


def settle(draft: Draft, ledger: Ledger, judge: Judge, head: Iterable[str] = ()) -> str:
    """Return the text of the draft without everything in which the judge finds an error, each with a note why.

    The rules for values that depend on each other are those of `check` alone, so they are asked, not repeated here.
    """
    head = list(head)
    for _ in range(_ROUNDS):
        found = list(lines(draft, head, spread=True))
        judged = judge("\n".join(line.text for line in found) + "\n")
        wrong = {item.line: item for item in reversed(judged) if item.severity == "error"}
        if not wrong:
            return "\n".join(line.text for line in lines(draft, head)) + "\n"
        taken = False
        for number, error in wrong.items():
            if number <= len(found) and found[number - 1].part is not None:
                taken = _take_out(draft, ledger, found[number - 1], error) or taken
        if not taken:
            break
    return ""


def _take_out(draft: Draft, ledger: Ledger, line: Line, error: Diagnostic) -> bool:
    """Remove what stands on a line: an element, a key, or a whole table; return False if it is gone already."""
    part, setting, element = line.part, line.setting, line.element
    if part is None or draft.parts.get(part.path) is not part:
        return False
    own = element.place if isinstance(element, Row) else None
    place = own or (setting and setting.place) or part.place or Place(error.file, error.line)
    if setting is not None and element is not MISSING:
        if setting not in part.items or element not in setting.value:
            return False
        setting.value = type(setting.value)(each for each in setting.value if each is not element)
        what = inline("", element.value if isinstance(element, Row) else element)
        if not setting.value:
            part.drop(setting.key)
    elif setting is not None:
        if setting not in part.items:
            return False
        part.drop(setting.key)
        what = f"{setting.key} = {inline(setting.key, setting.value)}"
    else:
        for path in [path for path in draft.parts if path[: len(part.path)] == part.path]:
            del draft.parts[path]
        what = f"[{'.'.join(map(key_text, part.path))}]"
    note = Note(place, what if len(what) <= _WIDTH else f"{what[: _WIDTH - 1]}…", error.text, left=True)
    ledger.lost(note)
    home = draft.parts.get(part.path) or draft.part()
    home.remark(note)
    return True
