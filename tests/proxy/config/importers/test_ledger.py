"""Every statement has an outcome, and what is not carried over has a note."""

from proxy.config.importers.draft import Note, Part
from proxy.config.importers.ledger import Ledger, LeftError, Statement
from proxy.config.importers.lexer import Place, Token


def said(*words, line=1, block=None):
    """Return a statement."""
    return Statement(tuple(Token("word", word, Place("f", line, at)) for at, word in enumerate(words, 1)), block)


def test_each_way_of_a_statement():
    """A handler carries a statement over or refuses it; others are always so, left out, or unknown with a suggestion."""
    ledger, part = Ledger(), Part(("service", "a"))

    def refuse(statement):
        raise LeftError(f"not {statement.args[0]}")

    block = [
        said("one"),
        said("two", "x", line=2),
        said("three", line=3),
        said("four", line=4),
        said("wone", line=5),
        said("???", line=6),
    ]
    ledger.read(block, {"one": lambda _: None, "two": refuse}, part=part, always={"three"}, left={"four": "no need"})
    assert [str(note) for note in ledger.notes] == [
        "f:2: two x: not carried over: not x",
        "f:4: four: not carried over: no need",
        'f:5: wone: not carried over: unknown word: did you mean "one"?',
        "f:6: ???: not carried over: unknown word",
    ]
    assert ledger.counts() == {"carried": 2, "changed": 0, "left": 4}
    assert [item.note for item in part.items] == ledger.notes


def test_a_block_that_is_left_out_counts_whole():
    """With a statement everything in its block is left out, with one note; a worse outcome stays."""
    ledger = Ledger()
    inner = (said("a", line=2), said("b", line=3))
    ledger.carried(inner[0])
    ledger.left(said("outer", block=inner), "why")
    ledger.carried(inner[1])
    assert ledger.counts() == {"carried": 0, "changed": 0, "left": 3}
    assert len(ledger.notes) == 1


def test_notes_show_no_password():
    """A statement that may contain a password is shown without its words (S7), and no note breaks a line."""
    ledger = Ledger()
    ledger.left(said("auth_pass", "hunter2"), "why")
    ledger.left(said("x", "a\nb\x1b[2J", line=2), "why")
    assert "hunter2" not in str(ledger.notes[0])
    assert str(ledger.notes[1]).isprintable()


def test_notes_are_in_the_order_of_the_file():
    """Notes are listed by file and line, whatever order they were found in."""
    ledger = Ledger()
    for line in (3, 1, 2):
        ledger.changed(said("x", line=line), "why")
    assert [note.place.line for note in ledger.sorted()] == [1, 2, 3]


def test_what_is_taken_out_again_is_no_longer_carried():
    """A statement whose key is removed from the file afterwards counts as left out."""
    ledger = Ledger()
    ledger.carried(said("x"))
    ledger.lost(Note(Place("f", 1, 1), "x", "why", left=True))
    assert ledger.counts()["left"] == 1
