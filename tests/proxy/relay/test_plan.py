"""The orders of the master as they travel."""

import json
import math
from dataclasses import FrozenInstanceError

import pytest

from proxy.relay.plan import (
    BackendPlan,
    DnsPlan,
    Member,
    PersistencePlan,
    Plan,
    ServicePlan,
    TcpPlan,
    UdpPlan,
    from_tree,
    to_tree,
)
from proxy.stats.layout import Layout

PLAN = Plan(
    7,
    Layout(16, 64),
    1000,
    (
        ServicePlan(
            slot=3, name="ldap", protocol="plain", scheduler="least-connections", hash_on="source", on_down="reset",
            backends=(
                BackendPlan(9, "one", "192.0.2.1", None, 1),
                BackendPlan(10, "two", "2001:db8::2", 1389, 256, "up", "drain"),
            ),
            tcp=TcpPlan(3.0, math.inf, 30.0, math.inf, 30.0),
            udp=UdpPlan(math.inf, 65536, "evict-idle"),
            dns=DnsPlan(0.4, 4.5),
            persistence=PersistencePlan(math.inf, 24, 64),
        ),
        ServicePlan(
            slot=4, name="empty", protocol="dns", scheduler="maglev", hash_on="query-name", on_down="keep", backends=(),
            tcp=TcpPlan(3.0, 10.0, 30.0, 60.0, math.inf), udp=UdpPlan(0.5, 1, "drop-new"), dns=DnsPlan(0.4, 4.5),
        ),
    ),
)  # fmt: skip


def test_a_plan_comes_back_equal() -> None:
    """A plan that travelled as JSON is equal to the one that was sent, infinite times, absent ports and all."""
    assert from_tree(json.loads(json.dumps(to_tree(PLAN)))) == PLAN


def test_a_plan_of_another_version_is_refused() -> None:
    """A tree with a value missing or one too many raises instead of being filled up with guesses."""
    for spoil in ("generation", "services", "layout"):
        tree = to_tree(PLAN)
        del tree[spoil]
        with pytest.raises(KeyError):
            from_tree(tree)
    for part in ("backends", "tcp", "udp", "dns"):
        tree = json.loads(json.dumps(to_tree(PLAN)))
        changed = tree["services"][0][part]
        (changed[0] if part == "backends" else changed)["surprise"] = 1
        with pytest.raises(TypeError):
            from_tree(tree)


def test_a_plan_does_not_change() -> None:
    """A plan is frozen: only another plan changes a worker's services."""
    with pytest.raises(FrozenInstanceError):
        PLAN.services[0].backends[0].weight = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("member", "text"),
    [
        (Member(0, 1, 2, "udp", "192.0.2.10", 53), "192.0.2.10:53/udp"),
        (Member(0, 1, 2, "tcp", "2001:db8::10", 389), "[2001:db8::10]:389/tcp"),
        (Member(0, 0, 2, "udp", "::", 53), "[::]:53/udp"),
    ],
)
def test_a_member_is_named_as_the_configuration_writes_it(member, text) -> None:
    """A listener's text is address:port/transport, IPv6 in brackets."""
    assert member.text == text
