"""The table of breakages fits the code and the tests of today; what a row is refused for."""

from pathlib import Path

import pytest

from tests import behaviours
from tests.breakages.table import AREAS, CHANGES, Breakage, mistakes, rows

CODE = "def one():\n    return 1\n\n\ndef two():\n    return 2\n"
TESTS = '''
class TestOne:
    """T1: true."""
    def test_inside(self):
        """It is."""
def test_outside():
    """T2: true."""
'''
ROW = Breakage("T1", "one is three", "code.py", "return 1", "return 3", ["test_code.py::TestOne::test_inside[a::b]"])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text(CODE)
    (tmp_path / "test_code.py").write_text(TESTS)
    return tmp_path


def test_every_row_fits():
    """The text of each row is in its file once and makes a difference; each of its tests exists and names its behaviour."""
    assert [f"{row.id} {row.what}: {why}" for row in rows() for why in mistakes(row)] == []


def test_every_behaviour_is_broken():
    """Every behaviour of the relay, of the probes and of changes in place has a row."""
    broken = {row.id for row in rows()}
    wanted = [name for name in behaviours.BEHAVIOURS if name[0] in AREAS or name in CHANGES]
    assert [name for name in wanted if name not in broken] == []


def test_a_good_row(checkout: Path):
    """A row whose test is in a class that names the behaviour is accepted, a parameter of it too."""
    assert list(mistakes(ROW, checkout)) == []
    assert ROW.broken(CODE) == CODE.replace("return 1", "return 3")


def test_a_compiled_source(checkout: Path):
    """A source of Cython need not be Python's grammar; comments and empty lines make no difference there either."""
    source = "cdef int one() noexcept:\n    return 1\n"
    (checkout / "code.pyx").write_text(source)
    row = ROW._replace(file="code.pyx")
    assert list(mistakes(row, checkout)) == []
    assert row.broken(source) == source.replace("return 1", "return 3")
    (told,) = mistakes(row._replace(replace="return 1  # one\n"), checkout)
    assert "nothing changes" in told


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"find": "return", "replace": "yield"}, "2 times"),
        ({"find": "return 4"}, "0 times"),
        ({"replace": "return 1  # one"}, "nothing changes"),
        ({"replace": "return ("}, "never closed"),
        ({"file": "gone.py"}, "No such file"),
        ({"tests": []}, "no test is named"),
        ({"tests": ["test_code.py::test_outside"]}, "no test that names T1"),
        ({"tests": ["test_code.py::TestOne::test_gone"]}, "no test that names T1"),
        ({"tests": ["test_gone.py::test_outside"]}, "no test that names T1"),
    ],
)
def test_what_is_refused(checkout: Path, change: dict, why: str):
    """A row that does not fit, changes nothing, breaks the syntax or names other tests is told in words."""
    (told,) = mistakes(ROW._replace(**change), checkout)
    assert why in told
