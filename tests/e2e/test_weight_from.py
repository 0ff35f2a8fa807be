"""Weights that follow a measured latency, in a daemon with two workers."""

import time
from pathlib import Path
from typing import Any

from tests.e2e.loopback import Asker, Backend, Node, asker, dns_service, free_port, lift_loopback
from tests.e2e.test_slow_start import effective, share


class Slow(Backend):
    """A DNS server that takes `delay` (s) for each answer."""

    def __init__(self) -> None:
        self.delay = 0.0
        super().__init__()

    def _answer(self, message: bytes, source: Any) -> None:
        time.sleep(self.delay)
        super()._answer(message, source)


def reason(node: Node, at: int) -> str:
    """Return what the status says of a backend."""
    return str(node.status()["services"][0]["backends"][at]["reason"])


def test_a_backend_that_is_slow_gets_less(tmp_path: Path) -> None:
    """A backend whose probes take long gets a small share of the queries, and the whole again when it is quick."""
    lift_loopback()
    backends: list[Backend] = [Backend(), Slow()]
    port = free_port()
    extra = 'scheduler = "round-robin"\nweight-from = "latency"\nfail-open = true'
    node = Node(tmp_path, dns_service(port, backends, extra)).start()
    one: Asker
    try:
        with asker(port) as one:
            assert 0.4 < share(one, backends) < 0.6
            backends[1].delay = 0.03  # type: ignore[attr-defined]
            node.until(lambda _: effective(node, 1) <= 0.4, "b1 to weigh less")
            assert "weight at " in reason(node, 1)
            assert "ms, the fastest has " in reason(node, 1)
            node.until(lambda _: effective(node, 1) <= 0.3, "b1 to weigh little")
            assert share(one, backends) < 0.35
            assert node.told("dns/b1", "weight at ")
            backends[1].delay = 0.0  # type: ignore[attr-defined]
            node.until(lambda _: effective(node, 1) == 1, "b1 to have its whole weight")
    finally:
        node.end()
        for backend in backends:
            backend.close()
