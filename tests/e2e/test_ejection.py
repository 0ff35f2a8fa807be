"""A backend whose probes pass and whose clients get no answer, in a daemon with two workers."""

from pathlib import Path

from tests.e2e.loopback import Backend, Node, asker, dns_service, free_port, lift_loopback


def test_a_backend_that_only_probes_find_well(tmp_path: Path) -> None:
    """H12, H13: both workers leave it out and say why, although its probes pass; it returns by itself, once."""
    lift_loopback()
    backends = [Backend(), Backend()]
    port = free_port()
    extra = 'scheduler = "round-robin"\neject = { errors = 4, time = "3s" }'
    node = Node(tmp_path, dns_service(port, backends, extra)).start()
    try:
        with asker(port) as one:
            backends[1].hold = True
            one.ask(60)
            found = node.until(
                lambda status: status["services"][0]["backends"][1]["state"] == "down", "b1 to be ejected"
            )
            shown = found["services"][0]["backends"][1]
            assert shown["reason"].startswith("ejected for 3s: 4 failures of real traffic in a row (probes: ")
            assert shown["effective_weight"] == 0
            one.collect(5)
            before, probes = len(backends[1].queries), backends[1].probes
            for _ in range(10):
                one.ask(10)
                assert one.collect(5) == 0
            assert one.bad == []
            # Both workers have asked, and neither has asked this backend.
            assert len(backends[1].queries) == before
            backends[1].drop()
            node.until(lambda status: status["services"][0]["backends"][1]["state"] == "up", "b1 to come back")
            assert backends[1].probes > probes
            one.ask(60)
            assert one.collect(5) == 0
            assert len(backends[1].queries) > before
        assert node.told("dns/b1", "no longer ejected")
    finally:
        node.end()
        for backend in backends:
            backend.close()
