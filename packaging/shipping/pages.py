"""Writes what is generated from the program itself: its man pages and completions.  Runs in the program's environment."""

import datetime as dt
import gzip
from pathlib import Path

from shipping import ROOT
from shipping.completion import PLACES, script
from shipping.manpages import pages


def write(to: Path, version: str, when: float, root: Path = ROOT) -> None:
    """Write them below `to`, as they are to be below /.  `when` is the time of the sources."""
    date = dt.datetime.fromtimestamp(when, dt.UTC).date().isoformat()
    for name, text in pages(version, date, root).items():
        path = to / "usr/share/man" / f"man{name[-1]}" / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    for shell, place in PLACES.items():
        (to / place).parent.mkdir(parents=True, exist_ok=True)
        (to / place).write_text(script(shell))
