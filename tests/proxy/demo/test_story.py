"""The demo as a newcomer runs it."""

import subprocess
import sys

import pytest


@pytest.mark.timeout(90)
def test_the_demo_loses_nothing_and_ends_by_itself() -> None:
    """T9, U7: the demo balances, kills servers and a worker of its own, loses nothing and ends within a minute."""
    run = subprocess.run(
        [sys.executable, "-m", "proxy", "demo"], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Nothing was lost." in run.stdout
    told = [line for line in run.stdout.splitlines() if line.strip().startswith(("queries:", "connections:"))]
    for line, names in zip(told, (("ns1", "ns2"), ("app1", "app2")), strict=True):
        counts = {name: int(line.split(f"{name} ")[1].split()[0].strip(",;")) for name in names}
        assert min(counts.values()) > sum(counts.values()) / 10, line
    assert "is killed" in run.stdout
    assert "died, killed by SIGKILL" in run.stdout
