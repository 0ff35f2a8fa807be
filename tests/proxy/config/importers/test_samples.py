"""The files that Debian's packages install, if they are installed: none is a traceback, and most of each is carried over."""

from pathlib import Path

import pytest

from tests.proxy.config.importers.bed import bring
from tests.proxy.config.importers.samples import shares, table

OTHERS = [
    ("haproxy", Path("/usr/share/doc/haproxy/examples"), "*.cfg"),
    ("haproxy", Path("/etc/haproxy"), "*.cfg"),
    ("dnsdist", Path("/usr/share/doc/dnsdist/examples"), "*.conf"),
    ("dnsdist", Path("/etc/dnsdist"), "*.conf"),
]


def test_most_of_keepaliveds_samples():
    """Nine tenths of the directives in keepalived's samples are carried over, and the table says which are not."""
    found = shares()
    if len(found) == 1:
        pytest.skip("keepalived's samples are not installed")
    whole = found[-1]
    assert whole.total > 500
    assert (whole.total - len(whole.left)) / whole.total >= 0.9
    lines = table(found)
    assert len(lines) == len(found) + 2
    assert "authentication" in lines[-1]


@pytest.mark.parametrize(("program", "folder", "pattern"), OTHERS)
def test_the_others(program, folder, pattern):
    """Every file that the packages of the others install is imported, whatever of it is left."""
    files = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if not files:
        pytest.skip(f"{folder} has no {pattern}")
    for path in files:
        bring(program, path.read_text())
