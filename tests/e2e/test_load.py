"""The load that other tests trust: it reaches its rate, and notices each kind of loss."""

import time

import pytest

from tests.e2e.bed import CLIENT, Bed, backend_address, site
from tests.e2e.load import Counts, Load, Rate, Tally, assert_lossless
from tests.e2e.servers import Nginx, Nsd

RATE = Rate(100, 200)
ADDRESS = backend_address(1)


@pytest.fixture
def served():
    """Start a web server and a name server that the client reaches without a balancer."""
    with site(backends=1) as bed:
        yield bed, Nsd(bed, "b1", [ADDRESS]), Nginx(bed, "b1", [ADDRESS])


def loaded(bed: Bed, act=lambda: None) -> Counts:
    """Return the counts of a load of two seconds, into which `act` comes."""
    load = Load(bed, "client", ADDRESS, RATE)
    act()
    time.sleep(2)
    return load.stop()


def test_a_load_that_is_answered(served):
    """Every connection and query to servers that work is answered, at the rate that was asked for."""
    counts = loaded(served[0])
    assert_lossless(counts, RATE)
    assert counts.queries.answered == counts.queries.sent
    assert counts.queries.sent == pytest.approx(RATE.queries * counts.seconds, rel=0.2)
    assert counts.connections.sent == pytest.approx(RATE.connections * counts.seconds, rel=0.2)


def test_closed_ports(served):
    """Connections and queries to closed ports are counted as refused."""
    bed, *servers = served
    counts = loaded(bed, lambda: [server.kill() for server in servers])
    assert counts.connections.refused > 100
    connections = counts.connections  # one that was in the server when it died is reset
    assert connections.refused + connections.answered + connections.reset == connections.sent
    assert counts.queries.refused > 0  # the kernel sends few ICMP errors a second
    assert counts.queries.refused + counts.queries.lost + counts.queries.answered == counts.queries.sent
    with pytest.raises(AssertionError):
        assert_lossless(counts, RATE)


def test_silent_servers(served):
    """What a stopped server never answers is counted as lost."""
    bed, *servers = served
    counts = loaded(bed, lambda: [server.stop() for server in servers])
    for tally in (counts.connections, counts.queries):
        assert tally.lost > 100
        assert tally.answered + tally.lost == tally.sent


def test_late_answers(served):
    """Answers of a server that was stopped for a second are counted as late, with the longest time."""
    bed, *servers = served

    def pause():
        for server in servers:
            server.stop()
        time.sleep(1.2)
        for server in servers:
            server.cont()

    counts = loaded(bed, pause)
    for tally in (counts.connections, counts.queries):
        assert tally.late > 5
        assert tally.failed == 0
        assert 1.0 < tally.slowest < 4
    assert counts.connections.resent == 0


def test_a_packet_that_nobody_took(served):
    """A connection whose first packet is lost is counted, although it is answered in the end."""
    bed, *_ = served

    def lose():
        bed.rule("b1", "input", "tcp flags & (syn | ack) == syn drop")
        time.sleep(0.3)
        bed.nft("b1", "flush ruleset")

    counts = loaded(bed, lose)
    assert counts.connections.failed == 0
    assert counts.connections.resent > 5
    with pytest.raises(AssertionError):
        assert_lossless(counts, RATE)


def test_cut_connections(served):
    """Connections whose answers are cut off by an RST are counted as reset."""
    bed, *_ = served
    rule = f"ip saddr {CLIENT} tcp dport 80 tcp flags & psh == psh reject with tcp reset"
    counts = loaded(bed, lambda: bed.rule("b1", "input", rule))
    assert counts.connections.reset > 100
    assert counts.queries.failed == 0


def test_wrong_answers(served):
    """Answers with other content are counted as wrong."""
    bed, names, _ = served
    names.kill()
    zone = names.dir / "zone"
    zone.write_text(
        zone.read_text().replace("h7.example.net. 300 IN A 192.0.2.8", "h7.example.net. 300 IN A 192.0.2.9")
    )
    names.start()
    counts = loaded(bed)
    assert counts.queries.wrong > 0
    assert counts.queries.answered + counts.queries.wrong == counts.queries.sent


def test_what_the_client_dropped_is_no_loss():
    """An answer that the kernel dropped at the client's own socket is not a loss of the daemon's; a further one is."""
    sent = Tally(sent=1000, answered=999, lost=1)
    fine = Counts(5.0, Tally(sent=500, answered=500), sent, dropped=1)
    assert_lossless(fine, RATE)
    with pytest.raises(AssertionError):
        assert_lossless(Counts(5.0, fine.connections, sent, dropped=0), RATE)
