"""Tests of what tracked things do to the priorities."""

from proxy.config.model import Track, Vrrp
from proxy.pair.fitness import fitness


def router(name, *track):
    return Vrrp(name=name, interface="eth0", vrid=1, addresses=("192.0.2.10/24",), track=track)


def of(*track, services, probes=None):
    found = fitness([router("r", *track)], services, probes or {}, "")
    return found.parts["r"], found.faults["r"], "r" in found.known


def test_a_penalty_or_a_fault():
    """V11: a tracked service that cannot serve costs its penalty, and is a fault where no penalty is given."""
    services = {"dns": False, "ldap": True}
    assert of(Track(service="dns", penalty=60), services=services) == ({"service dns": -60}, [], True)
    assert of(Track(service="dns"), services=services) == ({}, ["service dns"], True)
    assert of(Track(service="ldap", penalty=60), services=services) == ({}, [], True)


def test_probes_are_tracked_too():
    """V11: so is a probe, by its name."""
    track = Track(probe="gateway", penalty=30)
    assert of(track, services={}, probes={"gateway": False}) == ({"probe gateway": -30}, [], True)
    assert of(track, services={}, probes={"gateway": True}) == ({}, [], True)


def test_any_service():
    """V11: "*" stands for every service, costs its penalty once however many fail, and names some of them."""
    track = Track(service="*", penalty=60)
    services = {"a": True, "b": False, "c": False, "d": False, "e": False}
    assert of(track, services=services) == ({"service b, c, d and 1 more": -60}, [], True)
    assert of(track, services=dict.fromkeys("abcde", True)) == ({}, [], True)


def test_what_is_not_known_yet():
    """V24: a router is known once all that it tracks has a first verdict, and until then nothing is held against it."""
    track = Track(service="*", penalty=60)
    assert of(track, services={"a": True, "b": None}) == ({}, [], False)
    assert of(Track(probe="gateway"), services={}) == ({}, [], False)
    assert of(Track(interface="eth1"), services={"a": None}) == ({}, [], True)
    assert of(Track(service="a", penalty=1), services={"a": True, "b": None}) == ({}, [], True)


def test_what_cannot_be_judged():
    """V11, V24: what our own fault keeps us from judging is known, costs its penalty, and without one all but the last 1."""
    services = {"dns": "unjudged", "ldap": True}
    penalty = {"service dns cannot be judged": -60}
    assert of(Track(service="dns", penalty=60), services=services) == (penalty, [], True)
    assert of(Track(service="*", penalty=60), services=services) == (penalty, [], True)
    assert of(Track(service="dns"), services=services) == ({"service dns cannot be judged": -254}, [], True)
    assert of(Track(service="*"), services=services | {"ldap": False}) == ({}, ["service ldap"], True)
    probe = Track(probe="gateway", penalty=5)
    assert of(probe, services={}, probes={"gateway": "unjudged"}) == ({"probe gateway cannot be judged": -5}, [], True)


def test_each_router_by_itself():
    """What one router tracks is nothing to another."""
    found = fitness([router("x", Track(service="a", penalty=5)), router("y")], {"a": False}, {}, "why")
    assert (found.parts, found.faults, found.known) == (
        {"x": {"service a": -5}, "y": {}},
        {"x": [], "y": []},
        ["x", "y"],
    )
    assert found.lost == "why"
