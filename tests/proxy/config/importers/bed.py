"""What the tests of the importers share: a file in, the printed tables, the notes and the counts out."""

import re
import tomllib
from dataclasses import dataclass

from proxy.config import diagnose_text, unsupported
from proxy.config.importers.convert import convert


def judge(text):
    """Return what `steelyard check` says of a text."""
    config, found = diagnose_text(text)
    return [*found, *(unsupported(config) if config is not None else ())]


@dataclass(frozen=True)
class Imported:
    """A printed file and what was not carried over."""

    text: str
    tables: dict
    notes: list
    counts: dict

    def note(self, word):
        """Return the only note about a statement that begins with a word, else the only one that contains it."""
        found = [note for note in self.notes if re.search(rf":[0-9]+: {re.escape(word)}(?!\w)", note)]
        found = found or [note for note in self.notes if word in note]
        assert len(found) == 1, (word, self.notes)
        return found[0]


def bring(program, *texts, files=None):
    """Import texts as files a.conf, b.conf …; `files` are those that an include finds."""
    files = files or {}
    given = [(f"/etc/{name}.conf", text) for name, text in zip("abcdef", texts, strict=False)]
    text, ledger = convert(program, given, lambda pattern: files.get(pattern, []), judge)
    assert [str(item) for item in judge(text) if item.severity == "error"] == [] or text == ""
    return Imported(text, tomllib.loads(text), [str(note) for note in ledger.sorted()], ledger.counts())


def only(tables):
    """Return the only table of a section."""
    (found,) = tables.values()
    return found
