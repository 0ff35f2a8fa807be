"""Copies of the checkout: what is brought into them, and what is left out."""

import os
from pathlib import Path

import pytest

from tests import copies


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for name in ("proxy/a.py", "proxy/b.pyx", "proxy/b.so", "build/x.c", ".venv/y.py", "proxy/__pycache__/a.pyc"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def test_sources_alone_are_brought(checkout: Path, tmp_path: Path):
    """A copy has the sources with their times, and nothing that was made of them."""
    copies.bring(copy := tmp_path / "copy", checkout)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    assert [str(path.relative_to(copy)) for path in files] == ["proxy/a.py", "proxy/b.pyx"]
    assert all(path.stat().st_mtime_ns == (checkout / path.relative_to(copy)).stat().st_mtime_ns for path in files)


def test_a_second_time_only_changes_are_brought(checkout: Path, tmp_path: Path):
    """What has changed or is gone in the checkout is so in its copy; what was built there stays."""
    copies.bring(copy := tmp_path / "copy", checkout)
    (copy / "proxy/b.so").write_text("built")
    (checkout / "proxy/a.py").unlink()
    (checkout / "proxy/b.pyx").write_text("changed")
    os.utime(checkout / "proxy/b.pyx", (1, 1))
    copies.bring(copy, checkout)
    assert not (copy / "proxy/a.py").exists()
    assert (copy / "proxy/b.pyx").read_text() == "changed"
    assert (copy / "proxy/b.so").read_text() == "built"


def test_a_copy_imports_itself(tmp_path: Path):
    """Processes that would import the packages or the native modules of another checkout are refused."""
    module = copies.native(copies.ROOT)[0]
    to = tmp_path / module.relative_to(copies.ROOT)
    to.parent.mkdir(parents=True)
    to.touch()
    with pytest.raises(SystemExit, match="another checkout"):
        copies.check(tmp_path, os.environ | {"PYTHONPATH": str(copies.ROOT)})
