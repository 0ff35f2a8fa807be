"""What a run of pytest says of a change to the code, and what a change leaves behind."""

from pathlib import Path

import pytest

from tests import copies
from tests.breakages import __main__ as main
from tests.breakages.__main__ import judged
from tests.breakages.table import Breakage


@pytest.mark.parametrize(
    ("code", "said", "verdict"),
    [
        (0, "....\n4 passed in 0.12s\n", "passed"),
        (0, "....\n4 passed in 61.20s (0:01:01)\n", "passed"),
        (1, "F\nFAILED test_x.py::test_y\n1 failed, 2 passed in 0.12s\n", "failed"),
        (1, "FE\n1 failed, 1 error in 0.12s\n  + Exception Group Traceback\n", "failed"),
        (1, "E\nERROR test_x.py::test_y - 1 failed to start\n1 error in 0.12s\n", "error"),
        (1, ".E\n1 passed, 1 error in 0.12s\n", "error"),
        (2, "ERROR test_x.py - SyntaxError\n1 error in 0.12s\n", "error"),
        (4, "ERROR: not found: test_x.py::test_y\nno tests ran in 0.12s\n", "error"),
        (0, "s\n1 skipped in 0.12s\n", "error"),
        (0, ".s\n1 passed, 1 skipped in 0.12s\n", "error"),
        (-9, "", "error"),
    ],
)
def test_only_a_test_that_failed_counts(code: int, said: str, verdict: str):
    """A change is seen by a test that failed; what could not be collected, set up or run proves nothing."""
    assert judged(code, said) == verdict


def test_a_compiled_change_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A change of a compiled source is built, and undone with all that was made of it; what cannot be built says so."""
    source, made = tmp_path / "proxy/one.pyx", tmp_path / "build/cython/proxy/one.c"
    for path in (source, made):
        path.parent.mkdir(parents=True)
        path.write_text("return 1")

    def build(copy: Path, *_: object, **__: object) -> None:
        made.write_text((copy / "proxy/one.pyx").read_text())
        (copy / "build/cython/proxy/two.c").write_text("new")

    monkeypatch.setattr(copies, "build", build)
    before = {path: (path.read_text(), path.stat().st_mtime_ns) for path in (source, made)}
    row = Breakage("T1", "one is three", "proxy/one.pyx", "return 1", "return 3", [])
    with main.broken(tmp_path, row) as said:
        assert said == ""
        assert made.read_text() == "return 3"
    assert {path: (path.read_text(), path.stat().st_mtime_ns) for path in (source, made)} == before


def test_a_change_that_cannot_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What the compiler refuses is an error, with its words, rather than a change that the tests have noticed."""
    (tmp_path / "one.pyx").write_text("return 1")
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy/one.so").touch()
    monkeypatch.setattr(copies, "BUILD", ["-c", "print('no such type'); raise SystemExit(1)"])
    with main.broken(tmp_path, Breakage("T1", "", "one.pyx", "1", "3", [])) as said:
        assert "no such type" in said
