"""What is foretold of a client, as one worker sees it; that it comes true is tested end to end."""

from dataclasses import replace

from tests.proxy.relay.conftest import Relay


def foretold(relay: Relay) -> dict[str, float]:
    """The candidates of a client and their weights."""
    told = relay.call(lambda: relay.engine.foretell("s0", "127.0.0.1", 9, ""))
    return {one["name"]: one["weight"] for one in told["candidates"]}


def test_weights_are_the_configurations(relay) -> None:
    """A candidate's weight is the one of the file also where workers reckon in tenths; on the way to it, a part of it."""
    relay.service([("127.0.0.1", 1), ("127.0.0.1", 2)])
    plan = relay.services[0]
    backends = tuple(replace(one, weight=weight) for one, weight in zip(plan.backends, (10, 30), strict=True))
    relay.services[0] = replace(plan, backends=backends, weight_scale=10)
    relay.start()
    assert foretold(relay) == {"127.0.0.1:1": 1, "127.0.0.1:2": 3}
    relay.call(lambda: relay.engine.weigh([(0, 1, 3)]))
    assert foretold(relay) == {"127.0.0.1:1": 1, "127.0.0.1:2": 0.3}


def test_weights_that_are_not_scaled(relay) -> None:
    """Without a scale a weight is shown as it is, a whole number."""
    relay.service([("127.0.0.1", 1), ("127.0.0.1", 2)])
    relay.start()
    assert {str(weight) for weight in foretold(relay).values()} == {"1"}
