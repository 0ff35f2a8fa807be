"""A small result with known figures."""

from bench.results import Latency, Point, Result, Run, Unit, WorkResult

FACTS = {
    "date": "2026-01-02",
    "command": "python -m bench compare dns",
    "note": "",
    "processor": "A Processor",
    "processors": 2,
    "kernel": "6.1",
    "system": "Debian",
    "python": "3.11.2",
    "uvloop": "0.22",
    "steelyard": "0.1.0",
    "revision": "abc",
    "tools": {"dnsperf": "2.10.0"},
}


def run(rate, own=10e-6, failed=0, others=0.01):
    """Return a run of which a test sets what it compares."""
    return Run(rate, own, 30e-6, others, failed, lost=0)


def work():
    """Return a work of three rounds, of which the second is noisy."""
    return WorkResult(
        "dns",
        Unit("queries/s", "us/query"),
        [
            {"steelyard": run(50), "dnsdist 1.9": run(100), "none": run(200, own=None)},
            {"steelyard": run(30, others=0.3), "dnsdist 1.9": run(20), "none": run(100, own=None)},
            {"steelyard": run(40, failed=3), "dnsdist 1.9": run(50), "none": run(160, own=None)},
        ],
        rate=20.0,
        latencies=[
            {
                "steelyard": Latency(1e-3, 2e-3, 3e-3, 0.01, 0),
                "dnsdist 1.9": Latency(1e-3, 4e-3, 9e-3, 0.01, 0),
                "none": Latency(1e-4, 2e-4, 3e-4, 0.01, 0),
            }
        ],
        idle={"steelyard": 2048.0, "dnsdist 1.9": 4096.0},
        memory={"steelyard": 1048580.0},
        resting={"steelyard": 0.006},
    )


def compared():
    """Return the result of a comparison."""
    return Result("compare", dict(FACTS), [work()])


def scaled():
    """Return the result of `scale`."""
    points = [
        Point("backends", "plain", "dns", [1e-5, 2e-5], [1e-5, 2e-5], [0.0, 0.2]),
        Point("backends", "1000 backends", "dns", [2e-5, 3e-5], [1e-5, 2e-5], [0.0, 0.2]),
    ]
    return Result("scale", dict(FACTS), points=points)
