"""Statements of another program's file, and what became of each: carried over, changed or left out [pure]."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from proxy.config.diagnostics import did_you_mean
from proxy.config.importers.draft import Note, Part
from proxy.config.importers.lexer import Place, Token

Outcome = Literal["carried", "changed", "left"]

_RANK: Final[dict[Outcome, int]] = {"carried": 0, "changed": 1, "left": 2}
SECRET: Final = frozenset(("auth_pass", "key", "password", "setKey", "stats", "webserver", "setWebserverConfig"))
"""Statements that may contain a password: notes do not show what is behind them."""

_SHOWN: Final = 60
"""Characters of a statement that a note shows."""


class LeftError(Exception):
    """A statement is not carried over: the message says why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The words of a statement, and the statements in its block; None without a block."""

    words: tuple[Token, ...]
    block: "tuple[Statement, ...] | None" = None

    @property
    def name(self) -> str:
        """The first word."""
        return self.words[0].text

    @property
    def place(self) -> Place:
        """The place of the first word."""
        return self.words[0].place

    @property
    def args(self) -> list[str]:
        """The words after the first."""
        return [word.text for word in self.words[1:]]

    @property
    def text(self) -> str:
        """The words as a note shows them."""
        text = f"{self.name} …" if self.name in SECRET else " ".join(word.text for word in self.words)
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"

    @property
    def inner(self) -> "tuple[Statement, ...]":
        """The statements of the block, or none."""
        return self.block or ()

    def everything(self) -> "Iterator[Statement]":
        """Yield this statement and all those in it."""
        yield self
        for each in self.inner:
            yield from each.everything()


def first(statement: Statement) -> str:
    """Return the first argument."""
    if not statement.args or not statement.args[0]:
        raise LeftError("a value is missing")
    return statement.args[0]


Handler = Callable[[Statement], None]


@dataclass
class Ledger:
    """Collects the outcome of each statement, and the notes in the order of the file."""

    notes: list[Note] = field(default_factory=list)
    _outcomes: dict[tuple[Place, str], Outcome] = field(default_factory=dict)

    def outcome(self, statement: Statement, outcome: Outcome) -> None:
        """Record what became of a statement; of several outcomes the worst counts."""
        key = (statement.place, statement.name)
        if _RANK[outcome] >= _RANK[self._outcomes.get(key, "carried")]:
            self._outcomes[key] = outcome

    def carried(self, statement: Statement) -> None:
        """Record that a statement is in the printed file, or is always so."""
        self.outcome(statement, "carried")

    def left(self, statement: Statement, why: str, part: Part | None = None) -> None:
        """Record that a statement and its block are not in the printed file; the note stands in `part` too."""
        for each in statement.everything():
            self.outcome(each, "left")
        self._note(Note(statement.place, statement.text, why, left=True), part)

    def changed(self, statement: Statement, why: str, part: Part | None = None) -> None:
        """Record that a statement is carried over with a difference."""
        self.outcome(statement, "changed")
        self._note(Note(statement.place, statement.text, why, left=False), part)

    def remark(self, place: Place, what: str, why: str, part: Part | None = None) -> None:
        """Add a note that is about no statement."""
        self._note(Note(place, what[:_SHOWN], why, left=False), part)

    def _note(self, note: Note, part: Part | None) -> None:
        if note not in self.notes:
            self.notes.append(note)
        if part is not None:
            part.remark(note)

    def lost(self, note: Note) -> None:
        """Record that what stood at the place of a note was taken out of the file again."""
        self.notes.append(note)
        for key in self._outcomes:
            if key[0] == note.place:
                self._outcomes[key] = "left"

    def sorted(self) -> list[Note]:
        """Return the notes in the order of the files and their lines."""
        files = list(dict.fromkeys(note.place.file for note in self.notes))
        return sorted(self.notes, key=lambda note: (files.index(note.place.file), note.place.line))

    def outcomes(self) -> Iterator[tuple[Place, str, Outcome]]:
        """Yield the place, the first word and the outcome of each statement."""
        return ((place, name, outcome) for (place, name), outcome in self._outcomes.items())

    def counts(self) -> dict[Outcome, int]:
        """Return how many statements have each outcome."""
        found: dict[Outcome, int] = {"carried": 0, "changed": 0, "left": 0}
        for outcome in self._outcomes.values():
            found[outcome] += 1
        return found

    def read(
        self,
        block: Iterable[Statement],
        handlers: Mapping[str, Handler],
        *,
        part: Part | None = None,
        always: Collection[str] = (),
        left: Mapping[str, str] | None = None,
        elsewhere: Sequence[str] = (),
    ) -> None:
        """Read the statements of a block: each has a handler, is always so, is left out for a reason, or is unknown.

        A handler raises `LeftError` for a value that cannot be carried over.  `elsewhere` are words for suggestions only.
        """
        left = left or {}
        for statement in block:
            name = statement.name
            if name in handlers:
                self.try_to(handlers[name], statement, part)
            elif name in always:
                for each in statement.everything():
                    self.carried(each)
            elif name in left:
                self.left(statement, left[name], part)
            else:
                hint = did_you_mean(name, [*handlers, *always, *left, *elsewhere])
                self.left(statement, f"unknown word{': ' if hint else ''}{hint}", part)

    def try_to(self, handler: Handler, statement: Statement, part: Part | None = None) -> bool:
        """Call a handler, and record whether the statement is carried over."""
        try:
            handler(statement)
        except LeftError as why:
            self.left(statement, str(why), part)
            return False
        self.carried(statement)
        return True
