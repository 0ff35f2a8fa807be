"""A backend that returns, in a daemon with two workers."""

import time
from pathlib import Path

from tests.e2e.loopback import Asker, Backend, Node, asker, dns_service, free_port, lift_loopback


def effective(node: Node, at: int) -> float:
    """Return a backend's weight in effect."""
    return float(node.status()["services"][0]["backends"][at]["effective_weight"])


def share(one: Asker, backends: list[Backend]) -> float:
    """Send 200 queries, and return the second backend's share."""
    before = [len(backend.queries) for backend in backends]
    for _ in range(20):
        one.ask(10)
        assert one.collect(5) == 0
    counts = [len(backend.queries) - count for backend, count in zip(backends, before, strict=True)]
    return counts[1] / sum(counts)


def test_a_returning_backend_ramps(tmp_path: Path) -> None:
    """T24: there is no ramp at the start; a backend that returns has a small share, which grows, and all workers agree."""
    lift_loopback()
    backends = [Backend(), Backend()]
    port = free_port()
    extra = 'scheduler = "round-robin"\nbackend-defaults = { slow-start = "9s" }'
    node = Node(tmp_path, dns_service(port, backends, extra)).start()
    try:
        with asker(port) as one:
            assert effective(node, 1) == 1
            assert 0.4 < share(one, backends) < 0.6
            backends[1].silent = True
            node.until(lambda status: status["services"][0]["backends"][1]["state"] == "down", "b1 to be down")
            backends[1].silent = False
            node.until(lambda status: status["services"][0]["backends"][1]["state"] == "up", "b1 to be up")
            began = time.monotonic()
            first, seen = share(one, backends), effective(node, 1)
            late = time.monotonic() - began > 2
            assert 0 < first < 0.35 or late
            assert 0.1 <= seen < 0.6 or late
            node.until(lambda status: status["services"][0]["backends"][1]["effective_weight"] == 1, "the ramp to end")
            assert 0.4 < share(one, backends) < 0.6
        assert node.told("dns/b1", "slow start")
    finally:
        node.end()
        for backend in backends:
            backend.close()
