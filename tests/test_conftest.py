"""When an end-to-end test may skip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LACKING = '''
import pytest
from tests.e2e.process import MissingError

@pytest.mark.e2e
def test_that_lacks_a_server():
    """Never runs to its end."""
    raise MissingError("the server is not installed")
'''


@pytest.mark.parametrize(("ci", "code", "told"), [("", 0, "1 skipped"), ("true", 1, "which CI does not allow")])
def test_what_is_missing_skips_except_under_ci(tmp_path, ci, code, told):
    """A test that lacks a server skips and says so; under CI it fails."""
    (tmp_path / "test_lacking.py").write_text(LACKING)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "-rs",
        "--rootdir",
        ROOT,
    ]
    done = subprocess.run(
        [*command, "-c", ROOT / "pyproject.toml", tmp_path / "test_lacking.py"],
        cwd=ROOT,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert told in done.stdout
    assert "the server is not installed" in done.stdout
