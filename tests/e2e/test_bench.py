"""The benchmarks run: all systems at once on their bed, and the same works between two hosts."""

import os
import subprocess
import sys
from pathlib import Path

from bench.results import Result
from bench.site import bench_bed
from tests.e2e.process import program, until

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


def test_compare_asks_every_system_in_each_round(tmp_path):
    """A comparison of DNS has figures of every system in each round, none of them failed, and names what it measured."""
    for name in ("dnsperf", "nsd", "dnsdist"):
        program(name)  # else this test is skipped
    file = tmp_path / "result.json"
    argv = [sys.executable, "-m", "bench", "compare", "dns", "--peers", "dnsdist,nat,none", "--rounds", "2"]
    argv += ["--seconds", "0.3", "--json", str(file), "--note", "a test"]
    done = subprocess.run(
        argv, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = Result.read(file)
    (work,) = result.works
    kinds = [name.split()[0] for name in work.systems]
    assert kinds == ["steelyard", "dnsdist", "dnsdist", "NAT", "none"]
    assert (len(work.rounds), len(work.latencies)) == (2, 1)
    for one in work.rounds:
        for name, run in one.items():
            assert run.rate > 100, name
            assert run.failed == 0, name
            assert (run.own is None) == (name.split()[0] in {"NAT", "none"}), name
    assert all(0 < run.p50 <= run.p99 <= run.p999 for run in work.latencies[0].values())
    assert result.facts["note"] == "a test"
    assert "steelyard / peer" in done.stdout
    assert f"again: {result.facts['command']}" in done.stdout


def test_server_and_client_are_two_hosts():
    """`bench server` runs the servers of one host until SIGTERM, and `bench client` asks them from another."""
    with bench_bed() as bed:
        command = [sys.executable, "-m", "bench"]
        server = bed.spawn(
            "servers", [*command, "server", "10.0.0.11", "10.0.0.12", "--works", "dns,connect"], env=ENVIRONMENT
        )
        until(lambda: "ready" in server.output(), 30, "the servers")
        options = ["--works", "dns,connect", "--rounds", "1", "--seconds", "0.3"]
        asked = bed.spawn("client", [*command, "client", "one=10.0.0.11", "two=10.0.0.12", *options], env=ENVIRONMENT)
        assert asked.wait(60) == 0, asked.output()
        assert "one / peer" in asked.output()
        assert server.terminate(20) == 0, server.output()
        assert server.output().rstrip().endswith("ended")
