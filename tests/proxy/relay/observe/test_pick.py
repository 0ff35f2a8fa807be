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


def test_who_stands_by(relay) -> None:
    """T9: the candidates are those that serve, and with one of them the answer is certain; behind it stand the others, by tier."""
    relay.service([("127.0.0.1", port) for port in (1, 2, 3)])
    plan = relay.services[0]
    relay.services[0] = replace(plan, backends=(replace(plan.backends[0], tier=2), *plan.backends[1:]))
    relay.start()
    relay.verdict(("127.0.0.1", 1), "standby")
    relay.verdict(("127.0.0.1", 2), "standby")
    told = relay.call(lambda: relay.engine.foretell("s0", "127.0.0.1", 9, ""))
    assert (told["backend"], told["certain"]) == ("127.0.0.1:3", True)
    assert [one["name"] for one in told["candidates"]] == ["127.0.0.1:3"]
    assert [one["name"] for one in told["standbys"]] == ["127.0.0.1:2", "127.0.0.1:1"]
