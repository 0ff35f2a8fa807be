"""Ratios of the subject to a peer, of the quiet pairs of runs: pure."""

from collections.abc import Callable

from bench.ratios import QUIET, ratios
from bench.results import WorkResult
from bench.tables import p99

Figure = Callable[[WorkResult, str], list[float]]  # takes the peer


def rate(work: WorkResult, peer: str) -> list[float]:
    """Return the ratios of rates."""
    return ratios(work.rounds, work.systems[0], peer, lambda run: run.rate, QUIET)


def own(work: WorkResult, peer: str) -> list[float]:
    """Return the ratios of processor time for each unit."""
    return ratios(work.rounds, work.systems[0], peer, lambda run: run.own, QUIET)


def machine(work: WorkResult, peer: str) -> list[float]:
    """Return the ratios of the whole machine's processor time for each unit."""
    return ratios(work.rounds, work.systems[0], peer, lambda run: run.machine, QUIET)


def slowest(work: WorkResult, peer: str) -> list[float]:
    """Return the ratios of the 99th percentiles of latency."""
    return ratios(work.latencies, work.systems[0], peer, p99, QUIET)
