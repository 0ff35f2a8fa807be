"""Whole files of a realistic kind: the printed file and the notes, reviewed as a diff.

`GOLDEN=new pytest tests/proxy/config/importers/test_golden.py` writes them anew.
"""

import os
from pathlib import Path

import pytest

from proxy.config.importers.convert import convert
from tests.proxy.config.importers.bed import judge

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.name for path in GOLDEN.iterdir() if path.suffix in {".conf", ".cfg", ".yml"})


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file(name):
    """A file of many parts becomes the recorded one, which `check` accepts, with the recorded notes."""
    printed, ledger = convert(name.partition("-")[0], [(name, (GOLDEN / name).read_text())], lambda _: [], judge)
    assert [str(item) for item in judge(printed) if item.severity == "error"] == []
    found = {".toml": printed, ".notes": "".join(f"{note}\n" for note in ledger.sorted())}
    for suffix, text in found.items():
        path = GOLDEN / f"{name}{suffix}"
        if os.environ.get("GOLDEN") == "new":
            path.write_text(text)
        assert text == path.read_text()
    assert "s3cret" not in printed + found[".notes"]
