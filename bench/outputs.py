"""Reads what the clients of the bench print: pure.

Of runs for throughput the counts, of runs at a fixed rate the latency of every unit, in seconds.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass


class OutputError(ValueError):
    """A program printed something else than was expected; the message contains it."""


@dataclass(frozen=True)
class Sample:
    """The client's results: units of work done, the seconds they took, units that failed, units without an answer."""

    work: float
    seconds: float
    failed: int = 0
    lost: int = 0


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if not found:
        raise OutputError(f"no {pattern!r} in:\n{text[-4000:]}")
    return float(found[1])


def dnsperf(text: str, expected: Iterable[str] = ("NOERROR", "NXDOMAIN")) -> Sample:
    """Read the summary of dnsperf; answers with any other code than the expected ones have failed."""
    completed = int(_number(r"Queries completed:\s+(\d+)", text))
    codes = re.search(r"Response codes:\s+(.*)", text)
    counts = {code: int(count) for code, count in re.findall(r"(\w+) (\d+) \(", codes[1])} if codes else {}
    good = sum(counts.get(code, 0) for code in expected)
    return Sample(
        good,
        _number(r"Run time \(s\):\s+([\d.]+)", text),
        completed - good,
        int(_number(r"Queries lost:\s+(\d+)", text)),
    )


def dnsperf_latencies(text: str) -> list[float]:
    """Read the lines that `dnsperf -v` prints for each answer: `> NOERROR example.net A 0.000123`."""
    return [float(one) for one in re.findall(r"^> [A-Z0-9]+ \S+ \S+ ([\d.]+)$", text, re.MULTILINE)]


def h2load_latencies(log: str) -> list[float]:
    """Read the log of h2load: start in microseconds, status, microseconds until the end of the answer."""
    rows = (line.split("\t") for line in log.splitlines())
    return [int(row[2]) / 1e6 for row in rows if row[1].startswith("2")]


def h2load_failed(text: str) -> int:
    """Return how many requests of h2load had no good answer; those that the end of the run cut off do not count."""
    found = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    bad = re.search(r"status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if not found or not bad:
        raise OutputError(f"no summary of h2load in:\n{text[-4000:]}")
    return sum(map(int, (*found.groups(), *bad.groups())))


def iperf3(text: str) -> Sample:
    """Read iperf3's JSON: the octets that arrived."""
    try:
        received = json.loads(text)["end"]["sum_received"]
        return Sample(received["bytes"], received["seconds"])
    except (ValueError, LookupError) as error:
        raise OutputError(f"iperf3 printed:\n{text[-4000:]}") from error


def sysbench(text: str) -> Sample:
    """Read the summary of sysbench: queries, and errors that it ignored."""
    return Sample(
        _number(r"total:\s+(\d+)", text),
        _number(r"total time:\s+([\d.]+)s", text),
        int(_number(r"ignored errors:\s+(\d+)", text)),
    )


def sysbench_latencies(text: str) -> list[float]:
    """Read the histogram of sysbench: the value in milliseconds of a bucket, once for each transaction in it."""
    found = re.findall(r"^\s+([\d.]+) \|\**\s+(\d+)$", text, re.MULTILINE)
    return [float(value) / 1e3 for value, count in found for _ in range(int(count))]
