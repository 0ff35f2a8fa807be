"""Short forms of the trials and fuzzers, on the modules as they are shipped; `make sanitize` has the long ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sanitize import faults, hostile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("libraries")


def run(folder: Path, *command: str) -> None:
    """Run one of the programs with failing calls; fails with its output."""
    env = os.environ | {"LD_PRELOAD": str(faults.compiled(folder)), "PYTHONMALLOC": "debug"}
    argv = [sys.executable, "-m", *command]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]


@pytest.mark.parametrize("protocol", ["dns", "udp", "one-way", "tcp"])
def test_each_call_fails_once(folder: Path, protocol: str):
    """S10: each system call fails in each way; no answer is wrong, all is counted, and afterwards all is served."""
    run(folder, "tests.sanitize.trials", protocol, "--brief", "--storms", "5")


def test_hostile_datagrams(folder: Path):
    """S10, U13, S9: hostile clients and backends, and calls that fail, harm nobody else; each datagram is counted."""
    library = hostile.compiled(folder)
    run(folder, "tests.sanitize.fuzz_datagrams", "--library", str(library), "--inputs", "300000", "--seed", "1")


def test_hostile_streams(folder: Path):
    """S10, S8: segments, FINs and RSTs in any order, and calls that fail: each stream is right, each end is counted."""
    run(folder, "tests.sanitize.fuzz_streams", "--connections", "1000", "--seed", "1")
