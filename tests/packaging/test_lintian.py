"""Debian's own judgement of the package."""

import os
import subprocess

import pytest

from tests.e2e.process import program


@pytest.mark.skipif("DEB" not in os.environ, reason="takes minutes: make deb-test")
@pytest.mark.skipif(os.environ.get("TREE", "/") != "/", reason="this host's lintian knows the rules of its own release")
@pytest.mark.timeout(900)
def test_lintian_has_nothing_to_say():
    """Lintian finds no error in the package, and warns of nothing that its overrides do not explain."""
    command = [program("lintian"), "--allow-root", "--fail-on", "error,warning", os.environ["DEB"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[:3000]
