"""Every scheduler in a running daemon: how it shares twelve connections that stay open."""

from contextlib import ExitStack

import pytest

from proxy.balance.names import ALIASES, SCHEDULERS
from tests.e2e.loopback import QUICK, Backend, Node, connected, exchange, free_port, lift_loopback

HELD = 12
WEIGHTS = (2, 1, 1)
BY_WEIGHT = [3, 3, 6]
"""What each backend has, the least first, where loads follow the weights exactly."""


@pytest.fixture(scope="module")
def backends():
    three = [Backend() for _ in WEIGHTS]
    yield three
    for one in three:
        one.close()


@pytest.fixture(scope="module")
def ports(backends, tmp_path_factory):
    """One daemon with a service for each scheduler, by its shortest name; the port of each."""
    lift_loopback()
    short = {name: alias for alias, name in ALIASES.items()}
    rows = ", ".join(
        f'{{ name = "b{at}", address = "127.0.0.1", port = {one.port}, weight = {weight} }}'
        for at, (one, weight) in enumerate(zip(backends, WEIGHTS, strict=True))
    )
    found = {name: free_port() for name in SCHEDULERS}
    services = "".join(
        f'[service.{name}]\nlisten = ["127.0.0.1:{port}/tcp"]\nscheduler = "{short.get(name, name)}"\n'
        f'hash-on = "{"listener" if name.startswith("destination") else "source"}"\n'
        f'backends = [{rows}]\nprobe = {{ type = "tcp", {QUICK} }}\n'
        for name, port in found.items()
    )
    node = Node(tmp_path_factory.mktemp("n"), services, workers=1)
    node.start()
    yield node, found
    node.end()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_twelve_connections_of_one_client(ports, scheduler):
    """Each scheduler serves under its name, and shares connections that stay open as documented."""
    node, found = ports
    with ExitStack() as held:
        for number in range(HELD):
            sock = held.enter_context(connected(found[scheduler]))
            assert exchange(sock, b"%d" % number) == b"%d" % number
        (service,) = [one for one in node.fresh()["services"] if one["name"] == scheduler]
    assert service["scheduler"] == scheduler
    shares = sorted(backend["active"] for backend in service["backends"])
    assert sum(shares) == HELD
    match scheduler:
        case "round-robin" | "least-connections" | "shortest-expected-delay" | "never-queue" | "overflow":
            assert shares == BY_WEIGHT
        case "source-hash" | "maglev" | "destination-hash":
            assert shares == [0, 0, HELD]
        case "failover":
            assert [backend["active"] for backend in service["backends"]] == [HELD, 0, 0]
        case "destination-affinity" | "destination-affinity-replicated":
            assert shares[-1] < HELD  # it moves, or spreads, where the load is too uneven
        case "random-two" | "least-latency":
            assert shares[-2] > 0
