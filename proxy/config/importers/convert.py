"""From the files of another program to the text of ours [pure]."""

from collections.abc import Sequence
from typing import Final

from proxy.config.importers import dnsdist, haproxy, keepalived
from proxy.config.importers.document import Judge, settle
from proxy.config.importers.keepalived_lines import Reader
from proxy.config.importers.ledger import Ledger

_FORMATS: Final = {"dnsdist": dnsdist.convert, "keepalived": keepalived.convert, "haproxy": haproxy.convert}


def convert(program: str, files: Sequence[tuple[str, str]], reader: Reader, judge: Judge) -> tuple[str, Ledger]:
    """Return the text of our file ("" if nothing is left that could run), and what became of each statement.

    `files` are names and texts; raises `UnreadableError` for a text that is not of that program's format.
    """
    ledger = Ledger()
    draft = _FORMATS[program](files, reader, ledger)
    names = ", ".join(name for name, _ in files)
    head = [
        f"Made by `steelyard import {program}` from {names}.",
        "Comments that begin with a file and a line say what is not carried over, and what differs.",
    ]
    return settle(draft, ledger, judge, head), ledger
